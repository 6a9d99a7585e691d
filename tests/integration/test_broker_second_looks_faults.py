"""Second looks that something comes between: kills, and two workers."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from broker.store.engine import Database
from linkage.run_messages import RunRequest
from tests.broker_looks import Held, answer_all, everyone, held_by, make_look_world, upload, waits
from tests.broker_world import World, crash, running, wait_for


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Held]:
    return held_by(tmp_path_factory.mktemp("people"))


def start(world: World, **request: Any) -> str:
    answer = world.actor("admin").post(f"{world.path}/runs", RunRequest(**request))
    return str(answer.raise_for_status().json()["run_id"])


def finish(world: World, run_id: str) -> dict[str, Any]:
    return world.finish(f"{world.path}/runs/{run_id}", 300)


def stage(world: World, run_id: str) -> str:
    return str(world.actor("admin").get(f"{world.path}/runs/{run_id}").json()["stage"])


def kill(world: World, worker: subprocess.Popen[bytes]) -> None:
    crash(worker)
    world.processes.remove(worker)


def told(ended: dict[str, Any]) -> dict[str, Any]:
    """What a run says of itself, without its times and the memory of its last worker."""
    assert ended["state"] == "done", ended["failure"]
    report: dict[str, Any] = ended["report"]
    report["second_look"].pop("waited_seconds")
    report.pop("person_changes")
    report.pop("worker_mib")
    return {"digest": ended["result_digest"], **report}


def events(world: World, run_id: str) -> Counter[str]:
    """How often each thing was done about a run, by the audit log."""
    log = world.actor("admin").get("/v1/audit", limit=1000).json()
    return Counter(e["action"] for e in log if e["subject"] == run_id)


def forget_sameness(world: World) -> None:
    """Let the same datasets and seed be linked once more."""
    with Database(world.home.database_url()).change() as connection:
        connection.execute(text("UPDATE run SET software = 'an earlier one'"))


def test_kills_while_it_asks_waits_and_looks_change_nothing(
    tmp_path: Path, held: dict[str, Held]
) -> None:
    world = make_look_world(tmp_path, most_per_run=60)
    with running(world, worker=False):
        upload(world, held)
        sites = list(everyone(world, held).values())
        worker = world.work()
        first = start(world)
        wait_for(waits(world, first), 300)
        answer_all(sites, first)
        expected = told(finish(world, first))
        forget_sameness(world)
        run_id = start(world)
        assert run_id != first
        # While it asks.
        wait_for(lambda: stage(world, run_id) in ("weights", "second look"), 300)
        kill(world, worker)
        worker = world.work()
        wait_for(waits(world, run_id), 300)
        # While it waits: with one answer unread, and the others sent to nobody.
        answer_all(sites[:1], run_id)
        kill(world, worker)
        answer_all(sites[1:], run_id)
        shown = world.actor("admin").get(f"{world.path}/second-looks").json()
        assert {one["state"] for one in shown} <= {"sent", "accepted"}
        worker = world.work()
        # While it looks.
        wait_for(lambda: events(world, run_id)["second look over"] == 1, 300)
        kill(world, worker)
        world.work()
        assert told(finish(world, run_id)) == expected
        done = events(world, run_id)
        assert done["second look asked"] == done["second look over"] == done["run done"] == 1
        assert done["second look answer accepted"] == 3


def test_two_workers_tend_one_run_and_one_does_each_thing(
    tmp_path: Path, held: dict[str, Held], new_postgres_url: Callable[[], str]
) -> None:
    world = make_look_world(tmp_path, most_per_run=60, url=new_postgres_url())
    with running(world, worker=False):
        upload(world, held)
        sites = everyone(world, held)
        workers = [world.work(f"worker-{n}") for n in (1, 2)]
        liar = sites["claims"]
        for seed in (1, 2):
            run_id = start(world, seed=seed)
            wait_for(waits(world, run_id), 300)
            assert liar.put(run_id, liar.sealed(run_id, b"nothing")).status_code == 201
            wait_for(lambda at=run_id: liar.state(at).state == "refused", 300)
            answer_all(list(sites.values()), run_id)
            ended = finish(world, run_id)
            assert ended["state"] == "done", ended["failure"]
            assert sorted(ended["report"]["second_look"]["answered"]) == sorted(sites)
            done = events(world, run_id)
            assert done["second look asked"] == done["second look over"] == 1
            assert done["second look answer accepted"] == 3
            assert done["second look answer refused"] == 1
        assert all(worker.poll() is None for worker in workers)
