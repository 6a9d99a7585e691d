"""
Assertion lists: what uploaders say of their records and others', sealed to the worker.

The server cannot open a list. It checks that the uploader sealed it to the broker for exactly this
study, epoch and number; what it says is settled when a run is solved (broker.asserted).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from broker import audit
from broker.blobs import Blobs, Receiving
from broker.policy import Grant
from broker.services.uploads import require_key_in_use
from broker.store import assertions
from broker.store.assertions import ListRow
from broker.store.engine import Connection, Database
from linkage.assertions import AssertionListState
from linkage.errors import Conflict, PackageRefused
from linkage.messages import ASSERTIONS, BROKER, PART_BYTES
from linkage.sealing import Context, verify_sealed_stream


def list_context(study_id: str, uploader: str, epoch: int, number: int) -> Context:
    """Return what an assertion list is sealed for."""
    return Context(study_id, uploader, BROKER, ASSERTIONS, (str(epoch), str(number)))


@dataclass(frozen=True, slots=True)
class Announced:
    """A list that is about to come. cap: bytes that it may have."""

    grant: Grant
    number: int
    cap: int


@dataclass(frozen=True, slots=True)
class Assertions:
    """The assertion lists of the uploaders."""

    database: Database
    blobs: Blobs

    def all(self, grant: Grant) -> list[AssertionListState]:
        """Return the lists that the caller sent, for an admin everybody's; newest first."""
        with self.database.read() as connection:
            rows = assertions.of_study(connection, grant.study.id)
        return [_state(row) for row in rows if grant.is_admin or row.uploader == grant.uploader]

    def announce(self, grant: Grant, number: int) -> Announced:
        """
        Check whether list `number` may come, before its body is read.

        Raises Conflict unless it is the uploader's next list or one that is here, and once the
        epoch's study key is deactivated.
        """
        with self.database.read() as connection:
            _require_next(connection, grant, number)
        return Announced(grant, number, PART_BYTES)

    def take(self, announced: Announced, received: Receiving) -> tuple[AssertionListState, bool]:
        """
        Keep a list; return its state, and whether it is new. The same again is one.

        Raises PackageRefused where the uploader did not seal it for exactly this, Conflict where
        another one has its number.
        """
        grant, number = announced.grant, announced.number
        study, uploader = grant.study, grant.uploader
        epoch = study.config.study.epoch
        if not received.size:
            raise PackageRefused("the body is empty", hint="send the sealed list")
        context = list_context(study.id, uploader, epoch, number)
        with received.reader() as file:
            verify_sealed_stream(file, sender=study.pin(uploader), context=context)
        blob = received.keep()
        row = ListRow(
            study_id=study.id,
            uploader=uploader,
            number=number,
            epoch=epoch,
            blob_id=blob.blob_id,
            size=blob.size,
            digest=blob.digest,
            placed_at=int(time.time()),
        )
        kept = False
        try:
            with self.database.change() as connection:
                found = _require_next(connection, grant, number)
                if found is None:
                    assertions.add(connection, row)
                    audit.record(
                        connection,
                        actor=grant.caller.actor,
                        action="assertion list received",
                        study_id=study.id,
                        subject=f"{uploader}/{number}",
                        detail={"digest": row.digest, "bytes": row.size},
                    )
            kept = found is None
        finally:
            if not kept:
                self.blobs.delete(blob.blob_id)
        if found and found.digest != row.digest:
            raise Conflict(
                f"another assertion list has the number {number}",
                hint="send it as the next one: run the same command again",
            )
        return _state(found or row), found is None


def _require_next(connection: Connection, grant: Grant, number: int) -> ListRow | None:
    """Return the list of this number, if it is here."""
    study = grant.study
    require_key_in_use(connection, study)
    found = assertions.find(connection, study.id, grant.uploader, number)
    rows = assertions.of_study(connection, study.id)
    after = 1 + max((row.number for row in rows if row.uploader == grant.uploader), default=0)
    if found is None and number != after:
        raise Conflict(
            f"the next assertion list of {grant.uploader!r} is number {after}",
            hint="send it with that number",
        )
    return found


def _state(row: ListRow) -> AssertionListState:
    return AssertionListState(
        uploader=row.uploader,
        number=row.number,
        epoch=row.epoch,
        size=row.size,
        digest=row.digest,
    )
