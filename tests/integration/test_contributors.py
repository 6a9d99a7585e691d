"""
Two hospitals tokenize for one imaging commons, end to end: each its own keys and secret, case maps
through the real broker, IDs and a cohort at the commons.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from linkage.errors import NotAllowed, NotFound, PackageRefused
from linkage.evaluation.quality_files import read_truth
from linkage.messages import CASE_MAP
from sites import casemaps
from sites.crosswalk import fetch_ids
from sites.demo import prepare_demo
from sites.rehearsal import Actors, RehearsalPlan, Rehearsed, actors, link
from sites.rehearsed_cohort import RehearsedCohort, deliver_cohort
from sites.rehearsed_pairs import save_pairs
from sites.upload import submit_dataset
from tests.silent import Silent

PERSONS, IN_BOTH = 700, 60


@dataclass(frozen=True, slots=True)
class Played:
    """What was rehearsed; the actors still are in their rooms. copies: case of B -> case of A."""

    people: Actors
    rehearsed: Rehearsed
    cohort: RehearsedCohort
    copies: dict[str, str]
    of_a: set[str]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    out = tmp_path_factory.mktemp("contributors")
    demo = prepare_demo(out / "demo", PERSONS, 5)
    commons = demo.truth.parent
    copies, of_a = _split(commons)
    plan = RehearsalPlan(
        study_file=_with_contributors(commons),
        site_files=(*_hospitals(commons), *_others(commons)),
        out=out,
        keep=True,
    )
    with actors(plan, Silent()) as people:
        rehearsed = link(people)
        truth = read_truth(demo.truth, rehearsed.ids)
        cohort = deliver_cohort(people, rehearsed, demo.cohort, out, truth)
        yield Played(people, rehearsed, cohort, copies, of_a)


def _split(commons: Path) -> tuple[dict[str, str], set[str]]:
    """Share the imaging commons' cases among two hospitals; some patients went to both."""
    header, *rows = (commons / "imaging_pii.psv").read_text(encoding="utf-8").splitlines()
    at = header.split("|").index("RECORD_ID")
    half = len(rows) // 2
    copies = {}
    again = []
    for row in rows[:IN_BOTH]:
        values = row.split("|")
        copies[f"B-{values[at]}"] = values[at]
        values[at] = f"B-{values[at]}"
        again.append("|".join(values))
    for name, held in (("a", rows[:half]), ("b", [*rows[half:], *again])):
        text = "\n".join([header, *held]) + "\n"
        (commons / f"hospital-{name}.psv").write_text(text, encoding="utf-8")
    with (commons / "truth.csv").open(encoding="utf-8") as file:
        truth = list(csv.DictReader(file))
    column = next(name for name in truth[0] if any(row[name] in copies.values() for row in truth))
    person = {row[column]: row["truth_id"] for row in truth}
    with (commons / "truth.csv").open("a", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(truth[0]))
        for copy, case in copies.items():
            row = {"truth_id": person[case], column: copy}
            writer.writerow({**dict.fromkeys(truth[0], ""), **row})
    return copies, {row.split("|")[at] for row in rows[:half]}


def _with_contributors(commons: Path) -> Path:
    file = commons / "settings" / "study.toml"
    text = file.read_text(encoding="utf-8")
    named = 'id = "imaging"\ncontributors = ["hospital-a", "hospital-b"]\n'
    file.write_text(text.replace('id = "imaging"\n', named, 1), encoding="utf-8")
    return file


def _hospitals(commons: Path) -> Iterator[Path]:
    settings = (commons / "settings" / "imaging.toml").read_text(encoding="utf-8")
    own, index = settings.split("[imaging]")
    for name in ("hospital-a", "hospital-b"):
        mine = own.replace('party = "imaging"', f'party = "imaging"\ncontributor = "{name}"')
        mine = mine.replace("imaging_pii", name)
        (commons / "settings" / f"{name}.toml").write_text(mine, encoding="utf-8")
        yield commons / "settings" / f"{name}.toml"
    receives = f'party = "imaging"\n\n[imaging]{index}'
    (commons / "settings" / "imaging.toml").write_text(receives, encoding="utf-8")


def _others(commons: Path) -> Iterator[Path]:
    for party in ("imaging", "enclave", "claims"):
        yield commons / "settings" / f"{party}.toml"


def test_the_commons_gets_the_ids_of_both_hospitals_cases(played: Played) -> None:
    ids = played.rehearsed.ids["imaging"]
    assert played.of_a < set(ids)
    assert set(played.copies) < set(ids)
    same = sum(ids[copy] == ids[case] for copy, case in played.copies.items())
    assert same >= IN_BOTH - 2, "a person of both hospitals has one ID"
    assert len(set(ids.values())) >= len(ids) - IN_BOTH - 5, "and hardly anybody else shares one"
    assert set(played.rehearsed.tokenized) == {"hospital-a", "hospital-b", "enclave", "claims"}


def test_the_pairs_of_a_rehearsal_name_parties_and_their_records(
    played: Played, tmp_path: Path
) -> None:
    path, run_id = tmp_path / "new" / "pairs.csv", played.rehearsed.run.run_id
    save_pairs(played.people, run_id, path)
    assert path.stat().st_mode & 0o077 == 0
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ids = played.rehearsed.ids
    assert len(rows) > PERSONS // 2
    for row in rows:
        left, right = ids[row["left_party"]], ids[row["right_party"]]
        assert row["left_party"] != row["right_party"]  # nor two hospitals of one commons
        one, other, said = left[row["left_id"]], right[row["right_id"]], float(row["probability"])
        assert (one == other) <= (said > 0.01)
        assert (said > 0.99) <= (one == other)
    assert {row["left_party"] for row in rows} | {row["right_party"] for row in rows} == set(ids)
    with pytest.raises(PackageRefused, match="left no pairs"):
        save_pairs(played.people, "another-run", path)
    assert not list(path.parent.glob(".*"))


def test_the_links_are_right_across_hospitals_and_parties(played: Played) -> None:
    ids = played.rehearsed.ids
    shared = set(ids["imaging"].values()) & set(ids["enclave"].values())
    of_a = {one for case, one in ids["imaging"].items() if case in played.of_a}
    assert len(shared & of_a) > 20
    assert len(shared - of_a) > 20


def test_contributors_answer_second_looks_each_for_its_own_cases(played: Played) -> None:
    looks = played.rehearsed.looks
    assert {"hospital-a", "hospital-b"} <= set(looks)
    for hospital in ("hospital-a", "hospital-b"):
        assert looks[hospital].state == "answered", looks[hospital].said
        assert looks[hospital].entry is not None


def test_a_cohort_takes_images_of_both_hospitals(played: Played) -> None:
    traced = played.cohort.traced
    assert traced is not None
    assert traced.rows > 20
    assert traced.rows_right >= traced.rows - 2
    assert traced.rows_right >= 0.9 * traced.rows_true


def test_a_contributor_cannot_fetch_ids(played: Played) -> None:
    hospital = played.people.uploaders["hospital-a"]
    with pytest.raises(NotAllowed, match="receives nothing itself"):
        fetch_ids(hospital)
    # Nor by a client of its own: the broker shows it no inbox.
    with pytest.raises(NotAllowed, match="may not read its inbox"):
        hospital.broker.inbox(hospital.study_id)


def test_a_contributors_secret_and_key_are_its_own(played: Played) -> None:
    vaults = {name: one.vault for name, one in played.people.uploaders.items()}
    made = {
        name: vault.secret().pseudonyms("s", ["case-1"]).tobytes() for name, vault in vaults.items()
    }
    assert len(set(made.values())) == len(made)
    commons = played.people.sessions["imaging"].vault
    assert not commons.study_key_file.exists(), "who only receives needs no study key"
    before, after = (
        set(v.load_map(1).values()) for v in (vaults["hospital-a"], vaults["hospital-b"])
    )
    assert not before & after


def test_the_broker_holds_case_maps_but_no_case_id(played: Played) -> None:
    for path in played.people.broker.home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [one for one in played.copies if one.encode() in data], path.name


def test_sending_again_changes_nothing(played: Played) -> None:
    hospital, commons = played.people.uploaders["hospital-a"], played.people.sessions["imaging"]
    before = commons.broker.inbox(commons.study_id, purpose=CASE_MAP)
    assert submit_dataset(hospital, 1).state == "complete"
    (hospital.vault.folder / "kept" / "case-maps" / "sent-1").unlink()
    assert submit_dataset(hospital, 1).state == "complete", "even where it forgot that it had sent"
    assert commons.broker.inbox(commons.study_id, purpose=CASE_MAP) == before
    assert len(before) == 2


def test_what_was_received_is_kept_and_no_longer_asked_for(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    commons = played.people.sessions["imaging"]
    monkeypatch.setattr(commons.broker, "fetch", lambda *_: pytest.fail("fetched again"))
    assert len(casemaps.newest(commons)) == len(played.rehearsed.ids["imaging"])
    kept = commons.vault.folder / "kept" / "case-maps"
    # With digits behind: two bytes alone turn up by chance in what is encrypted.
    told = re.compile(rb"B-\w{3}")
    assert not any(told.search(path.read_bytes()) for path in kept.rglob("*") if path.is_file())


def test_a_map_that_did_not_arrive_is_named(played: Played) -> None:
    commons = played.people.sessions["imaging"]
    index = commons.vault.kept("case-maps/index")
    assert index is not None
    commons.vault.keep("case-maps/index", b"[]")
    real = commons.broker.inbox
    some = [one for one in real(commons.study_id, purpose=CASE_MAP) if one.sender == "hospital-a"]
    ((names, _),) = played.people.uploaders["hospital-b"].vault.map_chunks(1)
    try:
        commons.broker.inbox = lambda *_, **__: tuple(some)  # type: ignore[method-assign]
        with pytest.raises(NotFound, match="hospital-b") as caught:
            casemaps.covering(commons, names)
        assert "linkage-site submit" in caught.value.hint
        with pytest.raises(NotFound, match="no case map has come from: hospital-b"):
            casemaps.newest(commons)
    finally:
        del commons.broker.inbox  # type: ignore[method-assign]
        commons.vault.keep("case-maps/index", json.dumps(json.loads(index)).encode())


def test_two_contributors_with_one_case_id_are_refused() -> None:
    """Two patients of two hospitals under one number would be taken for one."""
    maps = {"hospital-a": {b"a" * 16: "7"}, "hospital-b": {b"b" * 16: "7", b"c" * 16: "8"}}
    with pytest.raises(PackageRefused, match="both use a case id") as caught:
        casemaps._merged(maps)
    assert "'7'" not in str(caught.value)
