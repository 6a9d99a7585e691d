"""The fault drill in short: `make drill` runs it whole. Every named point exists, and is passed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.drill import faults
from tests.drill.kills import plan
from tests.drill.points import POINTS
from tests.isolated import CHECKOUT


@pytest.mark.parametrize("point", POINTS, ids=lambda one: f"{one.target}: {one.name}")
def test_every_named_point_is_in_the_code(point: object) -> None:
    owner, name = point.found()  # type: ignore[attr-defined]
    assert callable(getattr(owner, name))


def test_the_same_seed_draws_the_same_kills() -> None:
    drawn = plan(200, 1)
    assert drawn == plan(200, 1) != plan(200, 2)
    # Every point and every phase comes up, and both processes at once.
    assert {one.point[0] for one in drawn if one.point} == set(range(len(POINTS)))
    assert {one.phase for one in drawn if not one.point} == {"upload", "run", "release"}
    assert {one.targets for one in drawn} >= {("server",), ("worker",), ("server", "worker")}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_six_kills_change_nothing() -> None:
    command = [sys.executable, "-m", "tests.drill", "--kills", "6", "--seed", "7"]
    done = subprocess.run(
        [*command, "--database", "sqlite", "--no-faults"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["kills"], told["lost"], told["duplicates"]) == (6, 0, 0)
    assert told["digest_equal"] is True


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("what", ["blobs", "database", "workflows"])
def test_a_full_disk_is_survived(what: str) -> None:
    found = faults.survived(lambda: faults.full_disk(what))
    if found["ok"] is None:
        pytest.skip(found["skipped"])
    assert found["ok"] is True, found


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_wrong_clock_is_survived(seconds: int) -> None:
    found = faults.survived(lambda: faults.wrong_clock(seconds))
    if found["ok"] is None:
        pytest.skip(found["skipped"])
    assert found["ok"] is True, found
