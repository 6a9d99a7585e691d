"""
What held records that are opted out now: found by the worker for every list that comes, for the
site that sent it. What somebody has fetched cannot be recalled.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import structlog

from broker import audit, problems
from broker.container import Broker
from broker.effects import Made
from broker.opted_out import opted_out
from broker.registered import RegisteredStudy
from broker.services.questions import two_sides
from broker.store import governance, jobs, people, releases, runs, studies
from broker.store.governance import OptOutRow
from linkage.delta import is_among
from linkage.errors import LinkageError, NotFound, Unreachable
from linkage.records import Bytes2D
from linkage.sealing import KeyHolder

_log = structlog.get_logger("linkage.worker")


class OptOutReader:
    """Reads the lists that come, and finds out what held their records. now: Unix seconds."""

    def __init__(
        self, broker: Broker, identity: KeyHolder, *, now: Callable[[], float] = time.time
    ) -> None:
        self._broker, self._identity, self._now = broker, identity, now

    def tend(self) -> None:
        """Read what no worker has read yet. Another one's trouble with a list stays the list's."""
        with self._broker.database.read() as connection:
            waiting = governance.unread_opt_outs(connection)
        for row in waiting:
            try:
                report = self._report(row)
            except Unreachable:
                raise
            except LinkageError as error:
                report = {"refusal": str(error)}
            except Exception as error:
                _log.error("an opt-out list cannot be read", **problems.described(error))
                report = {"refusal": "it cannot be read; send it again with this software"}
            self._keep(row, report)

    def _report(self, row: OptOutRow) -> dict[str, object]:
        names = opted_out(self._broker, self._identity, row.study_id, row.uploader, row.number)
        with self._broker.database.read() as connection:
            found = studies.find_study(connection, row.study_id)
            if found is None:
                raise NotFound("the study is gone", hint="nothing is to be done")
            study = RegisteredStudy.of(found)
            known = people.everyone(connection, row.study_id)
            held = [
                {
                    "job_id": job.id,
                    "kind": job.kind,
                    "run_id": job.run_id,
                    "at": job.finished_at or job.asked_at,
                    "records": count,
                }
                for job in releases.given_out(connection, row.study_id)
                if (count := self._held(connection, study, job, row.uploader, names))
            ]
        unknown = int((~is_among(names, known.pseudonyms)).sum()) if len(known) else len(names)
        return {"records": len(names), "unknown": unknown, "held_by": held}

    def _held(
        self,
        connection: people.Connection,
        study: RegisteredStudy,
        job: jobs.JobRow,
        uploader: str,
        names: Bytes2D,
    ) -> int:
        """Return how many of an uploader's records a release, question or delivery gave out."""
        run = runs.find(connection, job.run_id)
        parties = releases.audience_of(job) if job.kind == "release" else two_sides(study)
        mine = {p.id for p in study.config.party if uploader in study.config.uploaders_of(p)}
        if run is None or run.sequence is None or not mine & set(parties):
            return 0
        pseudonyms, _ = people.members_at(connection, study.id, uploader, run.sequence)
        left_out = Made.read(job.made).left_out.get(uploader, b"")
        if left_out is None:
            return 0
        given = _matrix(pseudonyms)
        if left_out:
            given = given[~is_among(given, _matrix(left_out))]
        return int(is_among(names, given).sum()) if len(given) else 0

    def _keep(self, row: OptOutRow, report: dict[str, object]) -> None:
        with self._broker.database.change() as connection:
            now = governance.find_opt_outs(connection, row.study_id, row.uploader, row.number)
            if now is None or now.read_at is not None:
                return
            governance.set_opt_outs_read(connection, row, int(self._now()), json.dumps(report))
            refusal = report.get("refusal")
            held = report.get("held_by")
            audit.record(
                connection,
                actor="worker",
                action="opt-out list refused" if refusal else "opt-out list read",
                study_id=row.study_id,
                subject=f"{row.uploader}/{row.number}",
                detail={"rule": str(refusal)}
                if refusal
                else {"given out before": len(held) if isinstance(held, list) else 0},
            )


def _matrix(names: bytes) -> Bytes2D:
    return np.frombuffer(names, np.uint8).reshape(-1, 16)
