"""
Schemathesis over real HTTP, as a stranger and as each kind of caller: no 5xx, nothing answered
without a token, every answer as /openapi.json describes it. `make fuzz` goes on for longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker_world import World
from tests.fuzz.examine import Found, examine
from tests.fuzz.world import CALLERS, PEOPLE_AS, furnished


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with furnished(tmp_path_factory.mktemp("schema")) as made:
        yield made


def require_clean(found: Found) -> None:
    report = found.report
    assert not found.bad, found.text[-8000:]
    assert {one["status"] for one in report["phases"].values()} <= {"success", "skip"}
    assert report["phases"]["coverage"]["status"] == "success"
    assert report["phases"]["stateful"]["status"] == "success"
    seen = report["operations"]
    # A person does not end the session by which it is examined.
    left = int(found.caller in PEOPLE_AS)
    assert seen["tested"] == seen["selected"] == seen["total"] - left >= 30


def accepted(found: Found) -> int:
    """Return how many operations did what was asked at least once."""
    rates = found.report["valid_rates"].values()
    return sum(any(one["accepted"] for one in phases.values()) for phases in rates)


@pytest.mark.threat("P05")
@pytest.mark.parametrize(("caller", "least"), [("stranger", 1), ("admin", 10), ("imaging", 8)])
def test_the_description_holds(world: World, tmp_path: Path, caller: str, least: int) -> None:
    """Every phase, thinned out; what is sent depends on the description alone."""
    found = examine(world, caller, tmp_path, examples=1, every=12)
    require_clean(found)
    assert accepted(found) >= least


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("caller", CALLERS)
def test_the_description_holds_for_everybody(world: World, tmp_path: Path, caller: str) -> None:
    require_clean(examine(world, caller, tmp_path, examples=5, every=2))
