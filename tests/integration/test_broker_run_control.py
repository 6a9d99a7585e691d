"""Runs under way: cancelled, wherever they are, also around kill -9; foretold; decided anew."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from broker.container import Broker
from broker.decided_again import PAIRS
from broker.run_reuse import STAYING
from broker.store.engine import Database
from linkage.run_messages import RunRequest
from tests.broker_looks import Held, answer_all, everyone, held_by, make_look_world, upload, waits
from tests.broker_world import (
    PROGRAM,
    World,
    crash,
    make_world,
    packages,
    problem,
    running,
    wait_for,
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, new_postgres_url: Callable[[], str]) -> str | None:
    """Of the database; the tests of one world use it together."""
    return new_postgres_url() if request.param == "postgresql" else None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, url: str | None) -> Iterator[World]:
    made_here = make_world(tmp_path_factory.mktemp("runs"), url=url)
    with running(made_here, worker=False) as made:
        for package in packages(made).values():
            made.upload(package)
        yield made


def ask(world: World, **request: Any) -> dict[str, Any]:
    answer = world.actor("admin").post(f"{world.path}/runs", RunRequest(**request))
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def cancel(world: World, run_id: str) -> dict[str, Any]:
    answer = world.actor("admin").post(f"{world.path}/runs/{run_id}/cancel").raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def state(world: World, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = world.actor("admin").get(f"{world.path}/runs/{run_id}").json()
    return found


def console(world: World, *words: str) -> str:
    """Run `linkage-broker run` on the broker's machine; return what it says."""
    command = [PROGRAM, "run", *words, "--home", str(world.home.path)]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=120).stdout


def rows(world: World, sql: str, **values: object) -> list[Any]:
    with Database(world.home.database_url()).read() as connection:
        return list(connection.execute(text(sql), values))


def nothing_is_left(world: World, *run_ids: str) -> bool:
    """Of cancelled runs neither rows nor, once swept, blobs stay."""
    for run_id in run_ids:
        for table in ("look_request", "intermediate"):
            assert not rows(world, f"SELECT 1 FROM {table} WHERE run_id = :r", r=run_id)
    Broker.at(world.home).sweep(older_than=0.0)
    named = {
        one[0]
        for table in ("part", "intermediate")
        for one in rows(world, f"SELECT blob_id FROM {table}")
    }
    assert {path.name for path in world.home.blobs.glob("??/*")} == named
    return True


def finish(world: World, run_id: str, seconds: float = 120) -> dict[str, Any]:
    """Wait until a run has ended, though workers of this world were killed."""
    wait_for(lambda: state(world, run_id)["state"] not in ("queued", "running"), seconds)
    return state(world, run_id)


def test_cancelled_in_the_queue_and_under_way(world: World) -> None:
    """Also with a worker that dies in the middle of it, and one that comes after."""
    queued = ask(world, seed=1)["run_id"]
    assert cancel(world, queued)["state"] == "cancelled"
    assert cancel(world, queued)["state"] == "cancelled", "twice is once"
    assert problem(world.actor("imaging").post(f"{world.path}/runs/{queued}/cancel"))[0] == 403
    gone = [queued]
    for seed, stage, before in ((2, "open", True), (3, "candidates", False)):
        worker = world.work()
        run_id = ask(world, seed=seed)["run_id"]
        wait_for(lambda r=run_id, s=stage: s in state(world, r)["seconds"], 90)  # type: ignore[misc]
        if before:
            crash(worker)
        # Answered though no worker lives, or while one works: nobody is waited for.
        answer = world.actor("admin").post(f"{world.path}/runs/{run_id}/cancel")
        if not before:
            crash(worker)
        if answer.status_code == 200:  # else it was quicker
            gone.append(run_id)
    assert len(gone) >= 2
    worker = world.work()
    # The worker is well, and the same datasets give a result, though such a run was cancelled.
    done = finish(world, ask(world, seed=1)["run_id"])
    assert done["state"] == "done", done["failure"]
    assert done["run_id"] not in gone
    assert {state(world, one)["state"] for one in gone} == {"cancelled"}
    assert all(state(world, one)["report"] is None for one in gone)
    assert (
        problem(world.actor("admin").post(f"{world.path}/runs/{done['run_id']}/cancel"))[0] == 409
    )
    said = rows(world, "SELECT count(*) FROM audit WHERE entry LIKE '%run cancelled%'")
    assert said[0][0] == len(gone)
    assert nothing_is_left(world, *gone)


def test_what_a_run_would_do_and_what_it_was(world: World) -> None:
    """After the test above: there is a run of seed 1, and a worker."""
    told = json.loads(console(world, "start", world.study_id, "--dry-run", "--json", "--seed", "7"))
    assert told["would_start"]
    assert {one["uploader"]: one["state"] for one in told["datasets"]} == {
        "imaging": "linked", "enclave": "linked", "claims": "linked",
    }  # fmt: skip
    assert {one["records"] for one in told["datasets"]} == {120}
    # Two comparisons of 120 by 120 in one CLK, three null samples of half a square, and keys.
    assert 3 * 120 * 120 <= told["comparisons"] < 10_000_000
    assert (told["phases"], told["comparisons_second"]) == (1, 0)
    same = json.loads(console(world, "start", world.study_id, "--dry-run", "--json"))
    done = state(world, same["same_run"])
    assert (same["would_start"], done["state"]) == (False, "done")
    text = console(world, "show", world.study_id, done["run_id"])
    for words in ("Stages", "candidates", "imaging", "persons", "Estimates", "0.9 to 1.0"):
        assert words in text, words
    shown = json.loads(console(world, "show", world.study_id, done["run_id"], "--json"))
    assert shown == done
    wanted = shown["report"]["comparisons"][0]["wanted"]
    assert [one["wanted"] for one in wanted] == [0.95, 0.98, 0.99, 0.995, 0.999]
    assert [one["threshold"] for one in wanted] == sorted(one["threshold"] for one in wanted)
    assert len(rows(world, "SELECT 1 FROM run WHERE seed = 7")) == 0, "a dry run starts nothing"


def test_two_runs_side_by_side(world: World) -> None:
    """After the test before, which has a run done; the API and the console tell the same."""
    done = next(
        one["run_id"]
        for one in world.actor("admin").get(f"{world.path}/runs").json()
        if one["state"] == "done"
    )
    anew = finish(world, ask(world, of=done, precision=1.0)["run_id"])
    at, other = f"{world.path}/runs/{done}/comparison", {"with": anew["run_id"]}
    told = world.actor("admin").get(at, **other).raise_for_status().json()
    made_of = {one["what"]: (one["first"], one["second"]) for one in told["made_of"]}
    assert made_of == {
        "Wanted precision": ("the best F1", "1.0"),
        "Decides anew about": ("none", done),
    }
    figures = {(one["about"], one["figure"]): one for one in told["figures"]}
    report = anew["report"]
    assert figures["", "persons"]["second"] == report["persons"]
    assert figures["", "links"]["second"] == report["overall"]["chosen"]["links"]
    assert {about for about, figure in figures if figure == "recall"} == {
        "", *("+".join(one["parties"]) for one in report["comparisons"])
    }  # fmt: skip
    assert (told["gained"], told["lost"] > 0) == (0, True)
    round_about = world.actor("admin").get(
        f"{world.path}/runs/{anew['run_id']}/comparison", **{"with": done}
    )
    assert (round_about.json()["gained"], round_about.json()["lost"]) == (told["lost"], 0)
    uncounted = world.actor("admin").get(at, **other, links="false").json()
    assert uncounted == told | {"gained": None, "lost": None}
    both = ("compare", world.study_id, done, anew["run_id"])
    assert json.loads(console(world, *both, "--json")) == told
    shown = console(world, *both)
    assert f"Links that only the second has 0; only the first {told['lost']}." in shown
    assert problem(world.actor("imaging").get(at, **other))[0] == 403
    assert problem(world.actor("admin").get(at, **{"with": done}))[:2] == (409, "conflict")
    for strange in ("run-of-nobody", "NO"):
        answer = world.actor("admin").get(at, **{"with": strange})
        assert answer.status_code == (404 if strange == "run-of-nobody" else 422)


def test_a_dry_run_names_who_is_missing(tmp_path: Path) -> None:
    with running(make_world(tmp_path), worker=False) as world:
        made = packages(world)
        world.upload(made["imaging"])
        path = f"{world.path}/runs/dry-run"
        told = world.actor("admin").post(path, RunRequest()).raise_for_status().json()
        assert not told["would_start"]
        assert "claims" in told["refusal"]
        assert {one["uploader"]: one["state"] for one in told["datasets"]} == {
            "imaging": "linked", "enclave": "missing", "claims": "missing",
        }  # fmt: skip
        world.upload(made["enclave"])
        told = world.actor("admin").post(path, RunRequest(), allow_missing=True).json()
        assert told["would_start"]
        assert "has uploaded nothing" in console(world, "start", world.study_id, "--dry-run")
        assert world.actor("admin").get(f"{world.path}/runs").json() == []
        assert problem(world.actor("claims").post(path, RunRequest()))[0] == 403


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Held]:
    return held_by(tmp_path_factory.mktemp("people"))


@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_another_precision_is_a_whole_run_with_it(
    database: str, tmp_path: Path, held: dict[str, Held], new_postgres_url: Callable[[], str]
) -> None:
    """Of a run with a second look; one that waits for answers is cancelled meanwhile."""
    url = new_postgres_url() if database == "postgresql" else None
    with running(make_look_world(tmp_path, most_per_record=3, most_per_run=300, url=url)) as world:
        upload(world, held)
        sites = list(everyone(world, held).values())
        first = ask(world)["run_id"]
        wait_for(waits(world, first), 300)
        answer_all(sites, first)
        assert finish(world, first, 300)["state"] == "done"
        second = ask(world, precision=0.999, of=first)
        again = finish(world, second["run_id"])
        assert again["state"] == "done", again["failure"]
        assert again["of"] == first
        assert set(again["seconds"]) == {"open", "weights", "solve", "identity"}
        assert again["report"]["overall"]["wanted_precision"] == 0.999
        for one in again["report"]["comparisons"]:
            assert one["estimate"]["chosen"]["precision"] >= 0.999
        # Asked for in whole, it is the same run; without it there it gives the same result.
        assert ask(world, precision=0.999)["run_id"] == second["run_id"]
        whole = link_whole(world, sites)
        assert whole["result_digest"] == again["result_digest"]
        assert whole["report"]["overall"] == again["report"]["overall"]
        assert whole["report"]["second_look"]["before"] == again["report"]["second_look"]["before"]
        waiting = ask(world, seed=9)["run_id"]
        wait_for(waits(world, waiting), 300)
        assert cancel(world, waiting)["state"] == "cancelled"
        assert world.actor("imaging").get(f"{world.path}/second-looks").json() == []
        assert nothing_is_left(world, waiting)
        kept = {one[0] for one in rows(world, "SELECT DISTINCT name FROM intermediate")}
        assert {one for one in kept if not one.startswith(STAYING)} <= {*PAIRS}
        # New datasets: the pairs are of no use any more.
        upload(world, held, dataset=2)
        newer = ask(world, second_look=False)["run_id"]
        assert finish(world, newer, 300)["state"] == "done"
        assert {one[0] for one in rows(world, "SELECT DISTINCT run_id FROM intermediate")} == {
            newer
        }
        refused = world.actor("admin").post(
            f"{world.path}/runs", RunRequest(of=first, precision=0.9)
        )
        assert problem(refused)[:2] == (409, "conflict")


def link_whole(world: World, sites: list[Any]) -> dict[str, Any]:
    """Make the run with a precision of .999 in whole, as if none were there."""
    with Database(world.home.database_url()).change() as connection:
        connection.execute(text("UPDATE run SET software = 'x' WHERE of_run IS NOT NULL"))
    run_id = ask(world, precision=0.999)["run_id"]
    wait_for(waits(world, run_id), 300)
    answer_all(sites, run_id)
    ended = finish(world, run_id, 300)
    assert ended["state"] == "done", ended["failure"]
    return ended
