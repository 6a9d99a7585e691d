"""What tired people do: a session that is over, two tabs, a double click, a wrong file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.broker_world import World, make_world, running
from tests.browser.looking import Window, person, services, window
from tests.people import PASSWORD, Person


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("slips")), worker=False) as made:
        yield made


def end_sessions(world: World, who: Person) -> None:
    """As after half an hour without a click, or on another device."""
    broker = services(world)
    broker.sessions.end(who.client.cookies["linkage-session"], everywhere=True)
    broker.database.close()


def sign_in(page: Page, who: Person) -> None:
    page.get_by_label("Name").fill(who.name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Code").fill(who.recovery.pop(0))
    page.get_by_role("button", name="Sign in", exact=True).click()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_form_that_is_sent_too_late_leads_back_to_its_page(
    chromium: Browser, world: World, scripts: bool
) -> None:
    late = person(world, f"late-{scripts}".lower(), "admin")
    with window(chromium, world.url, late, scripts=scripts) as seen:
        page = seen.go("/studies/small-study/keys")
        page.get_by_text("Suspend imaging…").click()
        form = page.locator("form", has=page.get_by_role("button", name="Suspend imaging"))
        form.get_by_label("Why").fill("A key was lost")
        form.get_by_label("To go on, type its name").fill("imaging")
        form.get_by_label("Your password").fill(PASSWORD)
        form.get_by_label("A new code").fill(late.recovery.pop(0))
        end_sessions(world, late)
        form.get_by_role("button", name="Suspend imaging").click()
        expect(page.get_by_role("status")).to_contain_text("Nothing was done")
        if scripts:
            seen.look("sign-in-too-late")
        sign_in(page, late)
        expect(page).to_have_url(re.compile(r"/studies/small-study/keys$"))
        assert (
            not world.actor("admin")
            .get("/v1/studies/small-study/access")
            .json()[0]
            .get("suspended_at")
        )


def test_where_a_session_is_over_the_whole_address_comes_back(
    chromium: Browser, world: World
) -> None:
    reader = person(world, "reader", "admin")
    with window(chromium, world.url, reader) as seen:
        seen.go("/")
        end_sessions(world, reader)
        page = seen.go("/audit?actor=person%2Freader&since=2026-01-01")
        expect(page.get_by_role("status")).to_contain_text("Your session is over")
        sign_in(page, reader)
        expect(page).to_have_url(re.compile(r"/audit\?actor=person%2Freader&since=2026-01-01$"))


def test_the_address_of_a_form_that_was_refused_shows_its_page(
    chromium: Browser, world: World
) -> None:
    """Loaded again by Enter in the address bar."""
    careful = person(world, "careful", "admin")
    with window(chromium, world.url, careful) as seen:
        for form, page_above in (
            ("/studies/small-study/destruction", "/studies/small-study"),
            ("/studies/small-study/keys/imaging/suspend", "/studies/small-study/keys"),
            ("/admin/people/careful/reset", "/admin/people/careful"),
            ("/account/password", "/account"),
        ):
            seen.go(form)
            expect(seen.page).to_have_url(f"{world.url}{page_above}")
        page = seen.go("/admin/people?page=two")
        expect(page.get_by_role("heading", level=1)).to_contain_text("does not fit")
        assert "openapi" not in page.content()
    for scripts in (True, False):
        with window(chromium, world.url, careful, scripts=scripts) as seen:
            assert seen.page.goto(f"{world.url}/sign-out") is not None
            expect(seen.page.get_by_role("heading", name="Studies")).to_be_visible()


def test_a_page_of_an_earlier_session_says_so_and_leads_back(
    chromium: Browser, world: World
) -> None:
    twice = person(world, "twice", "admin")
    with window(chromium, world.url, twice) as seen:
        page = seen.go("/studies/small-study/storage")
        page.get_by_text("Set another quota…").first.click()
        other = page.context.new_page()
        other.goto(f"{world.url}/account")
        other.get_by_role("button", name="Sign out", exact=True).click()
        sign_in(other, twice)
        expect(other.get_by_role("heading", name="Studies")).to_be_visible()
        page.get_by_role("button", name="Set it for the whole study").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("another session")
        seen.look("another-session")
        page.get_by_role("link", name="Back to the page").click()
        expect(page).to_have_url(f"{world.url}/studies/small-study/storage")


def test_what_is_too_large_or_breaks_is_told_on_a_page(
    chromium: Browser, world: World, tmp_path: Path
) -> None:
    admin = person(world, "opener", "admin")
    film = tmp_path / "film.json"
    film.write_bytes(b" " * 8_000_001)
    with window(chromium, world.url, admin) as seen:
        page = seen.go("/admin/studies")
        page.get_by_label("Open the file").set_input_files(film)
        expect(page.get_by_label("The signed study")).to_have_value("")
        fault = page.get_by_label("Open the file").evaluate("field => field.validationMessage")
        assert "too large" in fault
    told = admin.client.post("/account/password", data={"csrf": admin.csrf, "code": "x" * 70_000})
    assert told.status_code == 413
    assert "text/html" in told.headers["content-type"]
    assert "larger than" in told.text


def asking(seen: Window, title: str) -> Page:
    page = seen.go("/studies/small-study/questions/new")
    page.get_by_label("Title").fill(title)
    page.get_by_label("Purpose").fill("Find out whether it can be seen.")
    page.get_by_label("Any image at all").check()
    page.get_by_label("Concept numbers").fill("443388")
    expect(page.locator("#preview")).to_contain_text("has a condition 443388")
    return page


def proposed(world: World) -> int:
    return len(world.actor("admin").get("/v1/studies/small-study/proposals").json())


def test_a_title_does_not_read_as_another(chromium: Browser, world: World) -> None:
    """An override of direction is shown as a sign, not followed; letters of all scripts stay."""
    sly = person(world, "sly", "researcher:STUDY")
    with window(chromium, world.url, sly) as seen:
        page = asking(seen, "Not \u202erof profit, \u05e9\u05dc\u05d5\u05dd")
        page.get_by_role("button", name="Ask", exact=True).click()
        shown = page.locator("strong", has_text="profit")
        expect(shown).to_have_text("Not \ufffdrof profit, \u05e9\u05dc\u05d5\u05dd")


def test_a_double_click_asks_once(chromium: Browser, world: World) -> None:
    hasty = person(world, "hasty", "researcher:STUDY")
    before = proposed(world)
    with window(chromium, world.url, hasty) as seen:
        page = asking(seen, "Asked once")
        page.get_by_role("button", name="Ask", exact=True).dblclick()
        expect(page.get_by_role("heading", name="Asked, and not yet a question")).to_be_visible()
        expect(page.locator("strong", has_text="Asked once")).to_have_count(1)
    assert proposed(world) == before + 1


def test_a_page_that_looks_again_leaves_the_focus_where_it_is(
    chromium: Browser, world: World
) -> None:
    calm = person(world, "calm", "researcher:STUDY")
    polled = "linkage-poll"
    with window(chromium, world.url, calm) as seen:
        page = asking(seen, "Looked at again")
        page.get_by_role("button", name="Ask", exact=True).click()
        back = page.get_by_role("button", name="Take it back")
        back.focus()
        for _ in range(2):
            with page.expect_response(lambda one: polled in one.request.headers) as answer:
                pass
            answer.value.finished()
        page.evaluate("new Promise(requestAnimationFrame)")
        expect(back).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").first).to_contain_text("You took it back")


def test_what_is_typed_outlives_the_session(chromium: Browser, world: World) -> None:
    """A question is half written when the session ends; the other tab signs in, and it goes on."""
    writer = person(world, "writer", "researcher:STUDY")
    before = proposed(world)
    with window(chromium, world.url, writer) as seen:
        page = asking(seen, "Written over lunch")
        end_sessions(world, writer)
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_role("status").first).to_contain_text("what you typed stays here")
        assert page.get_by_label("Title").input_value() == "Written over lunch"
        seen.look("question-session-over")
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Sign in in another tab").click()
        sign_in(opened.value, writer)
        expect(opened.value.get_by_role("heading", name="Studies")).to_be_visible()
        opened.value.close()
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        expect(page.get_by_role("status").first).to_contain_text("You are signed in again")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_role("heading", name="Asked, and not yet a question")).to_be_visible()
    assert proposed(world) == before + 1


def test_what_somebody_typed_is_sent_by_nobody_else(chromium: Browser, world: World) -> None:
    first = person(world, "first", "researcher:STUDY")
    second = person(world, "second", "researcher:STUDY")
    before = proposed(world)
    with window(chromium, world.url, first) as seen:
        page = asking(seen, "Of the first")
        end_sessions(world, first)
        cookies = [
            {"name": name, "value": value, "url": world.url}
            for name, value in second.client.cookies.items()
        ]
        page.context.add_cookies(cookies)  # type: ignore[arg-type]
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_role("status").first).to_contain_text("second is signed in now")
    assert proposed(world) == before
