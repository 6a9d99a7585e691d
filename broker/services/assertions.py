"""
Assertion lists: what uploaders say of their records and others', sealed to the worker.

The server cannot open a list. It checks that the uploader sealed it to the broker for exactly this
study, epoch and number; what it says is settled when a run is solved (broker.asserted).
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.blobs import Blobs, Receiving
from broker.config import Limits
from broker.policy import Grant
from broker.services import lifecycle, sealed_lists
from broker.services.quotas import require_room
from broker.services.sealed_lists import Announced
from broker.services.upload_rules import require_key_in_use
from broker.store import assertions
from broker.store.assertions import ListRow
from broker.store.engine import Connection, Database
from linkage.assertions import AssertionListState
from linkage.messages import ASSERTIONS, BROKER, PART_BYTES
from linkage.sealing import Context

_KIND = "assertion list"


def list_context(study_id: str, uploader: str, epoch: int, number: int) -> Context:
    """Return what an assertion list is sealed for."""
    return Context(study_id, uploader, BROKER, ASSERTIONS, (str(epoch), str(number)))


@dataclass(frozen=True, slots=True)
class Assertions:
    """The assertion lists of the uploaders."""

    database: Database
    blobs: Blobs
    limits: Limits

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
        another one has its number, TooLarge where it passes a quota.
        """
        grant, number = announced.grant, announced.number
        epoch = grant.study.config.study.epoch

        def add(connection: Connection, row: ListRow) -> None:
            require_room(connection, self.limits, grant.study, grant.uploader, row.size)
            assertions.add(connection, row)

        row, new = sealed_lists.take(
            self.database,
            self.blobs,
            announced,
            received,
            kind=_KIND,
            context=list_context(grant.study.id, grant.uploader, epoch, number),
            row=ListRow,
            here=lambda connection: _require_next(connection, grant, number),
            add=add,
        )
        return _state(row), new


def _require_next(connection: Connection, grant: Grant, number: int) -> ListRow | None:
    """Return the list of this number, if it is here."""
    study = grant.study
    lifecycle.require(connection, study.id)
    require_key_in_use(connection, study)
    found = assertions.find(connection, study.id, grant.uploader, number)
    rows = assertions.of_study(connection, study.id)
    newest = max((row.number for row in rows if row.uploader == grant.uploader), default=0)
    sealed_lists.require_next(found, number, newest, kind=_KIND, uploader=grant.uploader)
    return found


def _state(row: ListRow) -> AssertionListState:
    return AssertionListState(
        uploader=row.uploader,
        number=row.number,
        epoch=row.epoch,
        size=row.size,
        digest=row.digest,
    )
