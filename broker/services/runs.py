"""
Runs: asking for one, and saying how far it is. The worker finds what is queued by itself, so
nothing that was accepted depends on this process staying alive.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from broker import audit
from broker.policy import Grant
from broker.store import assertions, runs, studies
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, NotFound
from linkage.run_messages import RunRequest, RunState, RunWork

SOFTWARE = version("commons-linkage")
_FAILED = "the run failed; the broker's admin can read why"
"""All that a party is told of it."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The linkage runs of the studies."""

    database: Database

    def start(self, grant: Grant, request: RunRequest, *, allow_missing: bool = False) -> RunState:
        """
        Queue a run over every uploader's newest complete dataset version and assertion list of
        the study's epoch.

        The same datasets, lists, seed and software give the run that is there, unless it failed.
        Raises Conflict naming the uploaders that have no complete dataset version.
        """
        study = grant.study
        with self.database.change() as connection:
            inputs, missing = self._inputs(connection, grant)
            if len(inputs) < 2 or (missing and not allow_missing):
                raise Conflict(
                    f"no complete dataset version from: {', '.join(missing)}",
                    hint="they must upload first; allow_missing=true links the others, if two",
                )
            row = runs.RunRow(
                id=f"run-{secrets.token_hex(8)}",
                study_id=study.id,
                seed=request.seed,
                epoch=study.config.study.epoch,
                inputs=json.dumps(inputs, sort_keys=True),
                software=SOFTWARE,
                started_at=int(time.time()),
                looks=int(request.second_look and study.config.looks is not None),
                asserted=_asserted(connection, grant),
                precision=request.precision,
            )
            same = runs.find_same(connection, row)
            if same:
                return _state(same, grant)
            runs.add(connection, row)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="run queued",
                study_id=study.id,
                subject=row.id,
                detail={
                    "inputs": row.inputs,
                    "seed": row.seed,
                    "software": row.software,
                    "second_look": row.looks,
                    "asserted": row.asserted,
                    "precision": "" if row.precision is None else str(row.precision),
                },
            )
        return _state(row, grant)

    def state(self, grant: Grant, run_id: str) -> RunState:
        """
        Return a run. Its report, figures and why it failed are for admins: counts would help
        probing, and a failure may name how many records look alike.
        """
        with self.database.read() as connection:
            return _state(existing(connection, grant.study.id, run_id), grant)

    def all(self, grant: Grant) -> list[RunState]:
        """Return the study's runs, newest first."""
        with self.database.read() as connection:
            return [_state(row, grant) for row in runs.of_study(connection, grant.study.id)]

    def _inputs(self, connection: Connection, grant: Grant) -> tuple[dict[str, int], list[str]]:
        found: dict[str, int] = {}
        missing: list[str] = []
        study, epoch = grant.study, grant.study.config.study.epoch
        for uploader in study.config.uploaders:
            row = studies.newest_dataset(
                connection, study.id, uploader, state="complete", epoch=epoch
            )
            if row:
                found[uploader] = row.number
                continue
            older = studies.newest_dataset(connection, study.id, uploader, state="complete")
            missing.append(f"{uploader} (only of epoch {older.epoch})" if older else uploader)
        return found, missing


def _asserted(connection: Connection, grant: Grant) -> str:
    study = grant.study
    newest = assertions.newest(connection, study.id, study.config.study.epoch)
    uploaders = study.config.uploaders
    return json.dumps({u: n for u, n in newest.items() if u in uploaders}, sort_keys=True)


def existing(connection: Connection, study_id: str, run_id: str) -> runs.RunRow:
    """Return the study's run. Raises NotFound, also for a run of another study."""
    row = runs.find(connection, run_id)
    if row is None or row.study_id != study_id:
        raise NotFound("there is no such run in this study", hint="GET .../runs lists them")
    return row


def finished(connection: Connection, study_id: str, run_id: str) -> runs.RunRow:
    """Return a run that is done; without run_id the newest. Raises NotFound or Conflict."""
    if not run_id:
        newest = runs.newest_finished(connection, study_id)
        if newest is None:
            raise Conflict("no run of the study is done yet", hint="the broker admin starts one")
        return newest
    row = existing(connection, study_id, run_id)
    if row.state != "done":
        raise Conflict(
            f"the run is {row.state}, not done", hint="wait for it, or start another one"
        )
    return row


def _state(row: runs.RunRow, grant: Grant) -> RunState:
    shown = grant.is_admin
    return RunState.model_validate(
        {
            "run_id": row.id,
            "study_id": row.study_id,
            "state": row.state,
            "stage": row.stage,
            "progress": row.progress,
            "seconds": json.loads(row.seconds) if shown else {},
            "work": _work(row) if shown else None,
            "result_digest": row.result_digest if shown else None,
            "report": json.loads(row.report) if shown and row.report else None,
            "failure": row.failure if shown or not row.failure else _FAILED,
        }
    )


def _work(row: runs.RunRow) -> RunWork | None:
    """Return what the search for candidates has done; None before its first chunk ended."""
    work: dict[str, Any] = json.loads(row.work)
    if not work:
        return None
    done, everything = work.pop("done"), work.pop("all")
    took = json.loads(row.seconds).get(work.pop("stage"), 0.0)
    return RunWork(
        **work,
        comparisons_per_second=round(work["comparisons_done"] / took, 1) if took else 0.0,
        seconds_left=round(took * (everything - done) / done, 1) if done and took else None,
    )
