"""Sites offer what questions may name; a researcher finds it by name, with scripts and without."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from linkage.messages import CUSTODIAN
from linkage.offered import Offered, OfferedConcept, digest_of, packed, to_lines
from sites.cohort.sample import CHEST_XRAY
from sites.vault import Vault
from tests.broker_world import World, make_world, running, sign_for
from tests.browser.looking import person, window
from tests.cohort_world import CONDITION, TWO_PARTIES, write_data
from tests.people import Person
from tests.programs import run

NAME = "Malignant tumor of lung"
RARE = "Hantavirus pulmonary syndrome"
VOCABULARY = (
    (CONDITION, NAME, "Condition", "SNOMED", "S", "363358000"),
    (4115276, RARE, "Condition", "SNOMED", "S", "120639003"),
    (CHEST_XRAY, "Plain chest X-ray", "Procedure", "SNOMED", "S", "399208008"),
    (2000000001, "Plain chest X-ray, CPT", "Procedure", "CPT4", "S", "71045"),
)


@dataclass(slots=True)
class Sites:
    """Two parties' folders beside a broker that holds their study. Nothing is linked here."""

    world: World
    folder: Path

    def site_file(self, party: str) -> Path:
        return self.folder / party / "site.toml"


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("concepts")
    with running(make_world(folder), worker=False) as world:
        world.signed, world.identities = sign_for(
            world.home.public(), "concepts", rehearsal=False, text=TWO_PARTIES
        )
        custodian = world.signed.pin(CUSTODIAN).fingerprint
        admin = world.actor("admin")
        admin.post("/v1/studies", world.signed, custodian_fingerprint=custodian).raise_for_status()
        world.confirm()
        write_data(folder, imaging=list(range(120)), enclave=list(range(20, 140)))
        _write_vocabulary(folder / "omop")
        made = Sites(world, folder)
        for party, data in (
            ("imaging", f'[imaging]\nfile = "{folder}/imaging_series.parquet"\n'),
            ("enclave", f'[omop]\npath = "{folder}/omop"\n'),
        ):
            vault = Vault(folder / party / "private")
            vault.folder.mkdir(parents=True, mode=0o700)
            world.identities[party].save(vault.identity_file)
            vault.signed_study_file.write_text(world.signed.model_dump_json())
            made.site_file(party).write_text(
                f'party = "{party}"\n[broker]\nurl = "{world.url}"\n'
                f'custodian = "{custodian}"\n{data}'
            )
        yield made


def _write_vocabulary(omop: Path) -> None:
    """Write names, and ten persons who have a rare disease."""
    with (omop / "concept.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            "concept_id concept_name domain_id vocabulary_id standard_concept concept_code".split()
        )
        rows.writerows(VOCABULARY)
    with (omop / "condition_occurrence.csv").open("a", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerows(
            (990_000 + p, p, 4115276, "2018-05-01", 32817, "", 0, "") for p in range(20, 30)
        )


@pytest.fixture(scope="module")
def ada(sites: Sites) -> Person:
    return person(sites.world, "ada", "researcher:STUDY")


def at(sites: Sites, path: str = "") -> str:
    return f"/studies/{sites.world.study_id}/questions{path}"


def offer(sites: Sites, party: str, *words: str) -> str:
    """Run the command as the party's operator does; return what it printed."""
    done = run("linkage-site", "offer-concepts", "--site", sites.site_file(party), *words)
    assert done.code == 0, done.err
    return done.out


def test_where_nobody_offers_a_page_says_whom_to_ask(
    chromium: Browser, sites: Sites, ada: Person
) -> None:
    with window(chromium, sites.world.url, ada) as seen:
        page = seen.go(at(sites, "/new"))
        expect(page.get_by_label("Find concepts")).to_have_count(0)
        page.get_by_text("What the sites offer to choose from").click()
        expect(page.get_by_text("enclave offers no concepts")).to_be_visible()
        expect(page.get_by_text("imaging offers no values")).to_be_visible()
        page.get_by_label("Concept numbers").fill(str(CONDITION))
        expect(page.locator("#preview")).to_contain_text(str(CONDITION))
        seen.look("concepts-none")


def test_what_would_be_offered_is_seen_first(sites: Sites) -> None:
    told = json.loads(offer(sites, "enclave", "--dry-run", "--json"))
    found = {(one["domain"], one["concept_id"]) for one in told["concepts"]}
    assert ("condition", CONDITION) in found
    assert ("condition", 4115276) not in found, "ten persons have it"
    assert all(one["vocabulary"] != "CPT4" for one in told["concepts"])
    assert "persons" not in told["concepts"][0]
    head = sites.world.actor("admin").get(f"{sites.world.path}/offered").raise_for_status()
    assert head.json() == [], "a dry run sends nothing"


def test_a_concept_is_found_by_name_and_added_by_keyboard(
    chromium: Browser, sites: Sites, ada: Person
) -> None:
    said = offer(sites, "enclave") + offer(sites, "imaging")
    assert "condition concepts" in said
    assert "modality values" in said
    assert "as before" in offer(sites, "enclave"), "another list within the month is the same"
    with window(chromium, sites.world.url, ada) as seen:
        page = seen.go(at(sites, "/new"))
        page.get_by_label("Title").fill("Lungs")
        page.get_by_label("Purpose").fill("Find out whether it can be seen.")
        page.get_by_label("Modality").fill("CT")
        page.get_by_label("Find concepts").press_sequentially("TUMÓR lu")
        row = page.get_by_role("list", name="Found for criterion 1").get_by_role("listitem")
        expect(row).to_contain_text(f"condition · SNOMED 363358000 · {CONDITION}")
        expect(row).to_contain_text("offered by enclave")
        expect(page.locator("#concept-news")).to_have_text("1 found.")
        seen.look("concepts-found")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("list", name="Chosen")).to_contain_text(NAME)
        expect(page.locator("#concept-news")).to_have_text(f"Added: {NAME}.")
        expect(page.get_by_label("Concept numbers")).to_have_value(str(CONDITION))
        expect(page.get_by_label("Find concepts")).to_be_focused()
        expect(page.locator("#preview")).to_contain_text(NAME)
        expect(page.get_by_label("Title")).to_have_value("Lungs")
        seen.look("concepts-added")
        _another_kind(page)
        _by_number(page)
        page.get_by_role("button", name="Take out 77").click()
        expect(page.get_by_role("list", name="Chosen")).not_to_contain_text("77")
        page.get_by_role("button", name="One more criterion").click()
        second = page.get_by_role("group", name="Criterion 2")
        second.get_by_label("Find concepts").fill("chest")
        second.get_by_role("button", name="Find", exact=True).click()  # scripts may not run yet
        second.get_by_role("button", name="Add Plain chest X-ray").click()
        expect(second.get_by_label("Kind of record")).to_have_value("procedure")


def _another_kind(page: Page) -> None:
    """A criterion is of one kind of record: once it names a condition, no procedure is found."""
    page.get_by_label("Find concepts").fill("chest")
    expect(page.get_by_text("Nothing that the sites offer fits")).to_be_visible()
    page.get_by_label("Find concepts").fill(RARE)
    expect(page.get_by_text("Nothing that the sites offer fits")).to_be_visible()


def _by_number(page: Page) -> None:
    """A number that no site offers may be asked for, and is shown as such."""
    page.get_by_label("Concept numbers").fill(f"{CONDITION}, 77")
    page.get_by_label("Concept numbers").press("Tab")
    expect(page.get_by_role("list", name="Chosen")).to_contain_text("no site offers it")


def test_without_scripts_the_same_buttons_keep_what_was_typed(
    chromium: Browser, sites: Sites, ada: Person
) -> None:
    with window(chromium, sites.world.url, ada, scripts=False) as seen:
        page = seen.go(at(sites, "/new"))
        page.get_by_label("Title").fill("Lungs")
        page.get_by_label("Purpose").fill("Find out whether it can be seen.")
        page.get_by_label("Body part").fill("chest")
        page.get_by_label("Find concepts").fill("lung tumor")
        page.get_by_label("Find concepts").press("Enter")
        expect(page.get_by_role("button", name=f"Add {NAME}")).to_be_visible()
        page.get_by_label("Find concepts").fill("chest")
        page.get_by_role("button", name="Find", exact=True).click()
        page.get_by_role("button", name="Add Plain chest X-ray").click()
        expect(page.get_by_role("list", name="Chosen")).to_contain_text("Plain chest X-ray")
        expect(page.get_by_label("Kind of record")).to_have_value("procedure")
        expect(page.get_by_label("Title")).to_have_value("Lungs")
        expect(page.get_by_label("Body part")).to_have_value("chest")
        expect(page.locator("#preview")).to_contain_text("Plain chest X-ray")
        page.get_by_role("button", name="Take out Plain chest X-ray").click()
        expect(page.get_by_label("Concept numbers")).to_have_value("")


def test_many_concepts_are_paged(chromium: Browser, sites: Sites, ada: Person) -> None:
    """A huge list, of a third party even: pages, and what to do where very many fit."""
    world = sites.world
    many = [
        OfferedConcept(
            concept_id=5_000 + n,
            domain="drug",
            name=f"{'very ' * (n % 9)}long-acting tablet of example {n} mg",
            vocabulary="RxNorm",
            code=str(n),
            standard="C" if n % 7 == 0 else "S",
        )
        for n in range(20_000)
    ]
    data = to_lines(many)
    head = Offered(
        study_id=world.study_id,
        party="imaging",
        made_at=2**31,
        least=11,
        concepts=len(many),
        digest=digest_of(data),
        values={"manufacturer": tuple(f"MAKER {n}" for n in range(300)), "modality": ("CT", "MR")},
    )
    refused = world.actor("imaging").put(
        f"{world.path}/offered", packed(head.sign(world.identities["imaging"]), data)
    )
    assert refused.status_code == 422, "of the future"
    newest = world.actor("imaging").get(f"{world.path}/offered").json()[1]["head"]["made_at"]
    head = head.model_copy(update={"made_at": newest + 1}).sign(world.identities["imaging"])
    world.actor("imaging").put(f"{world.path}/offered", packed(head, data)).raise_for_status()
    with window(chromium, world.url, ada) as seen:
        page = seen.go(at(sites, "/new"))
        page.get_by_label("Find concepts").fill("tablet")
        found = page.get_by_role("list", name="Found for criterion 1").get_by_role("listitem")
        expect(found).to_have_count(20)
        expect(page.get_by_text("Very many fit")).to_be_visible()
        first = found.first.inner_text()
        page.get_by_role("button", name="More", exact=True).click()
        expect(page.get_by_text("Page 2")).to_be_visible()
        assert found.first.inner_text() != first
        page.get_by_text("What the sites offer to choose from").click()
        page.get_by_text("Manufacturer (300)").click()
        seen.look("concepts-many")


def test_others_find_nothing_and_a_list_is_taken_back(
    chromium: Browser, sites: Sites, ada: Person
) -> None:
    world = sites.world
    reviewer = person(world, "rita", "reviewer:STUDY")
    assert (
        reviewer.call("GET", f"{world.path}/concepts", params={"words": "lung"}).status_code == 403
    )
    other, _ = sign_for(world.home.public(), "another-study", rehearsal=False, text=TWO_PARTIES)
    print_of = other.pin(CUSTODIAN).fingerprint
    admin = world.actor("admin")
    admin.post("/v1/studies", other, custodian_fingerprint=print_of).raise_for_status()
    stranger = person(world, "otto", "researcher:another-study")
    asked = stranger.call("GET", f"{world.path}/concepts", params={"words": "lung"})
    assert asked.status_code == 404
    assert "taken back" in offer(sites, "enclave", "--withdraw")
    with window(chromium, world.url, ada) as seen:
        page = seen.go(at(sites, "/new"))
        page.get_by_label("Find concepts").fill("lung")
        expect(page.get_by_text("Nothing that the sites offer fits")).to_be_visible()
