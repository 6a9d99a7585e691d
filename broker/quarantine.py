"""
Opening what was uploaded soon after it is complete, so that its sender hears at once what is wrong
with it, and nobody's run meets it.

A dataset version that does not open, or does not hold what its manifest says, is put into
quarantine: the reason is shown to its uploader and the admin, no run takes it, and the next version
takes its place. Nothing lifts the quarantine of a version but opening it again with success.
"""

from __future__ import annotations

import time

import structlog

from broker import audit, problems
from broker.container import Broker
from broker.packages import open_dataset
from broker.registered import RegisteredStudy
from broker.store import studies, uploads
from broker.store.studies import DatasetRow
from linkage.errors import LinkageError, NotFound, Unreachable
from linkage.sealing import KeyHolder

_AGAIN_SECONDS = 600.0
"""After a fault of ours, or too little memory, the worker looks again so much later."""
_log = structlog.get_logger("linkage.worker")


class UploadChecker:
    """Opens complete dataset versions, one at a time. identity: the broker's private keys."""

    def __init__(self, broker: Broker, identity: KeyHolder) -> None:
        self._broker, self._identity = broker, identity
        self._failed: dict[tuple[str, str, int], float] = {}

    def tend(self) -> bool:
        """
        Open the oldest version that was not opened yet, and store what was found; return whether
        there was one. A worker that dies meanwhile leaves it to be opened again.
        """
        with self._broker.database.read() as connection:
            rows = uploads.unchecked(connection)
        now = time.monotonic()
        for row in rows:
            tried = self._failed.get(_name(row))
            if tried is None or now - tried > _AGAIN_SECONDS:
                self._check(row)
                return True
        return False

    def _check(self, row: DatasetRow) -> None:
        try:
            reason = self._reason(row)
        except Unreachable as fault:
            # Store or database: not the uploader's fault, and soon over.
            _log.warning("cannot check an upload now", message=fault.message)
            self._failed[_name(row)] = time.monotonic()
        except Exception as error:
            _log.error("cannot check an upload", **problems.described(error))
            self._failed[_name(row)] = time.monotonic()
        else:
            self._failed.pop(_name(row), None)
            self._settle(row, reason)

    def _reason(self, row: DatasetRow) -> str:
        """Return why a version cannot be linked, and the remedy; "" where it can."""
        with self._broker.database.read() as connection:
            study = studies.find_study_at(connection, row.study_id, row.epoch)
        if study is None:
            raise NotFound("the study is gone")
        try:
            registered = RegisteredStudy.of(study)
            open_dataset(
                self._broker,
                self._identity,
                registered,
                row.uploader,
                row.number,
                states=("complete", "quarantined"),
            )
        except Unreachable:
            raise
        except LinkageError as error:
            return str(error)
        return ""

    def _settle(self, row: DatasetRow, reason: str) -> None:
        state = "quarantined" if reason else "complete"
        with self._broker.database.change() as connection:
            now = int(time.time())
            there = uploads.set_checked(
                connection, row, state=state, quarantine=reason, checked_at=now
            )
            if there and (reason or row.state == "quarantined"):
                audit.record(
                    connection,
                    actor="worker",
                    action="dataset quarantined" if reason else "dataset out of quarantine",
                    study_id=row.study_id,
                    subject=f"{row.uploader}/{row.number}",
                    detail={"reason": reason} if reason else {},
                )
        if reason:
            _log.warning("dataset quarantined", study=row.study_id, uploader=row.uploader)


def _name(row: DatasetRow) -> tuple[str, str, int]:
    return row.study_id, row.uploader, row.number
