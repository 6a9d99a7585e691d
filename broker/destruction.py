"""
Destruction of a study, the worker's side.

1. What is under way is ended. 2. Everything is counted, once, and kept beside the order. 3. Blobs
go before the rows that name them, so that a worker killed in between finds them again. 4. The other
rows go, table by table. 5. Once nothing is left, certificate and audit entry are one transaction.

Nothing of the study is visible from the order on: its state, checked with every request, says so.
Any step may be cut short and is done again; any worker may go on with it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import structlog

from broker import audit
from broker.container import Broker
from broker.registered import RegisteredStudy
from broker.rehearsed import probabilities_file
from broker.store import destruction, governance, jobs, releases, runs, studies
from broker.store.engine import Connection
from linkage.governance import DestroyedManifest, DestructionCertificate, GivenOut, Remains
from linkage.sealing import KeyHolder

_BLOBS_AT_ONCE = 200
_log = structlog.get_logger("linkage.worker")


class Destroyer:
    """Carries out ordered destructions. identity: the broker's own private keys. now: seconds."""

    def __init__(
        self, broker: Broker, identity: KeyHolder, *, now: Callable[[], float] = time.time
    ) -> None:
        self._broker, self._identity, self._now = broker, identity, now

    def tend(self) -> None:
        """Carry out what is ordered. Raises Unreachable where the database or store is."""
        with self._broker.database.read() as connection:
            ordered = governance.unfinished_destructions(connection)
        for study_id in ordered:
            self.destroy(study_id)

    def destroy(self, study_id: str) -> None:
        """Destroy a study whose destruction is ordered. Done already, nothing happens."""
        self._end_jobs(study_id)
        self._count(study_id)
        for table in destruction.with_blobs():
            self._empty_blobs(study_id, table)
        for table in destruction.tables():
            self._empty(study_id, table)
        self._certify(study_id)

    def _end_jobs(self, study_id: str) -> None:
        """End runs and jobs that are under way: no worker takes them up, and steps find an end."""
        with self._broker.database.change() as connection:
            for job_id in jobs.unfinished(connection):
                row = jobs.find(connection, job_id)
                if row is not None and row.study_id == study_id:
                    now = int(self._now())
                    why = "the study is destroyed"
                    jobs.change(connection, job_id, state="failed", failure=why, finished_at=now)
            for run_id in runs.unfinished(connection):
                run = runs.find(connection, run_id)
                if run is not None and run.study_id == study_id:
                    why, now = "the study is destroyed", int(self._now())
                    runs.change(connection, run_id, state="failed", failure=why, finished_at=now)

    def _count(self, study_id: str) -> None:
        with self._broker.database.change() as connection:
            order = governance.find_destruction(connection, study_id)
            if order is None or order.tally is not None:
                return
            tally = _tally(connection, study_id)
            governance.change_destruction(connection, study_id, tally=json.dumps(tally))
        for run_id in tally["runs"]:
            probabilities_file(self._broker.home.path, run_id).unlink(missing_ok=True)

    def _empty_blobs(self, study_id: str, table: str) -> None:
        while True:
            with self._broker.database.read() as connection:
                found = destruction.blobs(connection, table, study_id, _BLOBS_AT_ONCE)
            if not found:
                return
            for blob_id in found:
                self._broker.blobs.delete(blob_id)
            with self._broker.database.change() as connection:
                destruction.forget_blobs(connection, table, found)

    def _empty(self, study_id: str, table: str) -> None:
        gone = 1
        while gone:
            with self._broker.database.change() as connection:
                gone = destruction.forget(connection, table, study_id)

    def _certify(self, study_id: str) -> None:
        with self._broker.database.change() as connection:
            order = governance.find_destruction(connection, study_id)
            row = studies.find_study(connection, study_id)
            if order is None or row is None or order.tally is None or order.finished_at is not None:
                return
            left = [t for t in destruction.tables() if destruction.count(connection, t, study_id)]
            if left:
                _log.warning("a study is not destroyed yet", tables=", ".join(left))
                return
            made = self._certificate(connection, order, RegisteredStudy.of(row))
            text = made.canonical()
            audit.record(
                connection,
                actor="worker",
                action="study destruction finished",
                study_id=study_id,
                detail={
                    "certificate": hashlib.sha256(text).hexdigest(),
                    "rows": sum(made.rows.values()),
                    "blobs": made.blobs,
                },
            )
            governance.change_destruction(
                connection, study_id, certificate=text.decode(), finished_at=made.finished_at
            )
        _log.info("a study is destroyed", rows=sum(made.rows.values()), blobs=made.blobs)

    def _certificate(
        self, connection: Connection, order: governance.DestructionRow, study: RegisteredStudy
    ) -> DestructionCertificate:
        tally, now = json.loads(order.tally or "{}"), int(self._now())
        head = audit.newest(connection)
        given = tuple(GivenOut.model_validate(one) for one in tally["given_out"])
        return DestructionCertificate(
            study_id=study.id,
            epoch=study.config.study.epoch,
            study_hash=study.study_hash,
            asked_by=order.asked_by,
            asked_at=order.asked_at,
            finished_at=now,
            rows=tally["rows"],
            blobs=tally["blobs"],
            manifests=tuple(DestroyedManifest.model_validate(one) for one in tally["manifests"]),
            given_out=given,
            remains=self._remains(len(given), now),
            audit_number=head.number,
            audit_hash=head.hash,
        ).sign(self._identity)

    def _remains(self, given: int, now: int) -> tuple[Remains, ...]:
        days = self._broker.home.config.retention.backups_days
        until = (
            f"{dt.datetime.fromtimestamp(now + 86_400 * days, dt.UTC):%Y-%m-%d}, when the last of"
            " them is overwritten"
            if days is not None
            else "the broker's admin names no day: ask"
        )
        return (
            Remains(
                what="the signed study files of every epoch, the parties' confirmations",
                why="the certificate can be checked, and the study's id is not used again",
                until="for ever",
            ),
            Remains(
                what="the audit log; it holds no record, no pseudonym and no result",
                why="it is append-only, and says who did what",
                until="for ever",
            ),
            Remains(
                what=f"what parties had fetched of {given} releases, questions and deliveries",
                why="the broker cannot recall what has left it",
                until="as the recipients' own agreements say",
            ),
            Remains(what="backups of the broker", why="they are not rewritten", until=until),
            Remains(
                what="the names and steps of its runs in the workflow engine's tables",
                why="they hold ids, counts and times only",
                until="for ever",
            ),
            Remains(
                what="sealed blobs that a killed process left without a row, if there were any",
                why="nothing names them, so they cannot be told from others' at once",
                until="the worker's next hourly sweep",
            ),
        )


def _tally(connection: Connection, study_id: str) -> dict[str, Any]:
    """Return what there is of a study, before anything of it is deleted."""
    rows = {t: destruction.count(connection, t, study_id) for t in destruction.tables()}
    named = sum(
        len(destruction.blobs(connection, t, study_id, 2**31)) for t in destruction.with_blobs()
    )
    return {
        "rows": {name: number for name, number in sorted(rows.items()) if number},
        "blobs": named,
        "runs": [row.id for row in runs.of_study(connection, study_id)],
        "manifests": [
            {
                "uploader": row.uploader,
                "dataset": row.number,
                "epoch": row.epoch,
                "manifest_hash": row.manifest_hash,
            }
            for row in studies.every_dataset(connection, study_id)
        ],
        "given_out": [
            {"job_id": job.id, "kind": job.kind, "at": job.finished_at or job.asked_at}
            for job in releases.given_out(connection, study_id)
        ],
    }
