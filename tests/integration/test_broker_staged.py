"""Large runs, made in two phases by the broker: the same result as in memory, whoever dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.store.engine import Database
from linkage.matching.dataset import Dataset
from linkage.matching.engine import link
from linkage.run_messages import RunRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import World, crash, make_world, running, wait_for

PEOPLE = 400
AFFORDABLE = 1_000
"""Comparisons up to which these runs compare all pairs: they have 480,000."""


def staged_world(folder: Path, url: str | None = None) -> World:
    world = make_world(folder, url=url)
    config = world.home.path / "config.toml"
    config.write_text(config.read_text() + f"\n[worker]\naffordable_comparisons = {AFFORDABLE}\n")
    return world


def people_of(i: int) -> range:
    return range(i * PEOPLE // 2, i * PEOPLE // 2 + PEOPLE)


def digest(world: World, affordable: int = AFFORDABLE) -> str:
    """The digest of the same linkage in memory."""
    study = world.signed.study
    datasets = [
        Dataset(
            p.id, encoded(world.signed, p.id, people_of(i)), {r.id: 0 for r in study.rules_of(p)}
        )
        for i, p in enumerate(study.party)
    ]
    return link(datasets, seed=1, affordable=affordable).digest


def start(world: World) -> str:
    """Upload what every party has, queue a run and return its path."""
    for i, party in enumerate(world.signed.study.party):
        records = encoded(world.signed, party.id, people_of(i))
        world.upload(pack(world.signed, world.identities[party.id], records))
    answer = world.actor("admin").post(f"{world.path}/runs", RunRequest(seed=1))
    return f"{world.path}/runs/{answer.raise_for_status().json()['run_id']}"


def second_phase_is_planned(world: World) -> bool:
    with Database(world.home.database_url()).read() as connection:
        named = text("SELECT count(*) FROM intermediate WHERE name = 'plan-whole'")
        return bool(connection.execute(named).scalar())


@pytest.mark.threat("P01")
def test_a_worker_killed_in_the_second_phase_goes_on_where_it_stopped(tmp_path: Path) -> None:
    world = staged_world(tmp_path)
    with running(world, worker=False):
        path = start(world)
        admin = world.actor("admin")
        reached = (
            lambda: admin.get(path).json()["stage"] == "candidates of the rest",
            lambda: second_phase_is_planned(world),
        )
        for until in reached:
            worker = world.work()
            wait_for(until, 240)
            crash(worker)
            world.processes.remove(worker)
            assert admin.get(path).json()["state"] == "running"
        world.work()
        ended = world.finish(path, 240)
        assert (ended["state"], ended["result_digest"]) == ("done", digest(world)), ended["failure"]
        assert "candidates of the rest" in ended["seconds"]
        # Every chunk counts once, also those that were done twice.
        work = ended["work"]
        assert (work["phase"], work["phases"]) == (2, 2)
        assert work["chunks_done"] == work["chunks"] == 6  # cross and sample of three comparisons
        assert work["comparisons_done"] == work["comparisons"]
        assert work["pairs_found"] > 0
        assert [one["parties"] for one in ended["report"]["losses"]] == [
            ["claims", "enclave"],
            ["claims", "imaging"],
            ["enclave", "imaging"],
        ]
        assert all(0 <= one["low"] <= one["high"] <= 1 for one in ended["report"]["losses"])
        # Two phases compare fewer pairs, and are no other way to say the same.
        assert ended["report"]["pairs_compared"] < 3 * PEOPLE**2


def test_two_workers_share_a_staged_run(
    tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    world = staged_world(tmp_path, new_postgres_url())
    with running(world, worker=False):
        path = start(world)
        world.work("worker-1")
        world.work("worker-2")
        ended = world.finish(path, 240)
        assert (ended["state"], ended["result_digest"]) == ("done", digest(world)), ended["failure"]
