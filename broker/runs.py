"""
A linkage run as a durable workflow: open -> candidates -> weights -> solve -> identity.

Every line of `RunMaker.run` is a step. A worker that dies is started again under its name and
goes on after the last finished step; a step that was cut short is repeated and gives the same
bytes. Between steps only names travel; what they name lies sealed (broker.scratch).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from broker import audit, durable, results
from broker.container import Broker
from broker.durable import StepFailed
from broker.packages import open_dataset
from broker.registered import RegisteredStudy
from broker.scratch import Scratch
from broker.store import runs, studies
from linkage.errors import Conflict, NotFound
from linkage.matching import candidates, solve, weights
from linkage.matching.candidates import Chunk
from linkage.matching.dataset import Dataset, Shape, shape_of
from linkage.matching.identity import result_digest
from linkage.sealing import Identity

STAGES = ("open", "candidates", "weights", "solve", "identity")
_log = structlog.get_logger("linkage.worker")


@dataclass(frozen=True, slots=True, eq=False)
class OpenRun:
    """What a worker holds of a run in memory: its study, its inputs, its opened datasets."""

    row: runs.RunRow
    study: RegisteredStudy
    inputs: dict[str, int]
    scratch: Scratch
    datasets: dict[str, Dataset] = field(default_factory=dict)


class RunMaker:
    """Makes linkage runs. identity: the broker's own private keys."""

    def __init__(self, broker: Broker, identity: Identity) -> None:
        self._broker, self._identity = broker, identity
        self._open: OpenRun | None = None
        self._lock = threading.Lock()

    def run(self, run_id: str) -> None:
        """The workflow of one run."""
        try:
            for party in durable.step("begin", self._begin, run_id):
                durable.step(f"open {party}", self._open_dataset, run_id, party)
            chunks: int = durable.step("plan", self._plan, run_id)
            for number in range(chunks):
                durable.step(f"candidates {number}", self._candidates, run_id, number, chunks)
            durable.step("weights", self._weights, run_id, chunks)
            durable.step("solve", self._solve, run_id)
            durable.step("identity", self._identity_stage, run_id)
        except StepFailed as failed:
            self._fail(run_id, failed.failure)
        finally:
            self._forget()

    def give_up(self, run_id: str) -> None:
        """Fail a run whose workflow ended without a result."""
        self._fail(
            run_id, "the worker gave up after many attempts. Hint: start it again; see the log"
        )

    # Steps. Each takes and returns JSON.

    def _begin(self, run_id: str) -> list[str]:
        opened = self._opened(run_id)
        with self._broker.database.change() as connection:
            runs.change(connection, run_id, state="running", stage=STAGES[0], progress=0.0)
            audit.record(
                connection,
                actor="worker",
                action="run started",
                study_id=opened.study.id,
                subject=run_id,
            )
        return sorted(opened.inputs)

    def _open_dataset(self, run_id: str, party: str) -> int:
        opened = self._opened(run_id)
        with self._stage(run_id, "open", done=len(opened.datasets), total=len(opened.inputs)):
            return len(self._dataset(opened, party).records)

    def _plan(self, run_id: str) -> int:
        opened = self._opened(run_id)
        with self._stage(run_id, "candidates", done=0, total=1):
            shapes = [shape_of(self._dataset(opened, party)) for party in sorted(opened.inputs)]
            chunks = candidates.plan(shapes)
            plan = {
                "shapes": [s.to_json() for s in shapes],
                "chunks": [c.to_json() for c in chunks],
            }
            opened.scratch.put("plan", json.dumps(plan).encode())
        return len(chunks)

    def _candidates(self, run_id: str, number: int, total: int) -> int:
        opened = self._opened(run_id)
        with self._stage(run_id, "candidates", done=number, total=total):
            chunk = _read_plan(opened.scratch)[1][number]
            left, right = (self._dataset(opened, party) for party in (chunk.left, chunk.right))
            found = candidates.find(chunk, left, right, seed=opened.row.seed)
            opened.scratch.put_table(f"candidates-{number}", candidates.to_arrow(found))
        return len(found)

    def _weights(self, run_id: str, chunks: int) -> None:
        opened = self._opened(run_id)
        with self._stage(run_id, "weights", done=0, total=1):
            shapes, _ = _read_plan(opened.scratch)
            found = [
                candidates.from_arrow(opened.scratch.get_batch(f"candidates-{number}"))
                for number in range(chunks)
            ]
            made = weights.weigh(shapes, found)
            opened.scratch.put_table("weights", weights.to_arrow(made))

    def _solve(self, run_id: str) -> int:
        opened = self._opened(run_id)
        with self._stage(run_id, "solve", done=0, total=1):
            made = weights.from_arrow(opened.scratch.get_table("weights"))
            groups = {p: self._dataset(opened, p).records.groups for p in opened.inputs}
            entities = solve.solve(made, groups)
            opened.scratch.put_table("entities", solve.to_arrow(entities))
        return entities.count

    def _identity_stage(self, run_id: str) -> None:
        opened = self._opened(run_id)
        with self._stage(run_id, "identity", done=0, total=1):
            entities = solve.from_arrow(opened.scratch.get_table("entities"))
            pseudonyms = {p: self._dataset(opened, p).records.pseudonyms for p in opened.inputs}
            shapes, chunks = _read_plan(opened.scratch)
            report = results.report_of(
                shapes,
                chunks,
                weights.from_arrow(opened.scratch.get_table("weights")),
                entities,
                seed=opened.row.seed,
            )
        results.publish(
            self._broker,
            opened.row,
            entities=entities,
            pseudonyms=pseudonyms,
            digest=result_digest(entities, pseudonyms),
            report=report,
        )
        _log.info("run done", run=run_id)

    # How

    def _opened(self, run_id: str) -> OpenRun:
        """Return the run in memory; after a restart it is read and opened again."""
        with self._lock:
            if self._open is None or self._open.row.id != run_id:
                self._open = self._read(run_id)
            return self._open

    def _read(self, run_id: str) -> OpenRun:
        with self._broker.database.read() as connection:
            row = runs.find(connection, run_id)
            study = studies.find_study(connection, row.study_id) if row else None
        if row is None or study is None:
            raise NotFound("the run is gone", hint="start another one")
        if row.state in ("done", "failed"):
            raise Conflict(f"the run is {row.state} already", hint="start another one")
        scratch = Scratch(self._broker, self._identity, study.id, run_id)
        return OpenRun(row, RegisteredStudy.of(study), json.loads(row.inputs), scratch)

    def _dataset(self, opened: OpenRun, party: str) -> Dataset:
        if party not in opened.datasets:
            number = opened.inputs[party]
            opened.datasets[party] = open_dataset(
                self._broker, self._identity, opened.study, party, number
            )
        return opened.datasets[party]

    @contextmanager
    def _stage(self, run_id: str, stage: str, *, done: int, total: int) -> Iterator[None]:
        """Show where the run is, and add what the step took to the stage's seconds."""
        self._show(run_id, stage, done / total, 0.0)
        started = time.perf_counter()
        yield
        self._show(run_id, stage, (done + 1) / total, time.perf_counter() - started)

    def _show(self, run_id: str, stage: str, progress: float, spent: float) -> None:
        with self._broker.database.change() as connection:
            row = runs.find(connection, run_id)
            if row is None or row.state != "running":
                return
            seconds = json.loads(row.seconds)
            seconds[stage] = round(seconds.get(stage, 0.0) + spent, 3)
            runs.change(
                connection,
                run_id,
                stage=stage,
                progress=min(1.0, progress),
                seconds=json.dumps(seconds),
            )

    def _fail(self, run_id: str, failure: str) -> None:
        with self._broker.database.change() as connection:
            row = runs.find(connection, run_id)
            if row is None or row.state in ("done", "failed"):
                return
            blobs = runs.drop_intermediates(connection, run_id)
            now = int(time.time())
            runs.change(connection, run_id, state="failed", failure=failure, finished_at=now)
            audit.record(
                connection,
                actor="worker",
                action="run failed",
                study_id=row.study_id,
                subject=run_id,
                detail={"failure": failure},
            )
        for blob_id in blobs:
            self._broker.blobs.delete(blob_id)
        _log.warning("run failed", run=run_id, failure=failure)

    def _forget(self) -> None:
        """Drop the opened encodings from memory."""
        with self._lock:
            self._open = None


def _read_plan(scratch: Scratch) -> tuple[list[Shape], list[Chunk]]:
    plan: dict[str, Any] = json.loads(scratch.get("plan"))
    shapes = [Shape.from_json(one) for one in plan["shapes"]]
    return shapes, [Chunk.from_json(one) for one in plan["chunks"]]
