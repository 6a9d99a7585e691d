"""One list in a month, whatever the data does; licences and a raised minimum cell count at once."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from linkage.errors import SiteRefused
from linkage.messages import CUSTODIAN
from linkage.sealing import Identity
from sites.offering import PERIOD_DAYS, Offer, prepare
from sites.session import session_of
from sites.vault import Vault
from tests.broker_world import STUDY, sign_for

DAY = 86_400
NOW = 1_800_000_000
BROKER = Identity.generate("broker", kem="X25519").public()


class Site:
    """An enclave's folder. Nobody is called: its broker is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.vault = folder, Vault(folder / "private")
        self.vault.folder.mkdir(parents=True, mode=0o700)
        self.identities: dict[str, Identity] = {}
        self.sign(11)
        self.people(range(1, 61))
        write(
            folder / "omop" / "concept.csv",
            "concept_id concept_name domain_id vocabulary_id standard_concept concept_code",
            [
                (7, "Cough", "Condition", "SNOMED", "S", "49727002"),
                (8, "Office visit", "Condition", "CPT4", "S", "99213"),
            ],
        )

    def sign(self, least: int) -> None:
        text = STUDY.replace("[study]", f"[study]\nminimum_cell = {least}", 1)
        signed, self.identities = sign_for(
            BROKER, "offering", rehearsal=False, text=text, identities=self.identities
        )
        if not self.vault.identity_file.exists():
            self.identities["enclave"].save(self.vault.identity_file)
        self.vault.signed_study_file.write_text(signed.model_dump_json())
        self.custodian = signed.pin(CUSTODIAN).fingerprint

    def people(self, persons: range) -> None:
        (self.folder / "omop").mkdir(exist_ok=True)
        write(
            self.folder / "omop" / "person.csv",
            "person_id gender_concept_id year_of_birth race_concept_id ethnicity_concept_id",
            [(p, 8532, 1950, 0, 0) for p in range(1, 100)],
        )
        write(
            self.folder / "omop" / "condition_occurrence.csv",
            "condition_occurrence_id person_id condition_concept_id condition_start_date"
            " condition_type_concept_id",
            [(f"{c}{p:03}", p, c, "2018-05-01", 32817) for c in (7, 8) for p in persons],
        )

    def offer(self, at: float, more: str = "", *, omop: bool = True) -> Offer:
        data = f'[omop]\npath = "{self.folder}/omop"\n{more}\n' if omop else ""
        site = self.folder / "site.toml"
        site.write_text(
            'party = "enclave"\n[broker]\nurl = "http://127.0.0.1:9"\n'
            f'custodian = "{self.custodian}"\n{data}'
        )
        with session_of(site) as session:
            return prepare(session, now=at)


def write(path: Path, header: str, rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        made = csv.writer(file)
        made.writerow(header.split())
        made.writerows(rows)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def ids(offer: Offer) -> list[int]:
    return [one.concept_id for one in offer.concepts]


def test_one_list_in_a_month(site: Site) -> None:
    first = site.offer(NOW)
    assert (ids(first), first.again, first.least) == ([7], False, 11)
    site.people(range(0))
    again = site.offer(NOW + PERIOD_DAYS * DAY - 1)
    assert (ids(again), again.again, again.made_at) == ([7], True, NOW)
    later = site.offer(NOW + PERIOD_DAYS * DAY)
    assert (ids(later), later.again) == ([], False)


def test_licences_count_at_once(site: Site) -> None:
    assert site.offer(NOW).left_out == {"CPT4": 1}
    both = site.offer(NOW + DAY, 'licensed = ["cpt4"]')
    assert (ids(both), both.again, both.left_out) == ([7, 8], True, {})
    assert ids(site.offer(NOW + 2 * DAY, 'not_offered = ["snomed"]')) == [], "CPT4 stays out"


def test_a_raised_minimum_cell_counts_at_once(site: Site) -> None:
    assert ids(site.offer(NOW)) == [7]
    site.sign(100)
    raised = site.offer(NOW + DAY)
    assert (ids(raised), raised.again, raised.least) == ([], False, 100)


def test_what_is_kept_is_encrypted_and_who_has_no_data_offers_nothing(site: Site) -> None:
    site.offer(NOW)
    kept = (site.vault.folder / "kept" / "offered").read_bytes()
    assert b"Cough" not in kept
    (site.vault.folder / "kept" / "offered").unlink()
    with pytest.raises(SiteRefused, match="nothing to offer"):
        site.offer(NOW, omop=False)
