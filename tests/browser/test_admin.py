"""The broker's admin in a real browser: people, keys, retention, how the broker does."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from broker.person_roles import parse_role
from tests.broker_world import World, make_world, packages, running, wait_for
from tests.browser.looking import person, services, window
from tests.people import PASSWORD, Person, accept


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("admin"))
    with (made.home.path / "config.toml").open("a") as config:
        config.write("\n[retention]\npackages_days = 30\ninbox_days = 90\n")
    with running(made):
        yield made


def prove(page: Page, who: Person, form: str) -> None:
    """Type password and a new code into the form of a button."""
    inside = page.locator("form", has=page.get_by_role("button", name=form, exact=True))
    inside.get_by_label("Your password").fill(PASSWORD)
    inside.get_by_label("A new code").fill(who.recovery.pop(0))


def named(page: Page, verb: str, name: str) -> None:
    page.get_by_text(f"{verb}…", exact=True).click()
    page.get_by_label(re.compile("^To go on, type")).locator("visible=true").fill(name)


@pytest.mark.parametrize("scripts", [True, False])
def test_somebody_is_invited_gets_roles_is_disabled_enabled_and_reset(
    chromium: Browser, world: World, scripts: bool
) -> None:
    suffix = "a" if scripts else "b"
    admin = person(world, f"boss-{suffix}", "admin")
    name = f"grace-{suffix}"
    with window(chromium, world.url, admin, scripts=scripts) as seen:
        page = seen.go("/admin/people")
        page.get_by_role("link", name="Invite somebody").click()
        page.get_by_label("Study", exact=True).select_option("small-study")
        page.get_by_role("button", name="Show its roles").click()
        if scripts:
            seen.look("person-new")
        page.get_by_label("Name of the account").fill(name)
        page.get_by_label("Steward of imaging").check()
        prove(page, admin, "Make the invitation")
        page.get_by_role("button", name="Make the invitation").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"The invitation of {name}")
        expect(page.locator("code", has_text=f"{world.url}/invitation")).to_be_visible()
        code = page.locator(".command code").inner_text()
        if scripts:
            seen.look("invited")
        grace = accept(world.url, name, code)
        grace.sign_in().raise_for_status()
        assert grace.call("GET", "/v1/session").json()["roles"] == ["steward:small-study:imaging"]

        page.get_by_role("link", name="To the account").click()
        page.get_by_label("Study", exact=True).select_option("small-study")
        page.get_by_role("button", name="Show its roles").click()
        expect(page.get_by_label("Steward of imaging")).to_be_checked()
        page.get_by_label("Steward of imaging").uncheck()
        page.get_by_label("Researcher").check()
        prove(page, admin, "Set these roles")
        if scripts:
            seen.look("person")
        page.get_by_role("button", name="Set these roles").click()
        expect(page.get_by_role("status")).to_contain_text("The roles are changed")
        assert grace.call("GET", "/v1/session").json()["roles"] == ["researcher:small-study"]

        named(page, "Disable", name)
        prove(page, admin, "Disable")
        page.get_by_role("button", name="Disable", exact=True).click()
        expect(page.get_by_role("status")).to_contain_text("its sessions are over")
        assert grace.call("GET", "/v1/session").status_code == 401
        prove(page, admin, f"Let {name} in again")
        page.get_by_role("button", name=f"Let {name} in again").click()
        expect(page.get_by_role("status")).to_contain_text("let in again")
        grace.sign_in().raise_for_status()

        named(page, "Reset", name)
        prove(page, admin, "Reset")
        page.get_by_role("button", name="Reset", exact=True).click()
        fresh = page.locator(".command code").inner_text()
        assert fresh != code
        assert grace.sign_in().status_code == 401
        accept(world.url, name, fresh).sign_in().raise_for_status()


def test_a_change_without_a_proof_or_by_a_slip_does_nothing(
    chromium: Browser, world: World
) -> None:
    admin = person(world, "careful", "admin")
    person(world, "kept", "reviewer:STUDY")
    at = "/admin/people/kept"

    def post(path: str, **fields: str | list[str]) -> tuple[int, str]:
        answer = admin.client.post(path, data={"csrf": admin.csrf, **fields})
        return answer.status_code, answer.text

    code = admin.recovery[0]
    proof = {"password": PASSWORD, "code": code}
    # Four failures: after the fifth in a row somebody has to wait.
    wrong = {"password": "x", "code": code}
    for path, fields, mistake in (
        (f"{at}/roles", {"role": "researcher:small-study", "study": "small-study"}, {}),
        (f"{at}/disable", {"confirm": "kept"}, {"password": PASSWORD}),
        (f"{at}/reset", {"confirm": "kept"}, wrong),
        ("/admin/people", {"name": "new", "role": "auditor"}, wrong),
    ):
        status, text = post(path, **fields, **mistake)
        assert (status, "password or code is wrong" in text) == (422, True), path
        if path.endswith("/roles"):
            # What was ticked still is, in the study that was chosen.
            assert 'value="researcher:small-study" checked' in text
            assert 'value="reviewer:small-study" checked' not in text
            assert 'name="study" value="small-study"' in text
    for path in ("disable", "reset"):
        status, text = post(f"{at}/{path}", confirm="somebody", **proof)
        assert (status, "another one" in text) == (422, True)
    slips = (
        ({"name": "No Name"}, "name"),
        ({"name": "new", "role": "king"}, "no role"),
        ({"name": "new", "role": ["auditor", "reviewer:small-study"]}, "stands alone"),
        ({"name": "kept"}, "already"),
    )
    for fields, said in slips:
        # Each is refused before a code is used up.
        status, text = post("/admin/people", **fields, **proof)
        assert (status, said in text) == (422, True), fields
    for name in ("careful", "kept"):
        found = {one["name"]: one for one in world.actor("admin").get("/v1/accounts").json()}
        assert found[name]["state"] == "active"
    assert found["kept"]["roles"] == ["reviewer:small-study"]
    assert "new" not in found
    # Admins are nobody's to change here.
    status, text = post("/admin/people/careful/disable", confirm="careful",
                        password=PASSWORD, code=admin.recovery.pop(0))  # fmt: skip
    assert (status, "on the broker" in text) == (422, True)
    with window(chromium, world.url, admin) as seen:
        page = seen.go("/admin/people/careful")
        expect(page.get_by_role("heading", name="An admin of this broker")).to_be_visible()
        expect(page.get_by_role("button", name="Set these roles")).to_have_count(0)
        seen.look("person-admin")


def test_many_people_come_by_pages_and_are_found_by_name(chromium: Browser, world: World) -> None:
    admin = person(world, "finder", "admin")
    broker = services(world)
    roles = [parse_role("reviewer:small-study"), parse_role("researcher:small-study")]
    for number in range(60):
        broker.accounts.invite(f"person-{number:03}", roles)
    broker.database.close()
    with window(chromium, world.url, admin) as seen:
        page = seen.go("/admin/people")
        expect(page.get_by_text(re.compile("Page 1 of [34]"))).to_be_visible()
        expect(page.locator(".people li")).to_have_count(25)
        seen.look("people-many")
        page.get_by_role("link", name="Next people").click()
        expect(page.get_by_text(re.compile("Page 2 of [34]"))).to_be_visible()
        page.get_by_label("Name").fill("person-04")
        page.get_by_role("button", name="Find").click()
        expect(page.locator(".people li")).to_have_count(10)
        page.get_by_label("Name").fill("nobody-of-that-name")
        page.get_by_role("button", name="Find").click()
        expect(page.get_by_role("heading", name="Nobody of that name")).to_be_visible()
        seen.look("people-none")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_key_is_suspended_and_allowed_again(
    chromium: Browser, world: World, scripts: bool
) -> None:
    admin = person(world, f"keeper-{scripts}".lower(), "admin")
    imaging = world.actor("imaging")
    assert imaging.get(world.path).status_code == 200
    with window(chromium, world.url, admin, scripts=scripts) as seen:
        page = seen.go("/admin/keys")
        page.get_by_role("link", name="A small study").click()
        expect(page.get_by_text(world.signed.pin("imaging").fingerprint)).to_be_visible()
        page.get_by_text("Suspend imaging…").click()
        form = page.locator("form", has=page.get_by_role("button", name="Suspend imaging"))
        form.get_by_label("Why").fill("key stolen on Monday")
        form.get_by_label("To go on, type").fill("imaging")
        form.get_by_label("Your password").fill("wrong")
        form.get_by_label("A new code").fill(admin.recovery[0])
        form.get_by_role("button").click()
        expect(page.get_by_role("alert")).to_contain_text("is wrong")
        assert imaging.get(world.path).status_code == 200
        # The form is open still, with the reason as it was typed.
        expect(form.get_by_label("Why")).to_have_value("key stolen on Monday")
        form.get_by_label("To go on, type").fill("imaging")
        prove(page, admin, "Suspend imaging")
        if scripts:
            seen.look("study-keys")
        form.get_by_role("button").click()
        expect(page.get_by_role("status")).to_contain_text("access is suspended")
        assert imaging.get(world.path).status_code == 401
        seen.go("/admin/keys")
        expect(page.get_by_text("key stolen on Monday")).to_be_visible()
        if scripts:
            seen.look("admin-keys")
        seen.go(f"/studies/{world.study_id}/keys")
        page.get_by_text("Allow imaging again…").click()
        inside = page.locator("form", has=page.get_by_role("button", name="Allow imaging again"))
        inside.get_by_label("Your password").fill("wrong")
        inside.get_by_label("A new code").fill(admin.recovery[0])
        inside.get_by_role("button").click()
        expect(page.get_by_role("alert")).to_contain_text("is wrong")
        prove(page, admin, "Allow imaging again")
        inside.get_by_role("button").click()
        expect(page.get_by_role("status")).to_contain_text("may sign in again")
    imaging.token = ""
    assert imaging.get(world.path).status_code == 200


def test_the_broker_says_how_it_does_and_what_it_will_delete(
    chromium: Browser, world: World
) -> None:
    admin = person(world, "watcher", "admin")
    for package in packages(world).values():
        world.upload(package)
    with window(chromium, world.url, admin) as seen:
        page = seen.go("/admin/retention")
        expect(page.get_by_text("Nothing: no rule runs on anything now.")).to_be_visible()
        seen.look("admin-retention-empty")
        page = seen.go("/admin")
        expect(page.get_by_text("worker-1")).to_be_visible()
        expect(page.get_by_text("Newest signed head")).to_be_visible()
        before = page.locator("#health time").last.get_attribute("datetime")
        renewed = page.locator(f"#health p time:not([datetime='{before}'])")
        expect(renewed.last).to_be_visible(timeout=180_000)
        # In the viewer's zone also where the part has renewed itself.
        expect(renewed.last).not_to_contain_text("UTC")
        seen.look("admin-system")
        world.actor("admin").call(
            "POST", f"{world.path}/close", json={"confirm": world.study_id}
        ).raise_for_status()
        page = seen.go("/admin/retention")
        expect(page.get_by_role("cell", name="Sealed packages")).to_be_visible()
        page = seen.go(f"/studies/{world.study_id}")
        expect(page.get_by_text("30 days after the study is closed, which is from")).to_be_visible()
        broker = services(world)
        broker.lifecycle.destroy("console", world.study_id, confirm=world.study_id)
        broker.database.close()
        at = f"{world.path}/destruction"
        caller = world.actor("admin")
        wait_for(lambda: caller.get(at).status_code == 200, 60)
        page = seen.go("/admin/retention")
        expect(page.get_by_role("link", name="Download the certificate of")).to_be_visible()
        seen.look("admin-retention")


def test_nobody_but_an_admin_comes_in(world: World) -> None:
    auditor = person(world, "no-auditor", "auditor")
    for path in ("/admin", "/admin/people", "/admin/people/new", "/admin/people/boss-a",
                 "/admin/keys", "/admin/retention"):  # fmt: skip
        answer = auditor.client.get(path)
        assert answer.status_code == 403, path
        assert "finder" not in answer.text
    for path in ("", "/boss-a/roles", "/boss-a/disable", "/boss-a/enable", "/boss-a/reset"):
        answer = auditor.client.post(f"/admin/people{path}", data={"csrf": auditor.csrf})
        assert answer.status_code == 403, path
