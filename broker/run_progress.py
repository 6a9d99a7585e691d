"""
How far a run is: its stage, the stage's seconds, and what the search for candidates has done.

A chunk counts in the transaction that names its candidates, and only once, so the figures are true
whoever died meanwhile. Work is counted in comparisons of CLKs (run_plan.work_of): chunks differ.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from broker.run_plan import Plan, candidates_name, work_of
from broker.store import runs
from broker.store.engine import Connection
from linkage.matching.candidates import CandidateChunk, new_pairs

FIRST, REST = "candidates", "candidates of the rest"
"""Names of the stages of both phases; a run of one phase has only the first."""


def show(connection: Connection, run_id: str, stage: str, progress: float | None) -> None:
    """Write stage, progress (None: as it is) and the stage's seconds by the clock."""
    if (row := _running(connection, run_id)) is not None:
        _write(connection, row, stage, progress)


def of_chunk(
    run_id: str, plan: Plan, number: int, found: CandidateChunk
) -> Callable[[Connection], bool]:
    """Return what counts a chunk, to be called before its candidates are named (broker.scratch)."""
    phase, chunks = plan.phase_of(number)
    stage = FIRST if phase == 1 else REST
    chunk, name = plan.chunks[number], candidates_name(number)

    def count(connection: Connection) -> bool:
        row = _running(connection, run_id)
        if row is None or runs.find_intermediate(connection, run_id, name):
            return True
        before: dict[str, Any] = json.loads(row.work)
        same = before if before.get("phase") == phase else {}
        done = same.get("done", 0) + work_of(chunk)
        work = {
            "stage": stage,
            "phase": phase,
            "phases": 2 if plan.staged else 1,
            "chunks_done": same.get("chunks_done", 0) + 1,
            "chunks": len(chunks),
            "pairs_found": before.get("pairs_found", 0) + new_pairs(found),
            "comparisons_done": same.get("comparisons_done", 0) + chunk.comparisons,
            "comparisons": sum(c.comparisons for c in chunks),
            "done": done,
            "all": sum(map(work_of, chunks)),
        }
        share = work["chunks_done"] / len(chunks) if not work["all"] else done / work["all"]
        _write(connection, row, stage, share, work)
        return True

    return count


def _running(connection: Connection, run_id: str) -> runs.RunRow | None:
    row = runs.find(connection, run_id)
    return row if row is not None and row.state == "running" else None


def _write(
    connection: Connection,
    row: runs.RunRow,
    stage: str,
    progress: float | None,
    work: dict[str, Any] | None = None,
) -> None:
    now = time.time()
    took: dict[str, float] = json.loads(row.seconds)
    began = now
    if row.stage == stage and row.stage_began:
        # Where the clock was put back, the stage goes on from the seconds that it had.
        began = min(row.stage_began, now - took.get(stage, 0.0))
    runs.change(
        connection,
        row.id,
        stage=stage,
        stage_began=began,
        progress=row.progress if progress is None else min(1.0, progress),
        seconds=json.dumps(took | {stage: round(now - began, 3)}),
        work=row.work if work is None else json.dumps(work),
    )
