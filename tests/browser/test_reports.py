"""From a yes to counts to the report of the cohort, in browsers; agents look when they are told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from linkage.messages import COHORT_REPORT, READER
from linkage.proposal_messages import Ask
from linkage.sealing import Context, PublicIdentity, seal
from sites.questions import decide as by_command
from sites.sharing import share
from tests.broker_world import make_world, running
from tests.browser.looking import Window, person, window
from tests.cohort_world import Sites
from tests.people import Person
from tests.proposing import SPECIFICATION, now, propose, read, states

IMAGING = 'portal = ["ines"]\nportal_kinds = ["decide", "remark", "allow"]'
ENCLAVE = """questions = "auto"
cohorts = "cohorts"
portal = ["ada", "emil"]
portal_kinds = ["ask", "decide", "deliver"]"""
MORE = '\n[counts]\nvariables = ["sex", "age", "race", "ethnicity"]\n'
TEXT = SPECIFICATION.replace('modality = ["CT"]', "any = true").replace(
    "[[clinical", '[clinical.age]\nmin = 18\nat = "2020-01-01"\n\n[[clinical'
)
_UNDER_IT = """() => {
  const box = document.getElementById("changed"), own = box.getBoundingClientRect();
  return [...document.querySelectorAll("main *")]
    .filter((one) => one.checkVisibility() && !one.contains(box) && !box.contains(one))
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([, its]) => its.width && its.bottom > own.top + 1 && its.top < own.bottom - 1)
    .map(([one]) => one.outerHTML.slice(0, 80));
}"""


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("reports")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "reports", imaging=range(290), enclave=range(20, 310))
        made.write_site("imaging", IMAGING)
        made.write_site("enclave", ENCLAVE, MORE)
        yield made
        made.close()


@pytest.fixture(scope="module")
def ada(sites: Sites) -> Person:
    return person(sites.world, "ada", "researcher:STUDY")


@pytest.fixture(scope="module")
def ines(sites: Sites) -> Person:
    return person(sites.world, "ines", "steward:STUDY:imaging")


@pytest.fixture(scope="module")
def emil(sites: Sites) -> Person:
    return person(sites.world, "emil", "steward:STUDY:enclave")


@pytest.fixture(scope="module")
def hers(chromium: Browser, sites: Sites, ada: Person) -> Iterator[Window]:
    """Ada's window, which has her reading key."""
    with window(chromium, sites.world.url, ada) as seen:
        yield seen


@pytest.fixture(scope="module")
def question(sites: Sites, ada: Person, hers: Window) -> str:
    """Asked with a key of her browser, and prepared."""
    page = hers.go(f"/studies/{sites.world.study_id}/questions")
    signer = sites.world.identities["enclave"].public().signing
    about = {"study": sites.world.study_id, "enclave": "enclave", "enclaveSigning": signer}
    public = page.evaluate("(a) => import('/static/reading-key.js').then(m => m.makeKey(a))", about)
    reader = PublicIdentity(name="reader", kem="X25519", **public)
    made = propose(sites, ada, "enclave", Ask(specification=TEXT, reader=reader))
    told = states(sites, "enclave")
    asked = now(sites, made.proposal_id).result
    assert asked, told
    sites.world.finish(f"{sites.world.path}/jobs/{asked}")
    return asked


def at(sites: Sites, question: str) -> str:
    return f"/studies/{sites.world.study_id}/questions/{question}"


def looked(sites: Sites, party: str) -> None:
    """Let an agent look, until it has done something."""
    found = sites.look(party)
    assert "done" in [event.state for event in found], found


def test_counts_alone_are_allowed_and_what_is_typed_stays(
    chromium: Browser, sites: Sites, ines: Person, question: str
) -> None:
    with window(chromium, sites.world.url, ines) as seen:
        page = seen.go(at(sites, question))
        seen.look("question-allow")
        page.get_by_role("button", name="Allow counts alone").click()
        expect(page.get_by_role("heading", name="A yes to counts on the way")).to_be_visible()
        expect(page.locator("#live").get_by_text(f"linkage-site allow {question}")).to_be_visible()
        words = page.get_by_label("Ask the researcher")
        words.fill("Why all images, and not")
        told = states(sites, "imaging")
        assert f"done: allow {question}" in told.values()
        # What is on the way is drawn anew beside it, without loading the page.
        expect(page.get_by_role("heading", name="A yes to counts on the way")).to_have_count(
            0, timeout=180_000
        )
        expect(words).to_have_value("Why all images, and not")
        if not read(sites, question).answered:
            looked(sites, "imaging")
        looked(sites, "enclave")
        expect(page.locator("#changed")).to_contain_text("has changed since", timeout=180_000)
        expect(words).to_have_value("Why all images, and not")
        page.set_viewport_size({"width": 320, "height": 640})
        assert page.evaluate(_UNDER_IT) == []
        seen.look("question-changed")
        words.press_sequentially(" CT?")
        page.get_by_role("button", name="Load it anew").click()
        expect(page.locator("#counts")).to_contain_text("They are made, and sealed")
        expect(page.get_by_label("Ask the researcher")).to_have_value("Why all images, and not CT?")
        expect(page.get_by_role("button", name="Allow counts alone")).to_have_count(0)
        expect(page.locator("#changed")).to_be_empty()
        # Whoever types nothing has the page renewed, as before.
        page.get_by_label("Ask the researcher").fill("")
        page.evaluate("document.activeElement.blur()")
        with sites.session("imaging") as session:
            by_command(session, question, "approve")
        expect(page.get_by_text("Revoke the approval…")).to_be_visible(timeout=180_000)


def test_the_delivery_is_ordered_and_its_report_shared(
    chromium: Browser, sites: Sites, emil: Person, hers: Window, question: str
) -> None:
    with window(chromium, sites.world.url, emil) as seen:
        page = seen.go(at(sites, question))
        expect(page.get_by_role("button", name="Order the delivery")).to_have_count(0)
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("heading", name="A decision on the way")).to_be_visible()
        assert f"done: approve {question}" in states(sites, "enclave").values()
        # Nobody loads it anew: the page does that itself.
        expect(page.get_by_role("button", name="Order the delivery")).to_be_visible(timeout=180_000)
        expect(page.get_by_text("Order the delivery.", exact=True)).to_be_visible()
        seen.look("question-order")
        page.get_by_role("button", name="Order the delivery").click()
        expect(page.get_by_role("heading", name="An order on the way")).to_be_visible()
        assert f"done: deliver {question}" in states(sites, "enclave").values()
        delivery = read(sites, question).delivery_id
        assert delivery
        sites.world.finish(f"{sites.world.path}/jobs/{delivery}")
        looked(sites, "imaging")
        looked(sites, "enclave")
        page.reload()
        expect(page.locator("#report")).to_contain_text("has shared none")
        expect(page.locator("#report")).to_contain_text(f"share-report {question} --dry-run")
        seen.look("question-delivered")
        theirs = hers.go(at(sites, question))
        expect(theirs.locator("#report")).to_contain_text("data manager may")
        with sites.session("enclave") as session:
            report = share(session, question).report
        # Her page finds out by itself, and opens it.
        expect(theirs.locator("#report svg.flow")).to_be_visible(timeout=180_000)
        shown(theirs, report["persons"])
        hers.look("report")
        theirs.locator("#report").get_by_text("The same as tables").click()
        hers.look("report-tables")
        printed(hers)
        page.reload()
        expect(page.locator("#report")).to_contain_text("shared one with the researcher")


def shown(page: Page, persons: int) -> None:
    """Everything of the report is drawn, and with the number of the counts."""
    told = page.locator("#report").inner_text()
    assert re.search(rf"Persons delivered\s+{persons}", told)
    counted = re.compile(rf"persons who fit both halves\s*{persons}", re.IGNORECASE)
    expect(page.locator("#counts")).to_contain_text(counted)  # a script of its own opens them
    for words in ("enclave signed it", "Before you believe", "How like the population", "Modality"):
        assert words in told, told
    expect(page.locator("#report svg.distances")).to_be_visible()
    assert page.locator("#report [style]").count() == 0


def printed(seen: Window) -> None:
    """On paper the tables are open, and there is no button."""
    seen.page.emulate_media(media="print")
    seen.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    expect(seen.page.locator("#report").get_by_text("Distance by variable")).to_be_visible()
    expect(seen.page.locator("#report").get_by_role("button", name="Print")).to_be_hidden()
    seen.look("report-printed")
    seen.page.emulate_media(media="screen")


@pytest.mark.parametrize("size", ["few", "huge"])
def test_a_report_of_few_persons_and_one_of_very_much_can_be_read(
    sites: Sites, hers: Window, question: str, size: str
) -> None:
    """Sealed to her by the enclave's key, in the place of the one that it shared."""
    sealed = instead(sites, question, {"few": of_few, "huge": of_much}[size])
    hers.page.route("**/report", lambda route: route.fulfill(body=sealed))
    page = hers.go(at(sites, question))
    expect(page.locator("#report svg.flow")).to_be_visible()
    page.locator("#report").get_by_text("The same as tables").click()
    hers.look(f"report-{size}")
    hers.page.unroute("**/report")


def instead(sites: Sites, question: str, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return the report of a question with this change, sealed as the enclave seals it."""
    state = read(sites, question)
    subject = state.delivery_id or ""
    with sites.session("enclave") as session:
        report = dict(share(session, question).report)
        change(report)
        content = {
            "question_id": question,
            "delivery_id": subject,
            "run_id": state.run_id,
            "spec_hash": state.spec_hash,
            "report": report,
        }
        context = Context(session.study_id, "enclave", READER, COHORT_REPORT, (subject,))
        assert state.reader is not None
        return seal(
            json.dumps(content).encode(),
            sender=session.identity,
            recipient=state.reader,
            context=context,
        )


def of_few(report: dict[str, Any]) -> None:
    """Fewer persons than may be told: no table, no distance."""
    few = {"groups": None, "why_not": "too few persons for a table"}
    report["persons"] = "too few"
    report["flow"] = [report["flow"][-1] | {"persons": "too few"}]
    report["tables"] = [one | few for one in report["tables"]]
    gone = {"name": "sex", "note": "", "groups": [], "why_not": "the cohort's own table is hidden"}
    report["representativeness"] = report["representativeness"] | {"variables": [gone]}


def of_much(report: dict[str, Any]) -> None:
    """Two million persons, thirty criteria with long names, tables of forty groups."""
    long = "has a measurement of carcinoembryonic antigen in serum or plasma, above 5 ng/mL, or {}"
    report["persons"] = 2_345_678
    report["flow"] = [
        {"step": long.format(f"a descendant of concept {n}"), "persons": 9_876_543 - 250_000 * n}
        for n in range(30)
    ]
    groups = [
        {"group": f"A manufacturer whose name is long, model {n}", "persons": 1_000_000 // (n + 1)}
        for n in range(40)
    ]
    report["tables"] = [one | {"groups": groups, "why_not": ""} for one in report["tables"]]
    report["clinical"] = [long.format(f"concept {n}") for n in range(30)]


def test_it_opens_in_her_browser_alone_and_only_unaltered(
    chromium: Browser, sites: Sites, ada: Person, ines: Person, hers: Window, question: str
) -> None:
    path = at(sites, question)
    with window(chromium, sites.world.url, ada) as other:
        expect(other.go(path).locator("#report")).to_contain_text("not in this browser")
        assert other.complaints == []
    with window(chromium, sites.world.url, ada, scripts=False) as plain:
        expect(plain.go(path).locator("#report")).to_contain_text("where none runs, nothing opens")
    with window(chromium, sites.world.url, ines) as steward:
        page = steward.go(path)
        expect(page.locator("#report")).to_contain_text("this broker cannot read it")
        expect(page.locator("#report")).to_have_attribute("id", "report")
        assert page.locator("#report").get_attribute("data-reader") is None

    def altered(route: Route) -> None:
        answer = route.fetch()
        body = bytearray(answer.body())
        body[len(body) // 2] ^= 1
        route.fulfill(response=answer, body=bytes(body))

    hers.page.route("**/report", altered)
    page = hers.go(path)
    expect(page.locator("#report [role=alert]")).to_contain_text("not signed by enclave")
    expect(page.locator("#report svg")).to_have_count(0)

    def counts_instead(route: Route) -> None:
        url = route.request.url.removesuffix("/report") + "/counts"
        route.fulfill(response=route.fetch(url=url))

    hers.page.unroute("**/report")
    hers.page.route("**/report", counts_instead)
    page = hers.go(path)
    expect(page.locator("#report [role=alert]")).to_contain_text("not signed by enclave")
    hers.page.unroute("**/report")


def test_what_was_taken_back_is_given_out_no_more(
    sites: Sites, hers: Window, question: str
) -> None:
    page = hers.go(at(sites, question))
    expect(page.locator("#report svg.flow")).to_be_visible()
    with sites.session("imaging") as session:
        by_command(session, question, "revoke")
    expect(page.locator("#report")).to_contain_text("given out no more", timeout=180_000)
    expect(page.locator("#report")).to_contain_text("revoked by: imaging")
    expect(page.locator("#report svg")).to_have_count(0)
    hers.look("report-revoked")
    answer = page.evaluate(
        "(path) => fetch(path).then((answer) => answer.status)",
        f"{sites.world.path}/questions/{question}/report",
    )
    assert answer == 409


def test_nobody_else_orders_or_allows(sites: Sites, ada: Person, ines: Person) -> None:
    question = sites.ask(imaging={"modality": ["CT"]}, clinical={"any": True})
    path, digest = at(sites, question), read(sites, question).spec_hash
    for who, act, status in ((ada, "allow", 409), (ada, "deliver", 409), (ines, "deliver", 403)):
        told = who.client.post(f"{path}/{act}", data={"csrf": who.csrf, "spec_hash": digest})
        assert told.status_code == status, (act, told.text)
    told = ines.client.post(f"{path}/allow", data={"spec_hash": digest})
    assert told.status_code in (401, 403), "without its token no form counts"
