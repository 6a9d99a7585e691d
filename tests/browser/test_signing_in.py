"""Signing in and out, invitations, and what the portal's frame does, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pyotp
import pytest
from playwright.sync_api import Browser, expect

from broker.person_roles import parse_role
from linkage.errors import NotAuthenticated
from tests.broker_world import HTTP, World, make_world, running
from tests.browser.looking import person, services, window
from tests.people import PASSWORD


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("signing-in")), worker=False) as made:
        yield made


def invited(world: World, name: str, *roles: str) -> str:
    broker = services(world)
    code, _ = broker.accounts.invite(name, [parse_role(role) for role in roles])
    broker.database.close()
    return code


@pytest.mark.parametrize("scripts", [True, False])
def test_an_invitation_becomes_an_account_that_signs_in_and_out(
    chromium: Browser, world: World, scripts: bool
) -> None:
    name = f"ada-{scripts}".lower()
    code = invited(world, name, f"researcher:{world.study_id}")
    with window(chromium, world.url, scripts=scripts) as seen:
        page = seen.go("/account")
        expect(page).to_have_url(re.compile(r"/sign-in\?to=/account$"))
        if scripts:
            seen.look("sign-in")
        page.get_by_role("link", name="Open your invitation").click()
        page.get_by_label("Code of the invitation").fill("not-the-code")
        page.get_by_role("button", name="Open it").click()
        expect(page.get_by_role("alert")).to_be_visible()
        if scripts:
            seen.look("invitation-wrong")
        page.get_by_label("Code of the invitation").fill(code)
        page.get_by_role("button", name="Open it").click()
        expect(page.get_by_role("img", name="QR code")).to_be_visible()
        if scripts:
            seen.look("enrolment")
        page.get_by_text("I cannot read a picture").click()
        secret = page.locator("code.long").inner_text().replace(" ", "")
        page.locator("#f-password").evaluate("field => field.removeAttribute('minlength')")
        for password, again, code, said in (
            ("short", "short", pyotp.TOTP(secret).now(), "12 to 256 characters"),
            (PASSWORD, f"{PASSWORD}x", pyotp.TOTP(secret).now(), "not the same"),
            (PASSWORD, PASSWORD, "000 000", "code is wrong"),
        ):
            page.get_by_label("Password").fill(password)
            page.get_by_label("Type it again").fill(again)
            page.get_by_label("Code").fill(code)
            page.locator("#f-password").evaluate("field => field.removeAttribute('minlength')")
            page.get_by_role("button", name="Make my account").click()
            expect(page.get_by_role("alert")).to_contain_text(said)
            expect(page.get_by_text("it stays as it is")).to_be_visible()
        if scripts:
            seen.look("enrolment-again")
        # Its picture was read once, and is still the one.
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Type it again").fill(PASSWORD)
        page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
        page.get_by_role("button", name="Make my account").click()
        expect(page.get_by_role("heading", name="Your account is ready")).to_be_visible()
        recovery = page.locator(".codes code").all_inner_texts()
        assert len(recovery) == 10
        if scripts:
            seen.look("recovery-codes")
        page.get_by_role("link", name="Sign in").click()
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill("something else that is wrong")
        page.get_by_label("Code").fill(recovery[0])
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("Name, password or code is wrong")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Code").fill(recovery[0])
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("link", name="A small study")).to_be_visible()
        if scripts:
            seen.look("studies")
        page.get_by_role("link", name=name).click()
        if scripts:
            seen.look("account")
        page.get_by_role("button", name="Sign out", exact=True).click()
        expect(page.get_by_text("You are signed out.")).to_be_visible()
        seen.go("/account")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Code").fill(recovery[1])
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("heading", name="Your account")).to_be_visible()


def test_somebody_without_studies_is_told_what_to_do(chromium: Browser, world: World) -> None:
    with window(chromium, world.url, person(world, "nobody")) as seen:
        seen.go("/")
        expect(seen.page.get_by_role("heading", name="No studies yet")).to_be_visible()
        seen.look("no-studies")
        page = seen.go("/nowhere")
        expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
        seen.look("no-such-page")


def test_a_form_without_the_token_or_from_another_site_does_nothing(
    chromium: Browser, world: World
) -> None:
    carl = person(world, "carl")
    with window(chromium, world.url, carl) as seen:
        page = seen.go("/account")
        page.locator("input[name=csrf]").evaluate_all("all => all.forEach(f => f.value = 'x')")
        page.get_by_role("button", name="Sign out everywhere").click()
        expect(page.get_by_role("heading", name=re.compile("in another session"))).to_be_visible()
        page.get_by_role("link", name="Back to the page").click()
        expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    foreign = {"origin": "https://elsewhere.example"}
    told = carl.client.post("/sign-out", data={"csrf": carl.csrf}, headers=foreign)
    assert told.status_code == 403
    assert "text/html" in told.headers["content-type"]
    body = {"name": "carl", "password": PASSWORD}
    assert HTTP.post(f"{world.url}/sign-in", data=body, headers=foreign).status_code == 403
    assert carl.client.get("/account").status_code == 200


def test_what_an_open_page_asks_by_itself_is_no_use_of_the_session(
    chromium: Browser, world: World
) -> None:
    watcher = person(world, "watcher", "admin")
    asked: list[bool] = []
    with window(chromium, world.url, watcher) as seen:
        page = seen.page
        page.on("request", lambda one: asked.append("linkage-poll" in one.headers))
        with page.expect_response(lambda one: "linkage-poll" in one.request.headers) as polled:
            seen.go("/admin")
        assert polled.value.status == 200
        assert asked[0] is False
    broker = services(world)
    cookie = watcher.client.cookies["linkage-session"]
    idle = broker.home.config.accounts.idle_seconds
    later = replace(broker.sessions, now=lambda: time.time() + idle - 60)
    later.caller(cookie, csrf=None, used=False)
    over = replace(broker.sessions, now=lambda: time.time() + idle + 60)
    with pytest.raises(NotAuthenticated, match="not used for too long"):
        over.caller(cookie, csrf=None)
    later.caller(cookie, csrf=None)
    over.caller(cookie, csrf=None)
    broker.database.close()


def test_where_to_go_after_signing_in_stays_in_the_portal(world: World) -> None:
    for to in ("//elsewhere.example", "/\\elsewhere.example", "https://elsewhere.example", "/v1/x"):
        shown = HTTP.get(f"{world.url}/sign-in", params={"to": to}).text
        assert 'name="to" value="/"' in shown


def test_pages_bring_nothing_from_outside_and_the_first_is_small(
    chromium: Browser, world: World
) -> None:
    """The first page is below 150 kB in all, as it goes over the line."""
    eve = person(world, "eve", "admin")
    with window(chromium, world.url, eve) as seen:
        sizes: list[int] = []
        seen.page.on("response", lambda answer: sizes.append(len(answer.body())))
        seen.go("/")
        seen.page.wait_for_load_state("networkidle")
        assert 10_000 < sum(sizes) < 150_000
        assert seen.complaints == []
    headers = eve.client.get("/").headers
    policy = headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store"
