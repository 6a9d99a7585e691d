"""What withdrawals affected, some at a time: over HTTP, in the portal and at the console."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.console import granted
from broker.container import Broker
from broker.policy import Action
from broker.store import jobs, releases, runs
from tests.broker_world import World, make_world, running
from tests.people import in_session

COUNT = 23


@pytest.fixture(params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    with running(make_world(tmp_path, url=url), worker=False) as made:
        _fill(made)
        yield made


def _fill(world: World) -> None:
    """Releases of one run; every fifth has all its records still, one is not made yet."""
    broker = Broker.at(world.home)
    with broker.database.change() as connection:
        run = runs.RunRow(
            id="run-1", study_id=world.study_id, seed=1, epoch=1, inputs="{}", software="x",
            state="done", sequence=1, started_at=1, finished_at=1,
        )  # fmt: skip
        runs.add(connection, run)
        for number in range(COUNT + 1):
            row = jobs.JobRow(
                id=f"release-{number:02}",
                study_id=world.study_id,
                kind="release",
                run_id="run-1",
                request=json.dumps({"audience": ["enclave"]}),
                state="done" if number < COUNT else "running",
                asked_at=number,
                finished_at=1_000 + number // 2,
            )
            jobs.add(connection, row)
            if number % 5:
                gone = {"enclave": number, "imaging": number % 2}
                releases.set_affected(connection, row.id, gone, 2_000)
            if number % 2:
                releases.set_pin(connection, row.id, "enclave", "lung", holds=True, now=1)
                releases.set_pin(connection, row.id, "enclave", "heart", holds=True, now=1)
    broker.database.close()


def _names() -> list[str]:
    """What is affected, newest first; of those made in one second by name."""
    numbers = [number for number in range(COUNT) if number % 5]
    numbers.sort(key=lambda number: (-(number // 2), number))
    return [f"release-{number:02}" for number in numbers]


def test_pages_follow_one_another(world: World) -> None:
    wanted = _names()
    admin = world.actor("admin")
    every = admin.get(f"{world.path}/affected").raise_for_status().json()
    assert [one["id"] for one in every] == wanted
    seen = []
    for number in range(1, 6):
        found = admin.get(f"{world.path}/affected", limit=4, page=number).raise_for_status().json()
        seen += found
        assert len(found) == (4 if number < 5 else len(wanted) - 16)
    assert seen == every
    assert admin.get(f"{world.path}/affected", limit=4, page=6).json() == []
    for wrong in ({"limit": 0}, {"limit": 101}, {"page": 0}):
        assert admin.get(f"{world.path}/affected", **wrong).status_code == 422, wrong
    odd = next(one for one in every if one["id"] == "release-21")
    assert odd["withdrawn"] == {"enclave": 21, "imaging": 1}
    assert odd["since"] == {"enclave": 2_000, "imaging": 2_000}
    assert odd["pins"] == {"enclave": ["heart", "lung"]}
    even = next(one for one in every if one["id"] == "release-02")
    assert (even["withdrawn"], even["pins"]) == ({"enclave": 2}, {})
    broker = Broker.at(world.home)
    grant = granted(broker, Action.READ_AFFECTED, world.study_id)
    told, count = broker.releases.affected(grant)
    broker.database.close()
    assert (len(told), count) == (len(wanted), len(wanted)), "the console is told all"


def test_the_portal_shows_ten_at_a_time(world: World) -> None:
    ada = in_session(world.home, world.url, "ada", "admin").client
    at = f"/studies/{world.study_id}/releases/affected"
    wanted, seen = _names(), []
    for number in (1, 2):
        text = ada.get(at if number == 1 else f"{at}?page={number}").raise_for_status().text
        seen += re.findall(r"<h2>Release <code>([a-z0-9-]+)</code>", text)
        assert f"Page {number} of 2, {len(wanted)} in all" in text
        assert ("Older" in text, "Newer" in text) == (number == 1, number == 2)
    assert seen == wanted
    beyond = ada.get(f"{at}?page=9").text
    assert "There is no page 9" in beyond
    assert "Nothing is affected" not in beyond
