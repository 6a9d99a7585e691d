"""A question from asking it to its counts, in browsers, with the agents of both sites at work."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from linkage.messages import QUESTION_COUNTS, READER
from linkage.sealing import Context, Identity, PublicIdentity, seal
from tests.broker_world import make_world, running
from tests.browser.looking import Window, person, window
from tests.cohort_world import CONDITION, Sites
from tests.people import Person

TITLE = "Chest CT in persons with the condition"


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("questions")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "asked", imaging=range(290), enclave=range(20, 310))
        made.write_site("imaging", 'portal = ["ines"]')
        made.write_site("enclave", 'questions = "auto"\nportal = ["ada", "emil"]')
        yield made
        made.close()


@pytest.fixture(scope="module")
def ada(sites: Sites) -> Person:
    return person(sites.world, "ada", "researcher:STUDY")


@pytest.fixture(scope="module")
def ines(sites: Sites) -> Person:
    return person(sites.world, "ines", "steward:STUDY:imaging")


def at(sites: Sites, path: str = "") -> str:
    return f"/studies/{sites.world.study_id}/questions{path}"


def fill(page: Page, title: str = TITLE) -> None:
    """Fill in the form as a researcher does."""
    page.get_by_label("Title").fill(title)
    page.get_by_label("Purpose").fill("Find out whether it can be seen.")
    page.get_by_label("Modality").fill("CT, MR")
    page.get_by_label("Body part").fill("chest")
    page.get_by_label("Concept numbers").fill(str(CONDITION))
    page.get_by_label("Concepts below them").select_option("no")


def test_nothing_is_asked_yet(chromium: Browser, sites: Sites, ada: Person, ines: Person) -> None:
    with window(chromium, sites.world.url, ada) as seen:
        page = seen.go(at(sites))
        expect(page.get_by_role("heading", name="No question yet")).to_be_visible()
        seen.look("questions-none")
    with window(chromium, sites.world.url, ines) as seen:
        page = seen.go(at(sites))
        expect(page.get_by_text("here for you to read and decide")).to_be_visible()
        expect(page.get_by_role("link", name="Ask a question")).to_have_count(0)
        page.goto(sites.world.url + at(sites, "/new"))
        expect(
            page.get_by_role("heading", name=re.compile("only a researcher", re.IGNORECASE))
        ).to_be_visible()


def test_a_question_is_asked_decided_and_counted(
    chromium: Browser, sites: Sites, ada: Person, ines: Person
) -> None:
    with (
        window(chromium, sites.world.url, ada) as hers,
        window(chromium, sites.world.url, ines) as steward,
    ):
        page = hers.go(at(sites))
        page.get_by_role("link", name="Ask a question").first.click()
        hers.look("question-new")
        page.get_by_label("Modality").fill("XR")
        expect(page.locator("#preview")).to_contain_text("is not a DICOM modality")
        expect(page.locator("#preview")).to_contain_text("Title: nothing yet")
        expect(page.locator("#preview .notice")).not_to_contain_text("cohort.title")
        fill(page)
        expect(page.locator("#preview")).to_contain_text("modality is CT or MR")
        expect(page.locator("#preview")).to_contain_text(f"has a condition {CONDITION}")
        hers.look("question-filled")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_text("on its way to the enclave's agent")).to_be_visible()
        expect(page.get_by_text("waits for the site's agent")).to_be_visible()
        hers.look("questions-on-the-way")
        sites.start("enclave")
        page.get_by_role("heading", name=TITLE).get_by_role("link").click(timeout=180_000)
        expect(page.locator("#live")).to_contain_text("imaging has to say yes", timeout=180_000)
        hers.look("question-asked")
        _decided(sites, steward)
        _counted(sites, page)
        told = page.locator("#counts").inner_text()
        assert "Opened in this browser" in told
        assert re.search(r"Persons who fit both halves\s+1\d\d", told)
        hers.look("question-counted")
        page.get_by_text("The same as tables").click()
        hers.look("question-counted-tables")
        hers.printed("question-counted")
        page.get_by_label("Answer 1").fill("The protocol is CT.")
        page.locator("#talk").get_by_role("button", name="Send").click()
        expect(page.locator("#talk")).to_contain_text("The protocol is CT.")
        expect(page.get_by_label("Answer 1")).to_have_count(0)
        steward.page.reload()
        expect(steward.page.locator("#talk")).to_contain_text("the researcher, to 1")
        expect(steward.page.locator("#counts")).to_contain_text("A copy is sealed to you")
        steward.look("question-steward-counted")
        _opens_nowhere_else(chromium, sites, ada, page.url)
    served = (sites.world.home.path / "serve.log").read_text()
    assert "Persons who fit" not in served


def _decided(sites: Sites, steward: Window) -> None:
    """The steward reads one page, asks back, and approves; the site's agent signs."""
    page = steward.go(at(sites))
    page.get_by_role("link", name=TITLE).click()
    expect(page.get_by_role("heading", name="What imaging is asked")).to_be_visible()
    expect(page.get_by_text("modality is CT or MR")).to_be_visible()
    assert str(CONDITION) not in page.content(), "the other half"
    steward.look("question-steward")
    page.get_by_label("Ask the researcher").fill(f"Why CT alone? {'x' * 300}")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("heading", name="Words on the way")).to_be_visible()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name="A decision on the way")).to_be_visible()
    expect(page.get_by_text("linkage-cohort approve question-")).to_be_visible()
    steward.look("question-steward-proposed")
    sites.start("imaging")
    expect(page.get_by_role("heading", name="A decision on the way")).to_have_count(
        0, timeout=180_000
    )
    expect(page.get_by_role("row", name="imaging")).to_contain_text("approved", timeout=180_000)
    expect(page.get_by_text("Revoke the approval…")).to_be_visible()
    expect(page.get_by_text("It is on its way")).to_have_count(0)
    expect(page.locator("#talk")).to_contain_text("Why CT alone?")


def _counted(sites: Sites, page: Page) -> None:
    """Wait until the page shows counts; say what the agents said, if it never does."""
    try:
        expect(page.locator("#counts svg.flow")).to_be_visible(timeout=300_000)
    except AssertionError as fault:
        fault.add_note("\n".join(sites.log(party) for party in ("imaging", "enclave")))
        raise


def _opens_nowhere_else(chromium: Browser, sites: Sites, ada: Person, url: str) -> None:
    """Another browser of hers has no key, and is told what to do."""
    with window(chromium, sites.world.url, ada) as other:
        other.page.goto(url)
        expect(other.page.locator("#counts")).to_contain_text("not in this browser")
    with window(chromium, sites.world.url, ada, scripts=False) as plain:
        plain.page.goto(url)
        expect(plain.page.locator("#counts")).to_contain_text("where none runs, nothing opens them")


def test_what_was_altered_or_is_of_another_question_does_not_open(
    chromium: Browser, sites: Sites, ada: Person
) -> None:
    """What Python sealed opens in the browser, in its own place only, and only unaltered."""
    enclave, stranger = sites.world.identities["enclave"], sites.world.identities["imaging"]
    study = sites.world.study_id
    with window(chromium, sites.world.url, ada) as seen:
        page = seen.go(at(sites))
        public = page.evaluate("import('/static/reading-key.js').then(m => m.makeKey({}))")
        reader = PublicIdentity(name="reader", kem="X25519", **public)
        context = Context(study, "enclave", READER, QUESTION_COUNTS, ("question-1",))
        sealed = seal(b'{"persons": 65}', sender=enclave, recipient=reader, context=context)
        signer = enclave.public().signing

        def opened(data: bytes, *, by: str = signer, question: str = "question-1") -> str:
            told: str = page.evaluate(
                """async ([data, sealing, by, question, study]) => {
                    const reading = await import('/static/reading-key.js');
                    const key = await reading.findKey(sealing);
                    const context = {study, sender: 'enclave', recipient: '0-reader',
                        purpose: 'question-counts', details: [question]};
                    try {
                        const found = await reading.open(
                            reading.fromBase64(data), key, by, context);
                        return new TextDecoder().decode(found);
                    } catch (fault) { return `refused: ${fault.message}`; }
                }""",
                [base64.b64encode(data).decode(), reader.sealing, by, question, study],
            )
            return told

        assert opened(sealed) == '{"persons": 65}'
        for place in (0, 10, 70, 110, len(sealed) - 1):
            altered = bytearray(sealed)
            altered[place] ^= 1
            assert opened(bytes(altered)).startswith("refused: They "), place
        assert "truncated" in opened(sealed[:90])
        assert "not signed by enclave" in opened(sealed, question="question-2")
        assert "not signed by enclave" in opened(sealed, by=stranger.public().signing)
        other = Identity.generate("reader", kem="X25519").public()
        to_other = seal(b"{}", sender=enclave, recipient=other, context=context)
        assert "do not open with this reading key" in opened(to_other)
        private = page.evaluate(
            """async (sealing) => {
                const key = await (await import('/static/reading-key.js')).findKey(sealing);
                const tried = [['pkcs8', key.seal], ['jwk', key.seal], ['pkcs8', key.sign]].map(
                    ([kind, pair]) => crypto.subtle.exportKey(kind, pair.privateKey));
                return (await Promise.allSettled(tried)).map((one) => one.status);
            }""",
            reader.sealing,
        )
        assert private == ["rejected"] * 3


def test_without_scripts_the_form_gives_a_file(
    chromium: Browser, sites: Sites, ada: Person
) -> None:
    with window(chromium, sites.world.url, ada, scripts=False) as seen:
        page = seen.go(at(sites, "/new"))
        fill(page)
        page.get_by_role("button", name="One more criterion").click()
        expect(page.get_by_role("group", name="Criterion 2")).to_be_visible()
        second = page.get_by_role("group", name="Criterion 2")
        second.get_by_label("Kind of record").select_option("measurement")
        second.get_by_label("Concept numbers").fill("C34.1")
        page.get_by_role("button", name="See what it comes to").click()
        expect(page.locator("#preview")).to_contain_text("is no concept id")
        page.get_by_role("button", name="Remove criterion 2").click()
        expect(page.locator("#preview")).to_contain_text("body part is CHEST")
        page.get_by_text("The same as a file").click()
        assert "modality" in page.locator("#preview code").last.inner_text()
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("no reading key: a script makes it")
        expect(page.get_by_label("Title")).to_have_value(TITLE)


def test_a_long_specification_is_taken_and_what_the_agent_refuses_is_mended(
    chromium: Browser, sites: Sites, ada: Person
) -> None:
    """A file of 60 KiB; and a use that the enclave's terms do not allow, refused by its agent."""
    concepts = ", ".join(str(900_000_000 + n) for n in range(4_900))
    text = f"""
[cohort]
id = "long"
title = "A long list, commercial"
purpose = "To sell it."
use = "commercial"
[imaging]
any = true
[[clinical.concepts]]
domain = "condition"
concept_id = [{concepts}]
"""
    with window(chromium, sites.world.url, ada) as seen:
        page = seen.go(at(sites, "/new"))
        page.get_by_text("Use a file that you have instead").click()
        upload = FilePayload(name="cohort.toml", mimeType="text/plain", buffer=text.encode())
        page.get_by_label("Open a file").set_input_files(upload)
        expect(page.locator("#preview")).to_contain_text("any series at all")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator("#live")).to_contain_text(
            "do not allow commercial use", timeout=180_000
        )
        seen.look("questions-refused")
        page.get_by_role("link", name="Mend it and ask again").click()
        expect(page.get_by_label("Specification")).to_have_value(re.compile("A long list"))


def test_nobody_else_decides_and_a_denial_wants_the_name(
    chromium: Browser, sites: Sites, ada: Person, ines: Person
) -> None:
    with window(chromium, sites.world.url, ada) as seen:
        page = seen.go(at(sites))
        page.get_by_role("link", name=TITLE).click()
        path = page.url.removeprefix(sites.world.url)
        expect(page.get_by_role("heading", name="Decide for")).to_have_count(0)
    question_id = path.rpartition("/")[2]
    told = ada.client.post(
        f"{path}/decide",
        data={"csrf": ada.csrf, "decision": "deny", "confirm": question_id, "spec_hash": "0" * 64},
    )
    assert told.status_code == 409
    assert "act for no party" in told.text
    with window(chromium, sites.world.url, ines) as seen:
        page = seen.go(path)
        page.get_by_text("Revoke the approval…").click()
        button = page.get_by_role("button", name="Revoke the approval", exact=True)
        expect(button).to_be_disabled()
        page.get_by_label("To go on, type the name").fill(question_id)
        seen.look("question-revoke")
        button.click()
        expect(page.get_by_role("heading", name="A decision on the way")).to_be_visible()
        expect(page.locator(".bar").get_by_text("ended")).to_be_visible(timeout=180_000)
        expect(page.locator("#delivery")).to_contain_text("None is ordered, and none can be")
        expect(page.locator("#delivery .command")).to_have_count(0)
        seen.look("question-revoked")
    unnamed = ines.client.post(
        f"{path}/decide", data={"csrf": ines.csrf, "decision": "deny", "spec_hash": "0" * 64}
    )
    assert unnamed.status_code == 409
    assert "name that was typed" in unnamed.text
