"""Clerical reviews in a real browser: opened, read by keyboard, taken back, closed, judged."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from broker.review_cases import CASES
from broker.scratch import Scratch
from broker.store import runs
from linkage.matching.review_cases import ShownCase, cases_to_json
from linkage.review import Case
from linkage.sealing import Identity
from linkage.study import FIELDS
from tests.broker_world import STUDY, World, make_world, running, wait_for
from tests.browser.looking import Window, person, services, window
from tests.people import Person

REVIEW = """
[second_look]
most_per_run = 100

[review]
most_pairs = 60
"""
HINT = re.compile(r"\d+ pairs? left for you")


def shown_cases(count: int) -> list[ShownCase]:
    """Pairs as a run leaves them: a third in doubt, a third links to check, a third decoys."""
    rng = random.Random(8)
    words = ("equal", "similar", "different", "missing")
    made = []
    for n in range(count):
        kind, truth = n % 3, rng.random() < 0.6
        fields = {name: rng.choice(words) for name in list(FIELDS)[:8]}
        case = Case(
            case_id=f"{rng.getrandbits(64):016x}",
            doubt=kind == 0,
            check=kind == 1,
            decoy=kind == 2,
            typical=kind == 2 and n % 2 == 0,
            truth=truth if kind == 2 else False,
            probability=0.5,
        )
        names = (rng.randbytes(16), rng.randbytes(16))
        made.append(ShownCase(case, ("claims", "imaging"), names, fields))
    return made


def add_run(world: World, run_id: str, cases: list[ShownCase]) -> None:
    """A finished run that left pairs to look at, sealed as the worker seals them."""
    broker = services(world)
    chosen = {"precision": 0.99, "precision_interval": 0.004}
    with broker.database.change() as connection:
        row = runs.RunRow(
            id=run_id, study_id=world.study_id, seed=1, epoch=1, inputs="{}", software="x",
            state="done", started_at=1_790_000_000, finished_at=1_790_000_100,
            report=f'{{"overall": {{"chosen": {str(chosen).replace(chr(39), chr(34))}}}}}',
        )  # fmt: skip
        runs.add(connection, row)
    identity = Identity.load(world.home.identity_file)
    Scratch(broker, identity, world.study_id, run_id).put(CASES, cases_to_json(cases))
    broker.database.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("reviews"), text=STUDY + REVIEW)) as made:
        yield made


@pytest.fixture(scope="module")
def admin(world: World) -> Person:
    return person(world, "root", "admin")


@pytest.fixture(scope="module")
def ada(world: World) -> Person:
    return person(world, "ada", "reviewer:STUDY")


def at(world: World, run_id: str = "") -> str:
    return f"/studies/{world.study_id}/reviews" + (f"/{run_id}" if run_id else "")


def shown(page: Page) -> str:
    return str(page.locator("#pair").get_attribute("data-case"))


def press(page: Page, key: str) -> None:
    """Press a key, and wait until the server has answered and the page holds what comes."""
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.keyboard.press(key)


def test_a_review_is_opened_read_by_keyboard_and_taken_back(
    chromium: Browser, world: World, admin: Person, ada: Person
) -> None:
    with window(chromium, world.url, ada) as seen:
        page = seen.go(at(world))
        expect(page.get_by_role("heading", name="No review yet")).to_be_visible()
        expect(page.get_by_text("The broker's admin opens one")).to_be_visible()
        seen.look("reviews-empty-reviewer")
    with window(chromium, world.url, admin) as seen:
        page = seen.go(at(world))
        expect(page.get_by_text("No run has left pairs")).to_be_visible()
        seen.look("reviews-empty-admin")
        add_run(world, "run-a", shown_cases(12))
        page = seen.go(at(world))
        seen.look("reviews-to-open")
        page.get_by_role("button", name="Open its review").click()
        expect(page.get_by_text("The review is being opened")).to_be_visible()
        expect(page.get_by_text("Nobody has read a pair yet")).to_be_visible()
        expect(page.locator(".badge", has_text="open")).to_have_text("open")
        seen.look("review-admin-open")
    with window(chromium, world.url, ada) as seen:
        read_by_keyboard(seen, world)


def read_by_keyboard(seen: Window, world: World) -> None:
    page = seen.go(at(world))
    seen.look("reviews-reviewer")
    page.get_by_role("link", name="run-a").click()
    expect(page.get_by_text("12 pairs left for you")).to_be_visible()
    seen.look("review-pair")
    first = shown(page)
    # The next pair is there before the server has answered: hold the answer back.
    held: list[object] = []
    page.route("**/cases/*", lambda r: r.continue_() if held else held.append(r))
    page.get_by_role("button", name="Same person").focus()
    page.keyboard.press("s")
    expect(page.locator("#pair")).not_to_have_attribute("data-case", first)
    second = shown(page)
    expect(page.locator("#heard")).to_contain_text("A record of claims, one of imaging.")
    expect(page.get_by_role("button", name="Same person")).to_be_focused()
    page.keyboard.press("d")  # waits for the first answer
    assert len(held) == 1
    held[0].continue_()  # type: ignore[attr-defined]
    expect(page.get_by_text("10 pairs left for you")).to_be_visible()
    expect(page.get_by_role("button", name="Same person")).to_be_focused()
    expect(page.get_by_role("button", name=re.compile("Take back: different"))).to_be_visible()
    third = shown(page)
    assert len({first, second, third}) == 3
    press(page, "z")
    expect(page.locator("#pair")).to_have_attribute("data-case", second)
    expect(page.get_by_text("11 pairs left for you")).to_be_visible()
    expect(page.locator("#heard")).to_contain_text("A record of claims")
    press(page, "u")
    expect(page.locator("#pair")).to_have_attribute("data-case", third)
    expect(page.get_by_text("10 pairs left for you")).to_be_visible()
    keys_rest_where_they_must(page)
    for left in range(9, -1, -1):
        press(page, "s")
        pairs = "1 pair" if left == 1 else f"{left} pairs"
        expect(page.get_by_text(f"{pairs} left for you")).to_be_visible()
    expect(page.get_by_role("heading", name="Nothing is left for you")).to_be_visible()
    seen.look("review-end")
    page.get_by_text("Your last answers").click()
    page.locator(".last button").nth(3).click()
    expect(page.get_by_text("1 pair left for you")).to_be_visible()
    press(page, "d")
    expect(page.get_by_role("heading", name="Nothing is left for you")).to_be_visible()


def keys_rest_where_they_must(page: Page) -> None:
    """Not while a field has the focus, nor with another key held, nor once switched off."""
    before = shown(page)
    page.keyboard.press("?")
    expect(page.locator("#reading-help")).to_have_attribute("open", "")
    expect(page.locator("#reading-help summary")).to_be_focused()
    page.keyboard.press("Control+s")
    page.evaluate(
        "document.querySelector('main').append(document.createElement('input'));"
        "document.querySelector('main > input').focus()"
    )
    page.keyboard.press("s")
    assert page.locator("main > input").input_value() == "s"
    page.locator("main > input").evaluate("field => field.remove()")
    page.get_by_role("button", name="Keys on").click()
    page.keyboard.press("s")
    page.reload()
    page.get_by_text("How to read a pair").click()
    page.keyboard.press("s")
    expect(page.get_by_text("10 pairs left for you")).to_be_visible()
    assert shown(page) == before
    page.get_by_role("button", name="Keys off").click()
    expect(page.get_by_role("button", name="Keys on")).to_be_visible()


def test_without_scripts_and_a_refusal(chromium: Browser, world: World) -> None:
    """After the test above. Buttons and links alone; then two windows answer one pair."""
    ben = person(world, "ben", "reviewer:STUDY")
    with window(chromium, world.url, ben, scripts=False) as seen:
        page = seen.go(at(world, "run-a"))
        first = shown(page)
        assert not page.locator("kbd:visible").count()
        page.get_by_role("button", name="Same person").click()
        expect(page.get_by_text("11 pairs left for you")).to_be_visible()
        page.get_by_role("button", name="Take back: same").first.click()
        expect(page.get_by_text("Your answer is taken back")).to_be_visible()
        assert shown(page) == first
        page.get_by_role("button", name="Different").click()
        expect(page.get_by_text("11 pairs left for you")).to_be_visible()
    with window(chromium, world.url, ben) as one, window(chromium, world.url, ben) as two:
        for seen in (one, two):
            seen.go(at(world, "run-a"))
        pair = shown(one.page)
        press(one.page, "s")
        expect(one.page.get_by_text("10 pairs left for you")).to_be_visible()
        press(two.page, "d")
        expect(two.page.get_by_role("alert")).to_contain_text("You have decided about this case")
        expect(two.page.get_by_text("10 pairs left for you")).to_be_visible()
        assert shown(two.page) == shown(one.page) != pair
        press(two.page, "s")
        expect(two.page.get_by_role("alert")).to_have_count(0)


def test_the_admin_sees_agreement_closes_and_sees_what_came_out(
    chromium: Browser, world: World, admin: Person
) -> None:
    """After the tests above."""
    cases = shown_cases(60)
    add_run(world, "run-b", cases)
    broker = services(world)
    answers = {one.case.case_id: one.case.truth for one in cases}
    readers = [person(world, f"r{n}", "reviewer:STUDY") for n in range(3)]
    with window(chromium, world.url, admin) as seen:
        page = seen.go(at(world))
        page.get_by_role("button", name="Open its review").click()
        expect(page.get_by_text("Nobody has read a pair yet")).to_be_visible()
        expect(page.locator(".badge")).to_have_text("open")
        rng = random.Random(4)
        for who in readers:
            for case_id, truth in list(answers.items())[: 60 if who is not readers[2] else 20]:
                said = "same" if (rng.random() < 0.9) == truth else "different"
                path = f"/v1{at(world, 'run-b')}/cases/{case_id}/decision"
                who.call("PUT", path, json={"answer": said})
        seen.go(at(world, "run-b"))
        expect(page.get_by_role("row", name=re.compile("Two disagree"))).to_be_visible()
        expect(page.get_by_role("row", name="person/r0 and person/r1")).to_be_visible()
        seen.look("review-admin-agreement")
        page.get_by_text("Close the review…").click()
        page.get_by_label(re.compile("To go on")).fill("run-b")
        seen.look("review-admin-closing")
        page.get_by_role("button", name="Close the review").click()
        expect(page.get_by_role("heading", name="Precision of the links")).to_be_visible()
        expect(page.get_by_role("heading", name="What was decided")).to_be_visible()
        expect(page.locator(".badge").first).to_have_text("closed")
        page.get_by_text("The same as a table").click()
        seen.look("review-admin-closed")
        seen.go(at(world))
        seen.look("reviews-admin")
    broker.database.close()
    with window(chromium, world.url, readers[0]) as seen:
        page = seen.go(at(world, "run-b"))
        expect(page.get_by_role("heading", name="It takes no more answers")).to_be_visible()
        seen.look("review-over")


def test_a_name_typed_wrong_closes_nothing(world: World, admin: Person) -> None:
    path = at(world, "run-a")
    data = {"csrf": admin.csrf, "confirm": "run-b"}
    answer = admin.client.post(f"{path}/close", data=data, follow_redirects=True)
    assert "Nothing was done" in answer.text
    assert admin.call("GET", f"/v1{path}").json()["state"] == "open"


def test_other_roles_neither_see_nor_answer(
    chromium: Browser, world: World, ada: Person, admin: Person
) -> None:
    case_id = "0" * 16
    with window(chromium, world.url, ada) as seen:
        seen.go(at(world, "run-a"))
        assert seen.page.get_by_text("Close the review").count() == 0
    for role in ("steward:STUDY:imaging", "researcher:STUDY", "auditor"):
        other = person(world, role.partition(":")[0], role)
        with window(chromium, world.url, other) as seen:
            seen.go(f"/studies/{world.study_id}")
            assert seen.page.get_by_role("link", name="Review", exact=True).count() == 0
        assert other.client.get(at(world)).status_code == 403
        assert other.client.get(at(world, "run-a")).status_code == 403
    for path, who in ((f"{at(world, 'run-a')}/cases/{case_id}", admin), (at(world), ada)):
        answer = who.client.post(path, data={"csrf": who.csrf, "answer": "same"})
        assert answer.status_code == 403
    made = ada.client.post(
        f"{at(world, 'run-a')}/cases/{case_id}", data={"csrf": ada.csrf, "answer": "maybe"}
    )
    assert made.status_code == 422


def test_a_review_that_cannot_be_opened_says_so(
    chromium: Browser, world: World, admin: Person
) -> None:
    add_run(world, "run-c", shown_cases(3))
    broker = services(world)
    with broker.database.read() as connection:
        blob_id = runs.find_intermediate(connection, "run-c", CASES)
    assert blob_id is not None
    broker.blobs.delete(blob_id)
    broker.database.close()
    path = f"/v1{at(world)}"
    admin.call("POST", path, json={"run_id": "run-c"}).raise_for_status()
    wait_for(lambda: admin.call("GET", f"{path}/run-c").json()["state"] == "failed", 60)
    with window(chromium, world.url, admin) as seen:
        seen.go(at(world, "run-c"))
        expect(seen.page.locator(".notice.bad")).to_be_visible()
        seen.look("review-failed")
