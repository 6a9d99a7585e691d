"""Link rates by group in a real browser: what is told, what is too few, and who sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from tests.broker_world import World, make_world, running
from tests.browser.looking import person, window
from tests.strata_world import MARKED, marked_packages

N = 1_000
PEOPLE = {"imaging": range(N), "enclave": range(N // 2, N + N // 2), "claims": range(N, N + 60)}


def groups_of(people: np.ndarray) -> Sequence[np.ndarray]:
    """Of the black people in imaging few are in the enclave, too; asian there is nobody."""
    race = np.where(people < N // 2, np.where(people % 10 < 6, 2, 3), np.where(people % 10, 3, 2))
    return people % 2 + 1, race


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("strata-pages"), text=MARKED)) as made:
        yield made


def test_groups_that_are_behind_are_seen_by_the_admin_alone(
    chromium: Browser, world: World
) -> None:
    plain = marked_packages(world, PEOPLE, groups_of, plain=tuple(PEOPLE))
    for package in plain.values():
        world.upload(package)
    without = world.run()["run_id"]
    marked = marked_packages(world, PEOPLE, groups_of, dataset=2, plain=("claims",))
    for uploader in ("imaging", "enclave"):
        world.upload(marked[uploader])
    run = world.run()["run_id"]
    at = f"/studies/{world.study_id}/runs"
    with window(chromium, world.url, person(world, "ada", "admin")) as seen:
        page = seen.go(f"/studies/{world.study_id}")
        expect(page.get_by_text("the odds between two groups shift")).to_be_visible()
        page = seen.go(f"{at}/{without}")
        card = page.locator("#groups")
        expect(card).to_contain_text("no site sends any")
        expect(card).to_contain_text("[strata] send = true")
        seen.look("run-groups-none-sent")

        page = seen.go(f"{at}/{run}")
        card = page.locator("#groups")
        expect(card.get_by_role("heading", name="Link rate by group")).to_be_visible()
        warned = card.locator(".notice")
        expect(warned).to_contain_text("fewer of \u201cblack or african american\u201d (race)")
        expect(warned).to_contain_text("linkage-site profile")
        expect(card).to_contain_text("Without marks: claims.")
        expect(card).to_contain_text("Nobody here knows who is in which group")
        drawn = card.get_by_role("img", name="race in imaging: share linked of each group")
        expect(drawn).to_be_visible()
        expect(drawn).to_contain_text("everybody 50")
        race = card.locator("div", has=page.get_by_role("heading", name="By race")).last
        race.get_by_text("The same as a table").click()
        row = race.get_by_role("row", name="asian")
        expect(row).to_contain_text("too few to say")
        seen.look("run-groups")
        seen.printed("run-groups")

    # The essentials without scripts; and nobody but the admin sees a figure.
    with window(chromium, world.url, person(world, "bo", "admin"), scripts=False) as seen:
        page = seen.go(f"{at}/{run}")
        expect(page.locator("#groups .notice")).to_contain_text("fewer of")
    with window(chromium, world.url, person(world, "cy", "steward:STUDY:imaging")) as seen:
        page = seen.go(f"{at}/{run}")
        expect(page.locator("#groups")).to_have_count(0)
        expect(page.locator("main")).not_to_contain_text("african american")
    with window(chromium, world.url, person(world, "di", "researcher:STUDY")) as seen:
        assert seen.page.goto(f"{world.url}{at}/{run}").status in (403, 404)
