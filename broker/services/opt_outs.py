"""
Opt-outs: records that an uploader takes out of the linkage, whatever its dataset versions hold.

A list is sealed to the worker; the server checks that the uploader sealed it to the broker for
exactly this study, epoch and number. The newest list counts, over every epoch, until a later one
lifts what is not in it any more. What held the records before, the worker finds (broker.opted_out).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from broker.blobs import Blobs, Receiving
from broker.policy import Grant
from broker.services import lifecycle, sealed_lists
from broker.services.sealed_lists import Announced
from broker.store import governance, studies
from broker.store.engine import Connection, Database
from broker.store.governance import OptOutRow
from linkage.governance import OptOutState, TakenOut, opt_out_context
from linkage.messages import PART_BYTES

_KIND = "opt-out list"
_READABLE = (lifecycle.DRAFT, *lifecycle.IN_USE, lifecycle.CLOSED)


@dataclass(frozen=True, slots=True)
class OptOuts:
    """The opt-out lists of the uploaders."""

    database: Database
    blobs: Blobs

    def all(self, grant: Grant) -> list[OptOutState]:
        """Return the lists that the caller sent, for an admin everybody's; newest first."""
        with self.database.read() as connection:
            rows = governance.opt_outs_of_study(connection, grant.study.id)
        return [_state(row) for row in rows if grant.is_admin or row.uploader == grant.uploader]

    def taken_out(self, grant: Grant) -> list[TakenOut]:
        """
        Return how many records of the caller's own, or of the party that a steward acts for, stand
        taken out; for an admin everybody's. A steward's contributors tell it themselves: it gets no
        more than its party's client does.
        """
        study = grant.study
        with self.database.read() as connection:
            newest: dict[str, OptOutRow] = {}
            for row in governance.opt_outs_of_study(connection, study.id):
                newest.setdefault(row.uploader, row)
            return [
                _taken_out(connection, study.id, one, newest.get(one))
                for one in study.config.uploaders
                if grant.is_admin or one == grant.viewer
            ]

    def announce(self, grant: Grant, number: int) -> Announced:
        """
        Check whether list `number` may come, before its body is read. Raises Conflict unless it is
        the uploader's next list or one that is here. A study key out of use hinders nothing.
        """
        with self.database.read() as connection:
            _require_next(connection, grant, number)
        return Announced(grant, number, PART_BYTES)

    def take(self, announced: Announced, received: Receiving) -> tuple[OptOutState, bool]:
        """
        Keep a list; return its state, and whether it is new. The same again is one.

        Raises PackageRefused where the uploader did not seal it for exactly this, Conflict where
        another one has its number.
        """
        grant, number = announced.grant, announced.number
        study = grant.study
        epoch = study.config.study.epoch

        def here(connection: Connection) -> OptOutRow | None:
            lifecycle.require(connection, study.id, *_READABLE)
            return _require_next(connection, grant, number)

        row, new = sealed_lists.take(
            self.database,
            self.blobs,
            announced,
            received,
            kind=_KIND,
            context=opt_out_context(study.id, grant.uploader, epoch, number),
            row=OptOutRow,
            here=here,
            add=governance.add_opt_outs,
        )
        return _state(row), new


def _require_next(connection: Connection, grant: Grant, number: int) -> OptOutRow | None:
    """Return the list of this number, if it is here."""
    study_id, uploader = grant.study.id, grant.uploader
    found = governance.find_opt_outs(connection, study_id, uploader, number)
    newest = governance.newest_opt_outs(connection, study_id).get(uploader, 0)
    sealed_lists.require_next(found, number, newest, kind=_KIND, uploader=uploader)
    return found


def _taken_out(
    connection: Connection, study_id: str, uploader: str, row: OptOutRow | None
) -> TakenOut:
    dataset = studies.newest_dataset(connection, study_id, uploader)
    gone = dataset if dataset is not None and dataset.state == "withdrawn" else None
    read = _state(row) if row else None
    return TakenOut(
        uploader=uploader,
        number=row.number if row else None,
        opted_out=read.records if read else None,
        refusal=read.refusal if read else "",
        given_out=len(read.held_by) if read else 0,
        withdrawn=gone.number if gone else None,
        records=json.loads(gone.manifest)["records"] if gone else 0,
    )


def _state(row: OptOutRow) -> OptOutState:
    return OptOutState.model_validate(
        {
            "uploader": row.uploader,
            "number": row.number,
            "epoch": row.epoch,
            "size": row.size,
            "digest": row.digest,
            **json.loads(row.report or "{}"),
        }
    )
