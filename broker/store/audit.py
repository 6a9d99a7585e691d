"""Rows of the audit log and of its signed heads. They are added and read, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from broker.store.tables import audit, audit_head, head_wish

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry as stored."""

    number: int
    entry: str
    hash: str


@dataclass(frozen=True, slots=True)
class HeadRow:
    """One signed head as stored. number: the newest entry that it covers. head: JSON."""

    sequence: int
    number: int
    head: str


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


def walk(connection: Connection, *, after: int = -(2**62)) -> Iterator[AuditRow]:
    """Yield every entry after number `after`, oldest first, a page at a time."""
    while rows := page(connection, after=after, limit=_PAGE):
        yield from rows
        after = rows[-1].number


def add_head(connection: Connection, row: HeadRow) -> None:
    """Append a signed head."""
    values = {"sequence": row.sequence, "number": row.number, "head": row.head}
    connection.execute(audit_head.insert().values(values))


def last_head(connection: Connection) -> HeadRow | None:
    """Return the newest signed head."""
    wanted = select(audit_head).order_by(audit_head.c.sequence.desc()).limit(1)
    found = connection.execute(wanted).first()
    return HeadRow(*found) if found else None


def heads_page(connection: Connection, *, after: int, limit: int) -> list[HeadRow]:
    """Return at most `limit` signed heads after sequence number `after`, oldest first."""
    wanted = select(audit_head).where(audit_head.c.sequence > after)
    wanted = wanted.order_by(audit_head.c.sequence).limit(limit)
    return [HeadRow(*row) for row in connection.execute(wanted)]


def walk_heads(connection: Connection) -> Iterator[HeadRow]:
    """Yield every signed head, oldest first, a page at a time."""
    after = -(2**62)
    while rows := heads_page(connection, after=after, limit=_PAGE):
        yield from rows
        after = rows[-1].sequence


def wish_head(connection: Connection, wished_by: str) -> None:
    """Note that a head is wanted now; one caller's wishes are one until it is fulfilled."""
    named = head_wish.c.wished_by == wished_by
    if connection.execute(select(head_wish).where(named)).first() is None:
        connection.execute(head_wish.insert().values(wished_by=wished_by))


def head_wished(connection: Connection) -> bool:
    """Is a head wanted now?"""
    return connection.execute(select(head_wish).limit(1)).first() is not None


def forget_wishes(connection: Connection) -> None:
    """A head was signed: nobody waits for one any more."""
    connection.execute(delete(head_wish))
