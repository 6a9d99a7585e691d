"""kill -9 of server and worker at random points of uploads, runs and releases."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from broker.store.engine import Database
from tests.broker_world import wait_for
from tests.drill import ledger
from tests.drill.points import POINTS, Target
from tests.drill.stand import Stand, standing
from tests.drill.workload import PATIENCE_SECONDS, Workload

_ROUNDS, _NOT_PASSED_SECONDS = 2, 120.0
"""A point that is not passed by then is not passed: the process is killed where it is."""


@dataclass(frozen=True, slots=True)
class Kill:
    """
    Kill one process, or both at once. point: number and passing; without it, in `phase`, after
    `requests` more requests and `seconds`.
    """

    targets: tuple[Target, ...]
    point: tuple[int, int] | None = None
    phase: str = ""
    requests: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What the drill found. named: kills at a named point, of all."""

    kills: int = 0
    named: int = 0
    rounds: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    digest_equal: bool = False
    longest_wait: float = 0.0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return counts."""
        return {
            "kills": self.kills,
            "named_points": self.named,
            "rounds": self.rounds,
            "lost": len(self.lost),
            "duplicates": len(self.duplicates),
            "digest_equal": self.digest_equal,
            "longest_wait_seconds": round(self.longest_wait, 1),
            "seconds": round(self.seconds, 1),
        }


def plan(kills: int, seed: int) -> list[Kill]:
    """Draw the kills: about half at named points, the others at random moments."""
    drawn = random.Random(seed)
    planned = []
    for _ in range(kills):
        if drawn.random() < 0.5:
            number = drawn.randrange(len(POINTS))
            point = POINTS[number]
            planned.append(Kill((point.target,), (number, drawn.randint(1, point.most))))
            continue
        phase = drawn.choices(("upload", "run", "release"), (4, 4, 1))[0]
        if phase == "upload":
            requests, seconds = drawn.randint(0, 15), drawn.uniform(0, 0.02)
            targets = drawn.choice(((("server",)), ("server", "worker")))
        else:
            requests, seconds = 0, drawn.uniform(0, 2.5 if phase == "run" else 0.3)
            targets = drawn.choice((("worker",), ("worker",), ("server", "worker")))
        planned.append(Kill(targets, None, phase, requests, seconds))  # type: ignore[arg-type]
    return planned


def drill(
    folder: Path,
    *,
    kills: int,
    seed: int,
    say: Callable[[str], None],
    url: str | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Outcome:
    """
    Kill, and say what is lost, what is there twice, and whether every digest is the same. patience:
    seconds that a caller insists, and that a moment is waited for where that is longer.
    """
    began, outcome = time.monotonic(), Outcome()
    with standing(folder, url) as stand:
        work = Workload(stand.world, patience)
        # The first round is left alone: it says what there has to be.
        work.round(1)
        persons = _count_persons(stand)
        work.start(first=2)
        planned = plan(kills, seed)
        for one, following in zip(planned, [*planned[1:], None], strict=True):
            if work.fault is not None:
                break
            outcome.named += _carry_out(stand, work, one, following)
            outcome.kills += 1
            if outcome.kills % 10 == 0:
                say(f"  {outcome.kills} kills, {work.rounds} rounds")
        try:
            work.finish()
        except Exception:
            _tell_log(stand, say)
            raise
        outcome.rounds = len(work.told.digests)
        outcome.digest_equal = len(set(work.told.digests.values())) == 1
        outcome.lost = ledger.lost(stand.world, work.told)
        outcome.duplicates = ledger.duplicates(stand.world, work.told, persons=persons)
        outcome.longest_wait = work.longest
    outcome.seconds = time.monotonic() - began
    return outcome


def _carry_out(stand: Stand, work: Workload, one: Kill, following: Kill | None) -> bool:
    """Kill and start again; say whether it was at the named point."""
    at_point = False
    if one.point is not None:
        [target] = one.targets
        if stand.doomed.get(target) != one.point:
            stand.kill(target)
            stand.start(target, one.point)
        until, rounds = time.monotonic() + _NOT_PASSED_SECONDS, work.rounds + _ROUNDS
        wait_for(
            lambda: (
                stand.is_dead(target)
                or work.fault is not None
                or work.rounds >= rounds
                or time.monotonic() > until
            ),
            2 * _NOT_PASSED_SECONDS,
        )
        at_point = stand.is_dead(target)
    else:
        _reach(work, one)
    for target in one.targets:
        stand.kill(target)
    for target in one.targets:
        # Doomed for the next kill already, where that is at a point of this process.
        next_here = following is not None and following.targets == (target,)
        stand.start(target, following.point if following and next_here else None)
    return at_point


def _reach(work: Workload, one: Kill) -> None:
    """Wait for the moment of a kill. A phase that is over before it comes is not waited for."""
    most = max(600.0, work.patience)
    wait_for(lambda: work.phase == one.phase or work.fault is not None, most)
    asked = work.asked
    wait_for(lambda: work.asked >= asked + one.requests or work.fault is not None, most)
    time.sleep(one.seconds)


def _tell_log(stand: Stand, say: Callable[[str], None]) -> None:
    """Say what the worker had to say last: the folder goes with the drill."""
    lines = (stand.world.home.path / "worker.log").read_text().splitlines()
    for line in lines[-20:]:
        say(f"  {line[:400]}")


def _count_persons(stand: Stand) -> int:
    database = Database(stand.world.home.database_url())
    with database.read() as connection:
        found = int(connection.execute(text("SELECT count(*) FROM person")).scalar_one())
    database.close()
    return found
