"""kill -9 of the worker in the middle of a run, then restart: the same result, nothing twice."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.container import Broker
from broker.decided_again import PAIRS
from broker.run_reuse import STAYING
from broker.store.engine import Database
from linkage.matching.dataset import Dataset
from linkage.matching.engine import link
from linkage.run_messages import RunRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import World, crash, make_world, running, wait_for

PEOPLE = 250


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("crash")), worker=False) as made:
        yield made


@pytest.fixture(scope="module")
def expected(world: World) -> str:
    return digest(world)


def digest(world: World) -> str:
    """The digest of the same linkage without broker, database, processes or crash."""
    study = world.signed.study
    datasets = [
        Dataset(
            p.id, encoded(world.signed, p.id, people_of(i)), {r.id: 0 for r in study.rules_of(p)}
        )
        for i, p in enumerate(study.party)
    ]
    return link(datasets, seed=1).digest


def people_of(i: int) -> range:
    return range(i * PEOPLE // 2, i * PEOPLE // 2 + PEOPLE)


def start_run(world: World, version: int) -> str:
    """Upload every party's version `version`, the same people each time, and queue a run."""
    for i, party in enumerate(world.signed.study.party):
        records = encoded(world.signed, party.id, people_of(i))
        sender = world.identities[party.id]
        world.upload(pack(world.signed, sender, records, dataset=version))
    answer = world.actor("admin").post(f"{world.path}/runs", RunRequest(seed=1))
    return str(answer.raise_for_status().json()["run_id"])


def at_stage(world: World, run_id: str) -> str:
    return str(world.actor("admin").get(f"{world.path}/runs/{run_id}").json()["stage"])


def finished(world: World, run_id: str) -> dict[str, object]:
    return world.finish(f"{world.path}/runs/{run_id}", 90)


def restart(world: World, worker: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    crash(worker)
    world.processes.remove(worker)
    return world.work()


@pytest.mark.threat("P01")
def test_a_killed_worker_goes_on_where_it_stopped(world: World, expected: str) -> None:
    run_id = start_run(world, 1)
    worker = world.work()
    wait_for(lambda: at_stage(world, run_id) in ("candidates", "weights"), 60)
    worker = restart(world, worker)
    assert world.actor("admin").get(f"{world.path}/runs/{run_id}").json()["state"] == "running"
    ended = finished(world, run_id)
    crash(worker)
    world.processes.remove(worker)
    assert (ended["state"], ended["result_digest"]) == ("done", expected), ended["failure"]
    assert nothing_is_left(world, run_id)
    # A step that had finished before the kill was not done again.
    assert times_started(world, run_id) == 1


def test_another_worker_takes_over_from_one_that_stays_away(
    tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    """Two workers on PostgreSQL; the one that has the run dies and is not started again."""
    world = make_world(tmp_path, url=new_postgres_url())
    config = world.home.path / "config.toml"
    config.write_text(
        config.read_text() + "\n[worker]\ntake_over_seconds = 2\nheartbeat_seconds = 0.5\n"
    )
    with running(world, worker=False):
        run_id = start_run(world, 1)
        doomed = world.work("worker-1")
        wait_for(lambda: at_stage(world, run_id) in ("candidates", "weights"), 60)
        crash(doomed)
        world.processes.remove(doomed)
        world.work("worker-2")
        ended = finished(world, run_id)
        assert (ended["state"], ended["result_digest"]) == ("done", digest(world))
        assert times_started(world, run_id) == 1
        assert "took over work" in (world.home.path / "worker-2.log").read_text()


def test_what_another_version_left_half_done_fails_with_a_remedy(tmp_path: Path) -> None:
    """A new version might misread it; it must not wait for ever either."""
    world = make_world(tmp_path)
    with running(world, worker=False):
        run_id = start_run(world, 1)
        old = world.work()
        wait_for(lambda: at_stage(world, run_id) != "", 60)
        crash(old)
        world.processes.remove(old)
        with Database(world.home.workflow_url()).change() as connection:
            connection.execute(text("UPDATE workflow_status SET application_version = '0'"))
        world.work()
        ended = finished(world, run_id)
        assert ended["state"] == "failed"
        assert "software was changed in the middle of it" in str(ended["failure"])


@pytest.mark.threat("P01")
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kills_at_many_random_points_change_nothing(world: World, expected: str) -> None:
    drawn = random.Random(20261121)
    worker = world.work()
    for version in range(10, 26):
        run_id = start_run(world, version)
        for _ in range(drawn.randint(1, 4)):
            time.sleep(drawn.uniform(0.0, 4.5))
            worker = restart(world, worker)
        ended = finished(world, run_id)
        assert (ended["state"], ended["result_digest"]) == ("done", expected), ended["failure"]
        assert nothing_is_left(world, run_id)
    crash(worker)
    world.processes.remove(worker)
    with Database(world.home.database_url()).read() as connection:
        records = connection.execute(text("SELECT count(*) FROM membership")).scalar()
        persons = connection.execute(text("SELECT count(*) FROM person")).scalar()
    # The same people every time: adding the same again made no record and no person twice.
    assert records == 3 * PEOPLE
    assert persons == len({p for i in range(3) for p in people_of(i)}) + missed(world)


def missed(world: World) -> int:
    """How many true pairs the linkage does not link; each leaves one person more."""
    admin, runs = world.actor("admin"), f"{world.path}/runs"
    run = admin.get(f"{runs}/{admin.get(runs).json()[0]['run_id']}").json()
    people = len({p for i in range(3) for p in people_of(i)})
    return int(run["report"]["persons"]) - people


def nothing_is_left(world: World, run_id: str) -> bool:
    """Only the weighed pairs stay of a run, and once swept no blob that nothing names."""
    with Database(world.home.database_url()).read() as connection:
        mine = text("SELECT name FROM intermediate WHERE run_id = :r")
        named = set(connection.execute(mine, {"r": run_id}).scalars())
        parts = {
            blob_id
            for table in ("part", "intermediate")
            for blob_id in connection.execute(text(f"SELECT blob_id FROM {table}")).scalars()
        }
    Broker.at(world.home).sweep(older_than=0.0)
    folder: Path = world.home.blobs
    named = {one for one in named if not one.startswith(STAYING)}
    return named <= {*PAIRS} and {path.name for path in folder.glob("??/*")} == parts


def times_started(world: World, run_id: str) -> int:
    """How often the run's first step was done, by the audit log."""
    log = world.actor("admin").get("/v1/audit", limit=1000).json()
    return sum(e["action"] == "run started" and e["subject"] == run_id for e in log)
