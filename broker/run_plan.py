"""
What a run has to do, as it lies sealed between its steps: chunks, cut into tasks for workers.

A run has one phase or two (linkage.matching.planning); the second is known only when the first is
done. Chunks and tasks are numbered through both, so a name never means two things.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from broker.run_work import work_of as work_of
from broker.scratch import Scratch
from linkage.matching import candidates, planning, staging
from linkage.matching.candidates import CandidateChunk
from linkage.matching.dataset import Rows, Shape
from linkage.matching.loss import Loss
from linkage.matching.planning import Chunk, Comparison, RowSets

TASK_COMPARISONS = 1_000_000_000
"""Comparisons of CLKs in a task: about a second on one core (docs/performance.md)."""

_FIRST, _WHOLE, _ROWS = "plan", "plan-whole", "plan-rows"
_LOSSES = "losses"
REPORTED = (_FIRST, _WHOLE, _LOSSES)
"""Names of what a run's report is made from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The plan of a run. tasks: numbers of the chunks that one task does, one after another.
    affordable: comparisons up to which all pairs are compared, by the worker that made the plan.
    first: how many of the chunks are of the first phase.
    """

    shapes: list[Shape]
    chunks: list[Chunk]
    tasks: list[list[int]]
    affordable: int
    first: int

    @property
    def in_two(self) -> list[Comparison]:
        """The comparisons that are made in two phases."""
        return planning.staged(self.shapes, self.affordable)

    @property
    def staged(self) -> bool:
        """Whether there is a second phase, known or not yet."""
        return bool(self.in_two)

    def phase_of(self, number: int) -> tuple[int, list[Chunk]]:
        """Return which phase a chunk is of, 1 or 2, and all chunks of that phase."""
        if number < self.first:
            return 1, self.chunks[: self.first]
        return 2, self.chunks[self.first :]


def put_first(scratch: Scratch, shapes: Sequence[Shape], affordable: int) -> Plan:
    """Plan a run's first phase, or all of it, and keep the plan. Raises MatchingFailed."""
    chunks = planning.plan(shapes, affordable=affordable)
    plan = Plan(list(shapes), chunks, tasks_of(chunks), affordable, len(chunks))
    scratch.put(_FIRST, _to_json(plan))
    return plan


def put_rest(scratch: Scratch, people: dict[str, Rows]) -> tuple[int, int]:
    """
    Plan the second phase from what the first has found, and keep it with the rows that it names.

    people: by party, the representatives (linkage.matching.dataset). Returns the number of its
    first task, and how many there are; 0 where all was in the first phase. The same when repeated.
    """
    plan = _read(scratch, _FIRST)
    if not plan.staged:
        return len(plan.tasks), 0
    rest = staging.rest(plan.shapes, found(scratch, plan), people, affordable=plan.affordable)
    scratch.put_table(_ROWS, _rows_to_arrow(rest))
    more = planning.plan_rest(plan.shapes, rest, affordable=plan.affordable)
    tasks = tasks_of(more, first=plan.first)
    whole = Plan(plan.shapes, plan.chunks + more, plan.tasks + tasks, plan.affordable, plan.first)
    # Last: where it lies, the second phase is known.
    scratch.put(_WHOLE, _to_json(whole))
    return len(plan.tasks), len(tasks)


def read(scratch: Scratch) -> Plan:
    """Return the plan as far as it is known."""
    return _read(scratch, _WHOLE if scratch.count(_WHOLE) else _FIRST)


def rows(scratch: Scratch) -> RowSets:
    """Return the rows that chunks of the second phase name."""
    table = scratch.get_table(_ROWS)
    names = zip(table["party"].to_pylist(), table["name"].to_pylist(), strict=True)
    return {key: one.values.to_numpy() for key, one in zip(names, table["rows"], strict=True)}


def candidates_name(number: int) -> str:
    """Return where the candidates of a chunk lie."""
    return f"candidates-{number}"


def found(scratch: Scratch, plan: Plan) -> list[CandidateChunk]:
    """Return the candidates of every chunk of the plan, of both phases."""
    return [
        candidates.from_arrow(scratch.get_batch(candidates_name(number)))
        for number in range(len(plan.chunks))
    ]


def put_losses(scratch: Scratch, lost: Sequence[Loss]) -> None:
    """Keep what two phases lost, for the run's report."""
    scratch.put(_LOSSES, json.dumps([one.to_json() for one in lost]).encode())


def losses(scratch: Scratch) -> list[dict[str, Any]]:
    """Return what `put_losses` kept, as JSON."""
    found: list[dict[str, Any]] = json.loads(scratch.get(_LOSSES))
    return found


def tasks_of(chunks: Sequence[Chunk], *, first: int = 0) -> list[list[int]]:
    """
    Cut chunks, numbered from `first`, into tasks of some seconds each, few enough that queueing
    costs nothing.
    """
    tasks: list[list[int]] = []
    size = TASK_COMPARISONS
    for number, chunk in enumerate(chunks, start=first):
        if size >= TASK_COMPARISONS:
            tasks.append([])
            size = 0
        tasks[-1].append(number)
        size += work_of(chunk)
    return tasks


def _to_json(plan: Plan) -> bytes:
    plain = {
        "shapes": [shape.to_json() for shape in plan.shapes],
        "chunks": [chunk.to_json() for chunk in plan.chunks],
        "tasks": plan.tasks,
        "affordable": plan.affordable,
        "first": plan.first,
    }
    return json.dumps(plain).encode()


def _read(scratch: Scratch, name: str) -> Plan:
    plain: dict[str, Any] = json.loads(scratch.get(name))
    return Plan(
        [Shape.from_json(one) for one in plain["shapes"]],
        [Chunk.from_json(one) for one in plain["chunks"]],
        plain["tasks"],
        plain["affordable"],
        plain["first"],
    )


def _rows_to_arrow(sets: RowSets) -> pa.Table:
    """Return one line for each named set of rows: party, name, rows (int64)."""
    ends = np.cumsum([0, *(len(one) for one in sets.values())])
    values = np.concatenate([np.zeros(0, np.int64), *sets.values()])
    return pa.table(
        {
            "party": pa.array([party for party, _ in sets], pa.string()),
            "name": pa.array([name for _, name in sets], pa.string()),
            "rows": pa.LargeListArray.from_arrays(ends, values),
        }
    )
