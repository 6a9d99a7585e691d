"""
What the pages of runs show of runs that a test cannot wait for: under way in two phases, waiting
for sites, failed, huge, hundreds of them. Their rows are put in place; no worker is there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from broker.services.runs import SOFTWARE
from broker.store import runs, second_looks
from linkage.matching.estimates import below, estimate, points_for
from tests.broker_world import World, make_world, running
from tests.browser.looking import person, services, window

PARTIES = tuple(f"hospital-number-{number}" for number in range(1, 10))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("run-states")), worker=False) as made:
        yield made


def put(world: World, number: int, **columns: Any) -> str:
    """Put a run in place, the larger its number the newer."""
    row = runs.RunRow(
        id=f"run-{number:016x}",
        study_id=world.study_id,
        seed=number,
        epoch=1,
        inputs=json.dumps({"imaging": 1, "enclave": 2, "claims": 1}),
        software=SOFTWARE,
        started_at=1_790_000_000 + 60 * number,
        **columns,
    )
    broker = services(world)
    with broker.database.change() as connection:
        runs.add(connection, row)
        runs.beat(connection, "worker-1", time.time())
    broker.database.close()
    return row.id


def huge_report() -> dict[str, Any]:
    """A report as broker.results makes it, of a million records of nine hospitals."""
    draw = np.random.default_rng(3)
    sure, chance = draw.beta(40, 1, 200_000), draw.beta(1, 30, 300_000)
    found = np.concatenate([sure, chance])
    made = estimate(sure, found, 205_000.0, spread=300.0)
    wanted = (0.95, 0.98, 0.99, 0.995, 0.999)
    rows = np.arange(len(found))
    plain = made.to_json() | {"below": [_plain(one) for one in below(found, made)]}
    names = sorted(PARTIES)
    sets = {
        "+".join(one for i, one in enumerate(names) if mask >> i & 1): int(1_000_000 / mask**0.9)
        for mask in range(1, 1 << len(names), 3)
    }
    points = points_for(rows, rows, found, made, wanted)
    return {
        "records": dict.fromkeys(names, 1_234_567),
        "people": dict.fromkeys(names, 1_200_000),
        "candidates": len(found),
        "overall": plain,
        "comparisons": [
            {
                "parties": [one, other],
                "estimate": plain,
                "wanted": [{"wanted": w, **_plain(p)} for w, p in zip(wanted, points, strict=True)],
            }
            for i, one in enumerate(names)
            for other in names[i + 1 :]
        ],
        "persons": sum(sets.values()),
        "overlaps": sets,
        "cluster_sizes": {str(size): 10_000_000 // size**3 for size in range(1, 31)},
        "warnings": [f"party {one!r} has no records" for one in names],
        "worker_mib": 2900,
        "second_look": {"pairs_asked": 0, "reason": "the study's last day has passed"},
        "losses": [],
        "links": {"keys and CLK": 1_000_000, "CLK only": 20_000},
    }


def _plain(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def test_a_huge_run_can_be_read(chromium: Browser, world: World) -> None:
    one = put(
        world, 1, state="done", stage="identity", sequence=1, report=json.dumps(huge_report())
    )
    two = put(
        world, 5, state="done", stage="identity", sequence=2, report=json.dumps(huge_report())
    )
    with window(chromium, world.url, person(world, "hugo", "admin")) as seen:
        page = seen.go(f"/studies/{world.study_id}/runs/{one}")
        page.get_by_label("Estimates of").select_option(label=" and ".join(PARTIES[1:3]))
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_text("What a wanted precision would take")).to_be_visible()
        expect(page.get_by_role("heading", name="Who is where")).to_be_visible()
        expect(page.locator("svg.upset .on").first).to_be_visible()
        expect(page.get_by_text("1 record", exact=True).first).to_be_visible()
        slider = page.get_by_label("Link threshold")
        slider.focus()
        page.keyboard.press("End")
        expect(page.locator("[data-out=links]")).to_contain_text("fewer than this run has")
        page.keyboard.press("Home")
        seen.look("run-huge")
        seen.printed("run-huge")
        page = seen.go(f"/studies/{world.study_id}/runs/compare?a={one}&b={two}")
        page.get_by_text("By two parties").first.click()
        page.get_by_text("Persons by the datasets that hold them").first.click()
        expect(page.get_by_text(re.compile("smaller combinations more"))).to_be_visible()
        seen.look("run-compare-huge")


def test_a_run_under_way_says_how_far_it_is_and_what_it_waits_for(
    chromium: Browser, world: World
) -> None:
    work = {
        "stage": "candidates", "phase": 1, "phases": 2, "chunks_done": 30, "chunks": 90,
        "pairs_found": 812_345, "comparisons_done": 400_000_000_000,
        "comparisons": 1_200_000_000_000, "done": 400, "all": 1200,
    }  # fmt: skip
    at = f"/studies/{world.study_id}/runs"
    seconds = {"open": 75.2, "candidates": 1800.0}
    compares = put(
        world, 2, state="running", stage="candidates", progress=0.33, looks=1,
        seconds=json.dumps(seconds), work=json.dumps(work),
    )  # fmt: skip
    asks = put(world, 3, state="running", stage="second look", progress=0.5, looks=1)
    broker = services(world)
    with broker.database.change() as connection:
        until = time.time() + 86_400
        asked = [
            second_looks.RequestRow(
                run_id=asks, uploader=one, blob_id=one, size=9, digest="0" * 64, questions=120,
                state=said,
            )
            for one, said in (("imaging", second_looks.ACCEPTED), ("enclave", second_looks.ASKED))
        ]  # fmt: skip
        look = second_looks.LookRow(run_id=asks, asked_at=time.time(), until=until)
        second_looks.add(connection, look, asked)
    with window(chromium, world.url, person(world, "wanda", "admin")) as seen:
        page = seen.go(f"{at}/{compares}")
        expect(page.get_by_text("60 min").or_(page.get_by_text("1 h", exact=True))).to_be_visible()
        expect(page.get_by_text("400 billion of 1.2 trillion")).to_be_visible()
        expect(page.get_by_text("first of two phases")).to_be_visible()
        seen.look("run-running")
        # The live part follows by itself, and leaves the rest of the page alone.
        page.get_by_text("Cancel the run…").click()
        page.get_by_label("To go on, type the name of the run").fill("half")
        with broker.database.change() as connection:
            runs.change(connection, compares, progress=0.5)
        expect(page.get_by_text("50 % of this stage is done.")).to_be_visible()
        assert page.get_by_label("To go on, type the name of the run").input_value() == "half"
        with broker.database.change() as connection:
            hint = "'enclave', part 2: it was altered. Hint: have it submitted again"
            runs.change(
                connection, compares, state="failed", failure=hint, finished_at=1_790_005_000
            )
        expect(page.get_by_text("have it submitted again", exact=False)).to_be_visible()
        seen.look("run-failed")

        page = seen.go(f"{at}/{asks}")
        expect(page.get_by_text("It waits for the agent of enclave")).to_be_visible()
        seen.look("run-asking")
        page.get_by_role("button", name="Go on without").click()
        expect(page.get_by_text("The run waits no longer")).to_be_visible()
        expect(page.get_by_text("went on without", exact=True)).to_be_visible()
    broker.database.close()
    with window(chromium, world.url, person(world, "stella", "steward:STUDY:imaging")) as seen:
        page = seen.go(f"{at}/{asks}")
        expect(page.get_by_text("Is your own agent running?")).to_be_visible()
        assert "enclave" not in page.locator("main").inner_text(), "who is silent is the admin's"
        seen.look("run-asking-steward")
        page = seen.go(f"{at}/{compares}")
        expect(page.get_by_text("the broker's admin can read why")).to_be_visible()
        assert "altered" not in page.content()


def test_many_runs_come_by_pages(chromium: Browser, world: World) -> None:
    broker = services(world)
    with broker.database.change() as connection:
        for number in range(100, 145):
            row = runs.RunRow(
                id=f"run-{number:016x}", study_id=world.study_id, seed=number, epoch=1,
                inputs=json.dumps({"imaging": 1, "enclave": 2, "claims": 1}), software=SOFTWARE,
                state=("cancelled", "failed", "queued")[number % 3], precision=0.99,
                started_at=1_795_000_000 + 60 * number,
            )  # fmt: skip
            runs.add(connection, row)
    broker.database.close()
    at = f"/studies/{world.study_id}/runs"
    with window(chromium, world.url, person(world, "petra", "admin"), scripts=False) as seen:
        page = seen.go(at)
        names: list[str] = []
        while True:
            names += page.locator("tbody th").all_inner_texts()
            older = page.get_by_role("link", name="Older runs")
            if not older.count():
                break
            older.click()
            page.wait_for_load_state()
        # Those of the tests above are there, too, where these ran.
        assert len(names) == len(set(names)) >= 45
        assert names == sorted(names, reverse=True)
        page.get_by_role("link", name="Newest runs").click()
        expect(page.locator("tbody th").first).to_have_text(names[0])
    with window(chromium, world.url, person(world, "piet", "admin")) as seen:
        seen.go(at)
        seen.look("runs-many")
        assert seen.go(f"{at}?before=run-0").get_by_role("heading", level=1).is_visible()
