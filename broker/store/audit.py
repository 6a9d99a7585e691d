"""Rows of the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from broker.store.tables import audit


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry as stored."""

    number: int
    entry: str
    hash: str


def add(connection: Connection, number: int, entry: str, digest: str) -> None:
    """Append an entry."""
    connection.execute(audit.insert().values(number=number, entry=entry, hash=digest))


def last(connection: Connection) -> AuditRow | None:
    """Return the newest entry."""
    found = connection.execute(select(audit).order_by(audit.c.number.desc()).limit(1)).first()
    return AuditRow(*found) if found else None


def page(connection: Connection, *, after: int, limit: int) -> list[AuditRow]:
    """Return at most `limit` entries after number `after`, oldest first."""
    wanted = select(audit).where(audit.c.number > after).order_by(audit.c.number).limit(limit)
    return [AuditRow(*row) for row in connection.execute(wanted)]


def walk(connection: Connection) -> Iterator[AuditRow]:
    """Yield every entry, oldest first, a page at a time."""
    after = -(2**62)
    while rows := page(connection, after=after, limit=1000):
        yield from rows
        after = rows[-1].number
