"""Runs in a real browser: started, followed, cancelled, read, decided anew, compared."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.broker_world import World, make_world, packages, running, sign_for
from tests.browser.looking import person, window

ADMIN, STEWARD, RESEARCHER = "admin", "steward:STUDY:imaging", "researcher:STUDY"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("run-pages")), worker=False) as made:
        other, _ = sign_for(made.home.public(), "other-study")
        made.actor("admin").post("/v1/studies", other).raise_for_status()
        yield made


def state(page: Page, word: str) -> None:
    """Wait until a run's page says this state; it looks again by itself."""
    expect(page.locator("h1 .badge")).to_have_text(word, timeout=180_000)


def run_of(page: Page) -> str:
    return page.url.partition("?")[0].rpartition("/")[2]


def move(page: Page, label: str, steps: int) -> None:
    """Move a slider by the keyboard."""
    page.get_by_label(label).focus()
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")


def told(page: Page, name: str) -> str:
    return page.locator(f"[data-out={name}]").first.inner_text()


def test_a_run_is_started_followed_read_decided_anew_and_compared(
    chromium: Browser, world: World
) -> None:
    at = f"/studies/{world.study_id}/runs"
    with window(chromium, world.url, person(world, "ada", ADMIN)) as seen:
        page = seen.go(at)
        expect(page.get_by_role("heading", name="No run yet")).to_be_visible()
        seen.look("runs-empty")
        page.get_by_role("link", name="See what a run would do").click()
        expect(page.get_by_text("No run would start")).to_contain_text("imaging")
        seen.look("run-new-refused")
        for package in packages(world).values():
            world.upload(package)

        # A precision that is none is told above the form; nothing was started meanwhile.
        page.get_by_label("Wanted precision").fill("99")
        page.get_by_role("button", name="See what it would do").click()
        expect(page.get_by_role("alert")).to_contain_text("from 0.5 to 1")
        page.get_by_label("Wanted precision").fill("")
        page.get_by_role("button", name="See what it would do").click()
        expect(page.get_by_role("cell", name="120").first).to_be_visible()
        seen.look("run-new")
        page.get_by_role("button", name="Start this run").click()
        expect(page.get_by_text("This page follows it")).to_be_visible()
        first = run_of(page)
        expect(page.get_by_text("No worker has been heard of")).to_be_visible()
        seen.look("run-queued")

        # Cancelled only under its own name, though the page's script is not asked.
        page.get_by_text("Cancel the run…").click()
        page.get_by_label("To go on, type the name of the run").fill("another")
        expect(page.get_by_role("button", name="Cancel the run")).to_be_disabled()
        page.locator(".confirm form").evaluate("form => form.submit()")
        expect(page.get_by_text("Nothing was done")).to_be_visible()
        page.get_by_text("Cancel the run…").click()
        page.get_by_label("To go on, type the name of the run").fill(first)
        page.get_by_role("button", name="Cancel the run").click()
        state(page, "cancelled")

        page.get_by_role("link", name="See what a new run would do").click()
        page.get_by_role("button", name="Start this run").click()
        state(page, "queued")
        world.work()
        state(page, "done")
        made = run_of(page)
        expect(page.get_by_role("heading", name="How good it is, estimated")).to_be_visible()
        shown = page.get_by_role("img", name=re.compile("Candidate pairs by match probability"))
        expect(shown).to_be_visible()
        expect(page.get_by_role("heading", name="Link rate by dataset")).to_be_visible()
        seen.look("run-done")
        seen.printed("run-done")

        # Estimates of two of the parties; moving the threshold shows what the server worked out.
        both = page.get_by_role("link", name="enclave and imaging")
        both.click()
        expect(both).to_have_attribute("aria-current", "true")
        expect(page.locator("[data-out=links]")).to_contain_text("as in this run.")
        own, links, precision = (told(page, one) for one in ("link", "links", "precision"))
        point = page.locator("tr.chosen td").all_text_contents()
        assert point[1].startswith(precision.partition(" ")[0])
        line = page.locator("[data-threshold=link]")
        before = line.get_attribute("transform")
        move(page, "Link threshold", 3)
        assert told(page, "link") != own
        assert line.get_attribute("transform") != before
        head = page.locator("th", has_text=re.compile(f"^{re.escape(told(page, 'link'))}$"))
        row = page.locator("tr", has=head).all_text_contents()
        assert len(row) == 1
        assert told(page, "recall") in row[0]
        assert told(page, "precision") in row[0]
        move(page, "Review threshold", -5)
        assert "to look at" in told(page, "doubt")
        seen.look("run-moved")
        page.get_by_role("button", name="Back to the run's own thresholds").click()
        assert (told(page, "link"), told(page, "links")) == (own, links)

        # Decided anew for the precision that the slider shows.
        move(page, "Link threshold", 3)
        button = page.get_by_role("button", name="Decide anew for a precision of")
        wanted = button.inner_text().rpartition(" ")[2].rstrip("…")
        button.click()
        expect(page.get_by_role("heading", name="Decide anew")).to_be_visible()
        expect(page.get_by_label("Wanted precision")).to_have_value(wanted)
        page.get_by_role("button", name="Start this run").click()
        state(page, "done")
        expect(page.get_by_text(f"a precision of {float(wanted)}")).to_be_visible()
        expect(page.get_by_role("link", name=made).first).to_be_visible()

        page.get_by_label("Earlier or later run").select_option(made)
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("heading", name="Two runs side by side")).to_be_visible()
        expect(page.get_by_role("row", name="Wanted precision")).to_contain_text(wanted)
        changes = re.compile("links? that the first has not|found the same persons")
        expect(page.locator(".next")).to_contain_text(changes)
        seen.look("run-compare")
        page = seen.go(at)
        expect(page.get_by_role("row")).to_have_count(4)
        seen.look("runs")


def test_the_essentials_need_no_script(chromium: Browser, world: World) -> None:
    """After the story above: its runs are there, and its worker."""
    at = f"/studies/{world.study_id}/runs"
    with window(chromium, world.url, person(world, "bea", ADMIN), scripts=False) as seen:
        page = seen.go(f"{at}/new")
        page.get_by_label("Wanted precision").fill("0.97")
        page.get_by_role("button", name="See what it would do").click()
        page.get_by_role("button", name="Start this run").click()
        expect(page.get_by_role("link", name="Look again")).to_be_visible()
        for _ in range(1_000):
            if page.locator("h1 .badge").inner_text() == "done":
                break
            page.wait_for_timeout(300)
            page.reload()
        state(page, "done")
        expect(page.get_by_label("Link threshold")).to_be_hidden()
        page.get_by_text("Every threshold as a table").click()
        expect(page.locator("tr.chosen")).to_contain_text("this run")
        page.get_by_role("link", name="Decide anew").first.click()
        expect(page.get_by_role("heading", name="Decide anew")).to_be_visible()
        page = seen.go(at)
        page.get_by_role("button", name="Compare").click()
        page.get_by_role("link", name="Count the links").or_(
            page.get_by_text("Both found the same persons")
        ).first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("runs")


def test_a_steward_sees_how_far_and_no_figure(chromium: Browser, world: World) -> None:
    """The API tells no more: counts of matches would help somebody who probes."""
    at = f"/studies/{world.study_id}/runs"
    known = world.actor("admin").get(f"/v1{at}").json()
    done = [one["run_id"] for one in known if one["state"] == "done"]
    with window(chromium, world.url, person(world, "sam", STEWARD)) as seen:
        page = seen.go(at)
        expect(page.get_by_role("link", name="Start a run")).to_have_count(0)
        expect(page.get_by_role("button", name="Compare")).to_have_count(0)
        seen.look("runs-steward")
        page.get_by_role("link", name=done[0]).click()
        state(page, "done")
        expect(page.get_by_text("What you see here")).to_be_visible()
        text = page.locator("main").inner_text()
        for hidden in ("recision", "digest", "ecall", "Epoch", "persons are known"):
            assert hidden not in text, hidden
        seen.look("run-steward")
        for path in (f"{at}/new", f"{at}/compare?a={done[0]}&b={done[1]}"):
            seen.go(path)
            expect(page.get_by_role("heading", level=1)).to_contain_text("may not")
    sam = person(world, "sid", STEWARD)
    form = {"csrf": sam.csrf, "confirm": done[0]}
    for path in (at, f"{at}/{done[0]}/cancel", f"{at}/{done[0]}/go-on"):
        assert sam.client.post(path, data=form).status_code == 403
    rob = person(world, "rob", RESEARCHER)
    assert rob.client.get(at).status_code == 403
    assert rob.client.get(f"{at}/{done[0]}").status_code == 403
    far = person(world, "far", "steward:other-study:imaging")
    assert far.client.get(f"{at}/{done[0]}").status_code == 404


def test_a_form_without_the_token_starts_and_cancels_nothing(world: World) -> None:
    at = f"/studies/{world.study_id}/runs"
    ada = person(world, "ida", ADMIN)
    before = world.actor("admin").get(f"/v1{at}").json()
    assert ada.client.post(at, data={"asked": "yes", "csrf": "x"}).status_code == 401
    assert ada.client.post(at, data={"asked": "yes"}).status_code == 401
    foreign = {"origin": "https://elsewhere.example"}
    answer = ada.client.post(at, data={"asked": "yes", "csrf": ada.csrf}, headers=foreign)
    assert answer.status_code == 403
    assert world.actor("admin").get(f"/v1{at}").json() == before
