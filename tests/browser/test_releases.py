"""The releases page: asked for by the admin, decided by stewards, signed by their agents."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from broker.store import jobs
from broker.store.jobs import JobRow
from linkage.messages import CUSTODIAN
from linkage.release_messages import ReleaseConsent, ReleaseState
from tests.broker_world import STUDY, World, make_world, packages, running, sign_for, wait_for
from tests.browser.looking import person, services, window
from tests.proposing import says

AT = "/studies/shared-study/releases"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A real study whose IDs go to two parties, linked."""
    text = STUDY.replace('"To test with"', '"To test with"\nrelease_to = ["claims", "enclave"]')
    with running(make_world(tmp_path_factory.mktemp("releases"))) as base:
        signed, identities = sign_for(
            base.home.public(), "shared-study", rehearsal=False, text=text
        )
        made = World(base.home, signed, identities, base.admin, url=base.url)
        known = signed.pin(CUSTODIAN).fingerprint
        posted = made.actor("admin").post("/v1/studies", signed, custodian_fingerprint=known)
        posted.raise_for_status()
        made.confirm()
        for package in packages(made).values():
            made.upload(package)
        made.processes.extend(base.processes)
        assert made.run()["state"] == "done"
        yield made


def newest(made: World) -> ReleaseState:
    found = made.actor("admin").get(f"{made.path}/releases").json()
    return ReleaseState.model_validate(found[0])


def agent(made: World, party: str) -> None:
    """What the party's agent does with the one consent that waits for it."""
    actor = made.actor(party)
    waiting = actor.get(f"{made.path}/proposals", state="waiting").json()
    assert [one["kind"] for one in waiting] == ["consent"]
    one = waiting[0]["proposal_id"]
    at = f"{made.path}/proposals/{one}"
    actor.post(f"{at}/begin", says(actor, one, "begun")).raise_for_status()
    consent(made, party, waiting[0]["body"]["decision"])
    actor.post(f"{at}/settle", says(actor, one, "done")).raise_for_status()


def consent(made: World, party: str, decision: str) -> None:
    release = newest(made)
    said = ReleaseConsent.model_validate(
        {
            "study_id": made.study_id,
            "release_id": release.release_id,
            "terms_hash": release.terms.hash,
            "party": party,
            "decision": decision,
        }
    ).sign(made.identities[party])
    path = f"{made.path}/releases/{release.release_id}/consents"
    made.actor(party).post(path, said).raise_for_status()


def card(page: Page) -> str:
    return page.locator("section.release").first.inner_text()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_release_is_asked_for_consented_to_and_made(
    chromium: Browser, world: World, scripts: bool
) -> None:
    name = str(scripts).lower()
    admin = person(world, f"rel-admin-{name}", "admin")
    steward = person(world, f"rel-steward-{name}", "steward:STUDY:imaging")
    other = person(world, f"rel-other-{name}", "steward:STUDY:claims")
    with window(chromium, world.url, admin, scripts=scripts) as seen:
        page = seen.go(AT)
        if scripts:
            expect(page.get_by_role("heading", name="No release yet")).to_be_visible()
            seen.look("releases-empty")
        page.get_by_text("Make a release…").click()
        expect(page.get_by_label("claims")).to_be_checked()
        expect(page.get_by_label("imaging")).to_have_count(0)
        page.get_by_role("button", name="Ask for the release").click()
        expect(page.get_by_role("status")).to_contain_text("The release is asked for")
        expect(page.get_by_text("waits for consent")).to_be_visible()
        seen.go("/studies/shared-study")
        expect(page.locator("section.next")).to_contain_text("consent of imaging, enclave and")
    with window(chromium, world.url, steward, scripts=scripts) as seen:
        page = seen.go("/studies/shared-study")
        expect(page.locator("section.next")).to_contain_text("One release waits for imaging's")
        page.get_by_role("link", name="Decide").click()
        if scripts:
            seen.look("releases-to-decide")
        page.get_by_role("button", name="Consent for imaging").click()
        expect(page.get_by_role("status")).to_contain_text("on its way to your party's agent")
        expect(page.get_by_text("It counts once the agent of imaging has signed")).to_be_visible()
        page.get_by_role("button", name="Take it back").click()
        expect(page.get_by_role("status")).to_contain_text("taken back; nothing was decided")
        page.get_by_role("button", name="Consent for imaging").click()
        expect(page.get_by_role("status")).to_contain_text("on its way to your party's agent")
        if scripts:
            seen.look("releases-on-the-way")
        agent(world, "imaging")
        page.reload()
        expect(page.get_by_text("imaging has decided; the others follow")).to_be_visible()
        # An imaging commons learns nothing about matches, not even a class.
        assert "Links that are" not in card(page)
    consent(world, "enclave", "approve")
    with window(chromium, world.url, other, scripts=scripts) as seen:
        page = seen.go(AT)
        page.get_by_role("button", name="Consent for claims").click()
        expect(page.get_by_role("status")).to_contain_text("on its way to your party's agent")
        agent(world, "claims")
        wait_for(lambda: newest(world).state == "done", 60)
        page.reload()
        expect(page.locator("section.release").first).to_contain_text("the newest")
        expect(page.get_by_text("linkage-site ids").first).to_be_visible()
        if scripts:
            seen.look("releases-made")


def test_a_denial_wants_the_releases_name_and_ends_it(chromium: Browser, world: World) -> None:
    admin = person(world, "deny-admin", "admin")
    steward = person(world, "deny-steward", "steward:STUDY:claims")
    asked = {"csrf": admin.csrf, "audience": ["claims", "enclave"], "run": ""}
    assert admin.client.post(AT, data=asked).status_code == 303
    release = newest(world)
    with window(chromium, world.url, steward) as seen:
        page = seen.go(AT)
        page.get_by_text("Deny…").click()
        button = page.get_by_role("button", name="Deny for claims")
        expect(button).to_be_disabled()
        page.get_by_label("To go on, type the name of the release").fill(release.release_id)
        button.click()
        expect(page.get_by_text(re.compile("deny-steward of claims denies"))).to_be_visible()
        agent(world, "claims")
        page.reload()
        expect(page.get_by_text("not made")).to_be_visible()
        seen.look("releases-denied")


@pytest.mark.parametrize("scripts", [True, False])
def test_the_admin_cancels_a_release_that_waits_by_its_name(
    chromium: Browser, world: World, scripts: bool
) -> None:
    name = str(scripts).lower()
    admin = person(world, f"cancel-admin-{name}", "admin")
    steward = person(world, f"cancel-steward-{name}", "steward:STUDY:imaging")
    asked = {"csrf": admin.csrf, "audience": ["claims", "enclave"], "run": ""}
    assert admin.client.post(AT, data=asked).status_code == 303
    release = newest(world)
    at, said = f"{AT}/{release.release_id}/cancel", {"confirm": release.release_id}
    assert steward.client.post(at, data={**said, "csrf": steward.csrf}).status_code == 403
    with window(chromium, world.url, steward, scripts=scripts) as seen:
        assert seen.go(AT).get_by_text("Cancel this release").count() == 0
    with window(chromium, world.url, admin, scripts=scripts) as seen:
        page = seen.go(AT)
        page.get_by_text("Cancel this release…").click()
        field = page.get_by_label("To go on, type the name of the release")
        button = page.get_by_role("button", name="Cancel this release")
        if scripts:
            expect(button).to_be_disabled()
            seen.look("releases-cancel")
        else:
            field.fill("another")
            button.click()
            expect(page.get_by_role("alert")).to_contain_text("is not the release's")
            assert newest(world).state == "waiting"
            page.get_by_text("Cancel this release…").click()
        field.fill(release.release_id)
        button.click()
        expect(page.get_by_role("status")).to_contain_text("The release is cancelled")
        expect(page.locator("section.release").first).to_contain_text("not made")
        expect(page.locator("section.release").first).to_contain_text("Cancelled by the broker's")
    log = world.actor("admin").get("/v1/audit", limit=1000).json()
    ended = [e["actor"] for e in log if e["action"] == "release cancelled"]
    assert ended[-1] == f"person/{admin.name}"
    # A steward whose page is older than that is told so at once.
    late = {"csrf": steward.csrf, "terms": release.terms.hash, "decision": "approve"}
    told = steward.client.post(f"{AT}/{release.release_id}/decision", data=late)
    assert (told.status_code, "nothing is decided any more" in told.text) == (409, True)
    assert "Back to the page" in told.text


def test_who_is_no_steward_of_a_party_decides_nothing(world: World) -> None:
    admin = person(world, "no-admin", "admin")
    steward = person(world, "no-steward", "steward:STUDY:imaging")
    researcher = person(world, "no-researcher", "researcher:STUDY")
    asked = {"csrf": admin.csrf, "audience": ["claims", "enclave"], "run": ""}
    assert admin.client.post(AT, data=asked).status_code == 303
    release = newest(world)
    at = f"{AT}/{release.release_id}/decision"
    body = {"terms": release.terms.hash, "decision": "approve"}
    assert researcher.client.get(AT).status_code == 403
    assert steward.client.post(AT, data={**asked, "csrf": steward.csrf}).status_code == 403
    for who, status in ((admin, 403), (researcher, 409)):
        assert who.client.post(at, data={**body, "csrf": who.csrf}).status_code == status
    mine = {**body, "csrf": steward.csrf}
    for wrong in ({"terms": "0" * 64}, {"terms": "x"}, {"decision": "perhaps"}):
        assert steward.client.post(at, data=mine | wrong).status_code == 409, wrong
    assert steward.client.post(at, data=mine | {"decision": "deny"}).status_code == 409
    waiting = world.actor("imaging").get(f"{world.path}/proposals", state="waiting").json()
    assert waiting == []
    assert newest(world).state == "waiting"


def test_many_releases_come_by_pages(chromium: Browser, world: World) -> None:
    """The newest ten, then the others."""
    admin = person(world, "many-admin", "admin")
    broker, like = services(world), newest(world)
    with broker.database.change() as connection:
        for number in range(12):
            row = JobRow(
                id=f"release-{number:016x}",
                study_id=world.study_id,
                kind="release",
                run_id=like.terms.run_id,
                request='{"audience": ["claims", "enclave"]}',
                state="failed",
                failure="the agreement has ended",
                asked_at=like.asked_at - number - 1,
            )
            jobs.add(connection, row)
    broker.database.close()
    with window(chromium, world.url, admin) as seen:
        page = seen.go(AT)
        expect(page.locator("section.release")).to_have_count(10)
        expect(page.get_by_text("Page 1 of 2")).to_be_visible()
        seen.look("releases-many")
        page.get_by_role("link", name="Older").click()
        expect(page.get_by_text("Page 2 of 2")).to_be_visible()
