"""The plan of a run: tasks of a fair size, and two phases under one numbering."""

from __future__ import annotations

import numpy as np

from broker.run_plan import TASK_COMPARISONS, tasks_of
from linkage.matching.dataset import Shape
from linkage.matching.planning import RowSets, plan, plan_rest, rest_of


def shape(party: str, people: int) -> Shape:
    return Shape(party, people, people, ("clk",), ("key",), {"key": 0}, {})


def test_every_chunk_is_in_one_task_and_no_task_is_long() -> None:
    small, large = [shape(p, 5_000) for p in "abcdefgh"], [shape(p, 60_000) for p in "ab"]
    for shapes, least in ((small, 2), (large, 6)):
        chunks = plan(shapes)
        tasks = tasks_of(chunks)
        assert [n for task in tasks for n in task] == list(range(len(chunks)))
        assert len(tasks) >= least
        # A task stops growing once it is large enough, so only its last chunk can be beyond.
        for task in tasks:
            assert sum(chunks[n].comparisons for n in task[:-1]) < TASK_COMPARISONS
    assert len(tasks_of(plan(small))) < len(plan(small)) / 10


def test_the_keys_of_many_are_joined_in_different_tasks() -> None:
    chunks = plan([shape(p, 1_000_000) for p in "abc"])
    keys = {n for n, chunk in enumerate(chunks) if chunk.kind == "keys"}
    assert len(keys) == 3
    assert max(len(keys.intersection(task)) for task in tasks_of(chunks)) == 1


def test_the_second_phase_is_numbered_after_the_first() -> None:
    shapes = [shape(p, 300_000) for p in "ab"]
    rows: RowSets = {
        ("a", rest_of("b")): np.arange(100_000),
        ("b", rest_of("a")): np.arange(100_000),
    }
    first, second = plan(shapes), plan_rest(shapes, rows)
    tasks = tasks_of(first) + tasks_of(second, first=len(first))
    assert [n for task in tasks for n in task] == list(range(len(first) + len(second)))
