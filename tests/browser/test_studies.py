"""The study page in a real browser: from a draft to the certificate of its destruction."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from linkage.governance import DestructionCertificate, opt_out_bytes, opt_out_context
from linkage.messages import BROKER, CUSTODIAN
from linkage.sealing import seal
from linkage.signed_study import SignedStudy
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import (
    STUDY,
    World,
    make_world,
    opened,
    packages,
    running,
    sign_for,
    wait_for,
)
from tests.browser.looking import person, services, window
from tests.people import PASSWORD

IN_TWELVE_DAYS = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=12)
_TERMS = f"""purpose = "To test with"
expires = {IN_TWELVE_DAYS}
release_to = ["enclave", "claims"]
"""
_COMMONS = """kind = "imaging"
title = "Imaging commons"
contributors = ["north-hospital", "south-hospital"]"""
AGREED = (
    STUDY.replace('purpose = "To test with"', _TERMS).replace('kind = "imaging"', _COMMONS)
    + """
[retention]
packages_days = 90

[[purpose]]
id = "lung-nodules"
title = "Outcomes of lung nodules found on chest CT"

[[purpose]]
id = "staffing"
title = "Planning of staff"
use = "commercial"

[[participation]]
party = "imaging"
purpose = "lung-nodules"
features = ["linkage", "questions", "deliveries"]

[[participation]]
party = "enclave"
purpose = "lung-nodules"
features = ["linkage", "releases", "questions", "deliveries", "second-looks"]

[[participation]]
party = "enclave"
purpose = "staffing"
features = ["linkage"]

[[participation]]
party = "claims"
purpose = "staffing"
features = ["linkage"]
"""
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("studies"))) as made:
        yield made


def beside(world: World, study_id: str, *, rehearsal: bool = True, text: str = STUDY) -> World:
    """Another study on the same broker; no rehearsal is a draft."""
    signed, identities = sign_for(world.home.public(), study_id, rehearsal=rehearsal, text=text)
    made = World(world.home, signed, identities, world.admin, url=world.url)
    known = signed.pin(CUSTODIAN).fingerprint
    asked = {} if rehearsal else {"custodian_fingerprint": known}
    made.actor("admin").post("/v1/studies", signed, **asked).raise_for_status()
    return made


def spoilt(made: World, party: str) -> Package:
    """A package that the worker puts into quarantine."""
    records = encoded(made.signed, party, range(60))
    records.pseudonyms[1] = records.pseudonyms[0]
    return pack(made.signed, made.identities[party], records)


def step(page: Page) -> Any:
    """The part with the viewer's next step."""
    return page.locator("section.next p").first


def download(page: Page, name: str) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=name).click()
    return waiting.value.path().read_bytes()


def test_a_draft_says_who_has_to_confirm_and_its_signed_file_is_there(
    chromium: Browser, world: World
) -> None:
    made = beside(world, "agreed-study", rehearsal=False, text=AGREED)
    admin = person(made, "draft-admin", "admin")
    steward = person(made, "draft-steward", "steward:STUDY:imaging")
    with window(chromium, world.url, admin) as seen:
        page = seen.go("/studies/agreed-study")
        expect(step(page)).to_contain_text("Three parties have not confirmed (imaging, enclave")
        expect(page.locator("[aria-current=step]")).to_contain_text("Draft")
        expect(page.get_by_text(re.compile("ends in 1[12] days", re.IGNORECASE))).to_be_visible()
        expect(page.get_by_role("cell", name="linkage, questions, deliveries")).to_be_visible()
        expect(page.get_by_text("Sealed packages: 90 days after")).to_be_visible()
        seen.look("study-draft")
        seen.printed("study-draft")
        signed = SignedStudy.model_validate_json(download(page, "Download the signed study"))
        assert signed == made.signed
    with window(chromium, world.url, steward) as seen:
        page = seen.go("/studies/agreed-study")
        expect(step(page)).to_have_text(re.compile("^Confirm the signed study for imaging"))
        expect(page.get_by_text("linkage-site confirm --site site.toml")).to_be_visible()
        expect(page.get_by_text("Close the study")).to_have_count(0)
        made.confirm("imaging")
        page.reload()
        expect(step(page)).to_contain_text("opens when enclave and claims have, too")
        made.confirm("enclave", "claims")
        page.reload()
        expect(page.locator("[aria-current=step]")).to_contain_text("Open")
        expect(step(page)).to_contain_text("(north-hospital and south-hospital); remind them.")


def test_each_party_is_seen_as_far_as_it_is_and_only_its_own_see_why(
    chromium: Browser, world: World
) -> None:
    made = beside(world, "uploads-study")
    sent = packages(made)
    made.upload(sent["imaging"])
    made.upload(spoilt(made, "enclave"))
    opened(made, "enclave")
    broker = services(world)
    broker.access.suspend("uploads-study", "claims", "key stolen")
    broker.database.close()
    readers = {
        "admin": person(made, "up-admin", "admin"),
        "enclave": person(made, "up-enclave", "operator:STUDY:enclave"),
        "imaging": person(made, "up-imaging", "steward:STUDY:imaging"),
        "claims": person(made, "up-claims", "steward:STUDY:claims"),
    }
    said = {
        "admin": "One dataset is in quarantine (enclave)",
        "enclave": "Version 1 of enclave cannot be linked",
        "imaging": "Nothing waits for imaging: its data are here.",
        "claims": "The access of claims is suspended",
    }
    for name, who in readers.items():
        with window(chromium, world.url, who) as seen:
            page = seen.go("/studies/uploads-study")
            expect(step(page)).to_contain_text(said[name])
            rows = {one: page.locator(".party", has_text=one) for one in sent}
            expect(rows["imaging"]).to_contain_text("uploaded")
            expect(rows["enclave"]).to_contain_text("in quarantine")
            expect(rows["claims"]).to_contain_text("access suspended")
            expect(rows["claims"]).not_to_contain_text("key stolen")
            # A count, and what is wrong with records, is for the party itself and the admin.
            knows = rows["imaging"].get_by_text("120 records")
            expect(knows).to_have_count(1 if name in ("admin", "imaging") else 0)
            why = rows["enclave"].get_by_text("occurs twice")
            expect(why).to_have_count(1 if name in ("admin", "enclave") else 0)
            seen.look(f"study-uploads-{name}")


def opted_out(made: World, party: str, held: range) -> None:
    """Send a party's first opt-out list, and wait until the worker has read it."""
    names = encoded(made.signed, party, held).pseudonyms
    sealed = seal(
        opt_out_bytes(names),
        sender=made.identities[party],
        recipient=made.signed.pin(BROKER),
        context=opt_out_context(made.study_id, party, 1, 1),
    )
    actor = made.actor(party)
    actor.put(f"{made.path}/opt-outs/1", sealed).raise_for_status()
    at = f"{made.path}/opt-outs"
    wait_for(lambda: actor.get(at).json()[0]["records"] is not None, 60)


def test_a_steward_sees_how_many_of_its_own_are_taken_out(chromium: Browser, world: World) -> None:
    made = beside(world, "opted-study")
    for package in packages(made).values():
        made.upload(package)
    made.run()
    opted_out(made, "claims", range(130, 142))
    made.withdraw("enclave").raise_for_status()
    said = {
        "admin": ("12 records opted out (list 1)", "All its data were taken back: version 1, 120"),
        "steward:STUDY:claims": ("12 records opted out (list 1); none of them was given out",),
        "steward:STUDY:enclave": ("None is opted out.", "version 1, 120 records"),
        "steward:STUDY:imaging": ("None is opted out.",),
        "operator:STUDY:claims": ("its own affair",),
        "researcher:STUDY": ("its own affair",),
    }
    for number, (role, wanted) in enumerate(said.items()):
        with window(chromium, world.url, person(made, f"out-{number}", role)) as seen:
            part = seen.go("/studies/opted-study").locator("section", has=seen.page.locator("#out"))
            for text in wanted:
                expect(part).to_contain_text(text)
            known = sum("12 records" in text for text in wanted)
            assert part.inner_text().count("12 records") == known, role
            if role in ("admin", "steward:STUDY:claims"):
                seen.look(f"study-taken-out-{number}")


def test_a_steward_of_contributors_is_told_no_count_of_theirs(
    chromium: Browser, world: World
) -> None:
    """Nor is the commons' own client; each contributor tells it, if it likes."""
    made = beside(world, "contributed-study", rehearsal=False, text=AGREED)
    steward = person(made, "out-commons", "steward:STUDY:imaging")
    answer = steward.client.get(f"{made.path}/taken-out")
    assert answer.json() == []
    with window(chromium, world.url, steward) as seen:
        page = seen.go("/studies/contributed-study")
        expect(page.get_by_text("How many a site took out is its own affair")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_study_is_closed_reopened_closed_and_destroyed(
    chromium: Browser, world: World, scripts: bool
) -> None:
    study_id = f"ended-study-{'with' if scripts else 'without'}-scripts"
    made = beside(world, study_id)
    for package in packages(made).values():
        made.upload(package)
    made.run()
    admin = person(made, f"end-admin-{scripts}".lower(), "admin")
    steward = person(made, f"end-steward-{scripts}".lower(), "steward:STUDY:claims")
    with window(chromium, world.url, admin, scripts=scripts) as seen:
        page = seen.go(f"/studies/{study_id}")
        expect(step(page)).to_contain_text("Nothing waits for you")
        close(page, study_id, scripts=scripts)
        expect(page.get_by_role("status")).to_contain_text("The study is closed")
        expect(page.locator("[aria-current=step]")).to_contain_text("Closed")
        page.get_by_role("button", name="Reopen the study").click()
        expect(page.locator("[aria-current=step]")).to_contain_text("Linking")
        close(page, study_id, scripts=scripts)
        if scripts:
            page.get_by_text("Destroy the study…").click()
            seen.look("study-closed")
            page.reload()
        order(page, study_id, "not the password", admin.recovery[0])
        expect(page.get_by_role("alert")).to_contain_text("Name, password or code is wrong")
        order(page, study_id, PASSWORD, admin.recovery.pop(0))
        expect(page.get_by_role("status")).to_contain_text("The destruction is ordered")
        if not scripts:
            wait_for(lambda: destroyed(made), 60)
            page.reload()
        expect(page.get_by_role("heading", name="Certificate of destruction")).to_be_visible(
            timeout=180_000
        )
        certificate = DestructionCertificate.model_validate_json(
            download(page, "Download the certificate")
        )
        certificate.check(made.signed)
        if scripts:
            seen.look("study-destroyed")
            seen.printed("study-destroyed")
    with window(chromium, world.url, steward, scripts=scripts) as seen:
        page = seen.go(f"/studies/{study_id}")
        expect(page.get_by_role("link", name="Download the certificate")).to_be_visible()
        expect(step(page)).to_contain_text("keep its certificate")


def close(page: Page, study_id: str, *, scripts: bool) -> None:
    """Close the study; where scripts run, not before its name is typed."""
    page.get_by_text("Close the study…").click()
    button = page.get_by_role("button", name="Close the study")
    if scripts:
        expect(button).to_be_disabled()
    page.get_by_label("To go on, type").fill(study_id)
    button.click()
    expect(page.get_by_role("status")).to_contain_text("The study is closed")


def order(page: Page, study_id: str, password: str, code: str) -> None:
    page.get_by_text("Destroy the study…").click()
    page.get_by_label("Your password").fill(password)
    page.get_by_label("A new code").fill(code)
    page.get_by_label("To go on, type").fill(study_id)
    page.get_by_role("button", name="Destroy the study").click()


def destroyed(made: World) -> bool:
    return made.actor("admin").get(f"{made.path}/destruction").status_code == 200


def test_nobody_but_the_admin_closes_or_destroys_and_a_slip_does_nothing(world: World) -> None:
    made = beside(world, "kept-study")
    steward = person(made, "kept-steward", "steward:STUDY:imaging")
    admin = person(made, "kept-admin", "admin")
    for verb in ("close", "reopen", "destruction"):
        at = f"/studies/kept-study/{verb}"
        fields = {"csrf": steward.csrf, "confirm": "kept-study"}
        assert steward.client.post(at, data=fields).status_code == 403
        fields = {"csrf": admin.csrf, "confirm": "kept-studi", "password": PASSWORD}
        fields["code"] = admin.recovery[0]
        answer = admin.client.post(at, data=fields)
        assert answer.status_code in (409, 422), verb
        assert "id was not given twice" in answer.text
    state = made.actor("admin").get(made.path).json()["state"]
    assert state == "open"
