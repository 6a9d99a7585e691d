"""
Access of sites: suspended at once where a key or token was stolen, and restored.

A site's key is pinned by the signed study (docs/adr/0003); it is replaced by the next epoch, which
takes the custodian's signature and days. Suspending takes a moment: tokens end, new ones are
refused, and nothing else changes. What is complete stays.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from broker import audit
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.store import access, studies
from broker.store.access import SuspensionRow
from broker.store.engine import Connection, Database
from linkage.admin_messages import AccessState
from linkage.errors import NotFound, PackageRefused

CONSOLE = "console"
"""In the audit log: whoever can log in on the broker's machine."""


@dataclass(frozen=True, slots=True)
class Access:
    """Which parties and contributors may not sign in."""

    database: Database

    def suspend(self, study_id: str, name: str, reason: str, *, by: str = CONSOLE) -> int:
        """
        End every token of a party or contributor and give it no other; return how many ended.
        Twice is once, and keeps the first reason. by: who asks, for the log.

        Raises NotFound; PackageRefused for a reason that is no line of 3 to 200 characters.
        """
        require_reason(reason)
        with self.database.change() as connection:
            _study_of(connection, study_id, name)
            ended = access.end_tokens(connection, study_id, name)
            if access.find_suspension(connection, study_id, name) is None:
                row = SuspensionRow(
                    study_id=study_id, name=name, since=int(time.time()), reason=reason
                )
                access.suspend(connection, row)
                _record(connection, "access suspended", row, by, tokens=ended)
        return ended

    def restore(self, study_id: str, name: str, *, by: str = CONSOLE) -> str:
        """
        Let it sign in again; return the fingerprint of the key with which. Raises NotFound where
        it is not suspended.
        """
        with self.database.change() as connection:
            row = access.find_suspension(connection, study_id, name)
            if row is None:
                raise NotFound(
                    f"the access of {name!r} in {study_id!r} is not suspended",
                    hint="see `linkage-broker access list`",
                )
            access.restore(connection, study_id, name)
            _record(connection, "access restored", row, by)
            study = _study_of(connection, study_id, name)
        return study.pin(name).fingerprint

    def of_study(self, grant: Grant) -> list[AccessState]:
        """Return the study's parties, each followed by its contributors, with their keys."""
        study = grant.study
        with self.database.read() as connection:
            every = access.suspensions(connection)
        away = {row.name: row for row in every if row.study_id == study.id}
        return [
            AccessState(
                name=name,
                party=party.id,
                fingerprint=study.pin(name).fingerprint,
                suspended_at=away[name].since if name in away else None,
                reason=away[name].reason if name in away else "",
            )
            for party in study.config.party
            for name in (party.id, *party.contributors)
        ]

    def one(self, grant: Grant, name: str) -> AccessState:
        """Return one of them. Raises NotFound."""
        for state in self.of_study(grant):
            if state.name == name:
                return state
        raise NotFound("there is no such party or contributor", hint="GET .../access lists them")

    def all(self) -> list[SuspensionRow]:
        """Return what is suspended, by study and name."""
        with self.database.read() as connection:
            return access.suspensions(connection)


def require_reason(reason: str) -> None:
    """Raises PackageRefused for a reason that is no line of 3 to 200 characters."""
    if not 3 <= len(reason) <= 200 or not reason.isprintable():
        raise PackageRefused("the reason does not fit", hint="3 to 200 printable characters")


def _study_of(connection: Connection, study_id: str, name: str) -> RegisteredStudy:
    row = studies.find_study(connection, study_id)
    study = RegisteredStudy.of(row) if row else None
    if study is None or name not in study.config.actors:
        raise NotFound(
            f"there is no {name!r} in a study {study_id!r} here",
            hint="see `linkage-broker study list`; for an admin: `linkage-broker admin revoke`",
        )
    return study


def _record(
    connection: Connection, action: str, row: SuspensionRow, actor: str, **detail: int
) -> None:
    audit.record(
        connection,
        actor=actor,
        action=action,
        study_id=row.study_id,
        subject=row.name,
        detail={"reason": row.reason, **detail},
    )
