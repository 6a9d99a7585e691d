"""A study links again: only what is new is compared, with the result of a run from nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from broker.store.engine import Database
from linkage.matching.dataset import Dataset
from linkage.matching.engine import link
from linkage.records import EncodedRecords, FixedColumn
from linkage.run_messages import RunRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import World, crash, make_world, running, wait_for

PEOPLE = 300
NEW = 10
Held = dict[str, EncodedRecords]


@pytest.fixture(params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    with running(make_world(tmp_path, url=url), worker=False) as made:
        yield made


def send(world: World, held: Held, *, dataset: int = 1) -> None:
    for party, people in held.items():
        package = pack(
            world.signed,
            world.identities[party],
            people,
            dataset=dataset,
        )
        world.upload(package).raise_for_status()


def from_nothing(world: World, held: Held) -> str:
    """The digest of linking all at once, in memory."""
    study = world.signed.study
    datasets = [
        Dataset(party.id, held[party.id], {r.id: 0 for r in study.rules_of(party)})
        for party in study.party
    ]
    return link(datasets, seed=1).digest


def kept(world: World, run_id: str = "%") -> int:
    """How many intermediate results of finished runs tell what was compared."""
    wanted = text(
        "SELECT count(*) FROM intermediate JOIN run ON run.id = run_id"
        " WHERE run.id LIKE :run AND (name LIKE 'compared-%' OR name LIKE 'cover-%')"
    )
    database = Database(world.home.database_url())
    try:
        with database.read() as connection:
            return int(connection.execute(wanted, {"run": run_id}).scalar() or 0)
    finally:
        database.close()


def part(world: World, i: int, first: int) -> EncodedRecords:
    """Of the people that a party ever holds some; who is in two versions is the same in both."""
    start = i * PEOPLE // 3
    party = world.signed.study.party[i].id
    whole = encoded(world.signed, party, range(start, start + PEOPLE + NEW))
    rows = np.arange(first, first + PEOPLE)
    clks, keys = (
        {n: FixedColumn(c.values[rows], c.present[rows]) for n, c in columns.items()}
        for columns in (whole.clks, whole.match_keys)
    )
    groups = np.arange(PEOPLE, dtype=np.uint32)
    return EncodedRecords(whole.pseudonyms[rows], groups, clks, keys)


def everyone(world: World) -> Held:
    return {party.id: part(world, i, 0) for i, party in enumerate(world.signed.study.party)}


def renewed(world: World, held: Held) -> Held:
    """A party leaves out ten people and has ten new ones."""
    number = [party.id for party in world.signed.study.party].index("enclave")
    new = {"enclave": part(world, number, NEW)}
    send(world, new, dataset=2)
    return held | new


def test_a_new_version_is_compared_with_all_and_nothing_else(world: World) -> None:
    held = everyone(world)
    send(world, held)
    world.work()
    first = world.run(seed=1)
    assert first["state"] == "done", first["failure"]
    whole = first["report"]["reuse"]["comparisons"]
    assert whole > 3 * PEOPLE**2
    assert first["report"]["reuse"]["reused"] == 0
    assert kept(world) == kept(world, first["run_id"]) > 0

    held = renewed(world, held)
    second = world.run(seed=1)
    assert second["state"] == "done", second["failure"]
    assert second["result_digest"] == from_nothing(world, held) != first["result_digest"]
    told = second["report"]["reuse"]
    # New ones with everybody of two other parties and of their own.
    assert whole * 0.9 < told["comparisons"] < whole * 1.1
    assert 0 < told["comparisons"] - told["reused"] <= 6 * NEW * PEOPLE
    # What the first run told has gone; nothing is kept twice.
    assert kept(world) == kept(world, second["run_id"]) > 0

    world.withdraw("imaging").raise_for_status()
    assert kept(world) == 0


def test_what_a_killed_worker_compared_is_told_whole(tmp_path: Path) -> None:
    with running(make_world(tmp_path), worker=False) as world:
        held = everyone(world)
        send(world, held)
        worker = world.work()
        path = f"{world.path}/runs/{start(world)}"
        wait_for(lambda: kept(world) > 0, 120)
        crash(worker)
        world.processes.remove(worker)
        world.work()
        first = world.finish(path, 120)
        assert first["state"] == "done", first["failure"]
        held = renewed(world, held)
        second = world.run(seed=1)
        assert second["state"] == "done", second["failure"]
        assert second["result_digest"] == from_nothing(world, held)
        assert second["report"]["reuse"]["reused"] > 0.9 * second["report"]["reuse"]["comparisons"]


def start(world: World) -> str:
    answer = world.actor("admin").post(f"{world.path}/runs", RunRequest(seed=1))
    run_id: str = answer.raise_for_status().json()["run_id"]
    return run_id
