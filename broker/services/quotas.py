"""
Quotas: how much a study, and one party with its contributors, may keep at this broker.

What counts is what lies here or was announced: dataset versions with all their parts, sealed
objects for other parties, assertion lists, opt-out lists. What was withdrawn, or given up for a
newer version, counts no more. An opt-out list counts, too, and alone is never refused for a quota:
a person who objects must not have to wait for room.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from broker import audit
from broker.config import Limits
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.store import uploads
from broker.store.engine import Connection, Database
from linkage.errors import NotFound, TooLarge

WHOLE = ""
"""Stands for the study as a whole where a party would."""


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What one party, or under "" the whole study, keeps here, in bytes. other: all but datasets.
    set_by_admin: else the quota is that of config.toml.
    """

    party: str
    datasets: int
    other: int
    quota: int
    set_by_admin: bool

    @property
    def left(self) -> int:
        """How much more may come."""
        return max(0, self.quota - self.datasets - self.other)


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of the studies, and what they have used."""

    database: Database
    limits: Limits

    def usage(self, grant: Grant) -> list[Usage]:
        """Return the study as a whole, then each party."""
        with self.database.read() as connection:
            names = [WHOLE, *(party.id for party in grant.study.config.party)]
            return [usage_of(connection, self.limits, grant.study, name) for name in names]

    def set(self, grant: Grant, party: str, size: int) -> Usage:
        """
        Give the study, or one party, another quota than config.toml. What is here stays, also
        beyond it. Of CHANGE_STORAGE. Raises NotFound for a party that the study does not have.
        """
        study = grant.study
        if party != WHOLE and party not in {one.id for one in study.config.party}:
            raise NotFound(
                f"the study has no party {party!r}",
                hint=f"its parties: {', '.join(one.id for one in study.config.party)}",
            )
        with self.database.change() as connection:
            before = uploads.quotas(connection, study.id).get(party)
            if before != size:
                uploads.set_quota(connection, study.id, party, size, int(time.time()))
                audit.record(
                    connection,
                    actor=grant.caller.actor,
                    action="quota set",
                    study_id=study.id,
                    subject=party or study.id,
                    detail={"bytes": size},
                )
            return usage_of(connection, self.limits, study, party)


def usage_of(connection: Connection, limits: Limits, study: RegisteredStudy, party: str) -> Usage:
    """Return what a party, or under "" the study, uses and may use."""
    senders = None
    if party != WHOLE:
        senders = {party, *study.config.uploaders_of(study.config.party_named(party))}
    datasets, other = uploads.bytes_of(connection, study.id, senders)
    own = uploads.quotas(connection, study.id).get(party)
    general = limits.study_bytes if party == WHOLE else limits.party_bytes
    return Usage(party, datasets, other, general if own is None else own, own is not None)


def require_room(
    connection: Connection, limits: Limits, study: RegisteredStudy, sender: str, size: int
) -> None:
    """Raises TooLarge where `size` bytes more of `sender` pass the quota of party or study."""
    party = next(
        (p.id for p in study.config.party if sender in (p.id, *study.config.uploaders_of(p))), WHOLE
    )
    for name in {party, WHOLE}:
        used = usage_of(connection, limits, study, name)
        if size > used.left:
            whose = f"party {name!r}" if name else "the study"
            raise TooLarge(
                f"{whose} may keep {used.quota:,} bytes at this broker and has"
                f" {used.datasets + used.other:,}; {size:,} more are too many",
                hint="ask the broker's admin for a larger quota (`linkage-broker upload quota`), or"
                " withdraw what is not needed any more",
            )
