"""
What the audit log is searched by. Rows here are made from the log and prove nothing: what is shown
is read from the log itself. They are added after the entries, so that no change waits for them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from broker.store import audit as log
from broker.store.audit import AuditRow, HeadRow
from broker.store.tables import audit, audit_digest, audit_head, audit_index

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    Which entries; "" and None: all. subject: of the entry, or a digest in its detail. since, until:
    Unix seconds, from the first and before the second.
    """

    study: str = ""
    actor: str = ""
    action: str = ""
    subject: str = ""
    since: int | None = None
    until: int | None = None

    @property
    def everything(self) -> bool:
        """Is nothing left out?"""
        return self == Wanted()


def behind(connection: Connection) -> int:
    """Return how many of the newest entries cannot be found yet."""
    newest = log.last(connection)
    return max(0, newest.number - _last(connection)) if newest else 0


def add(connection: Connection, *, most: int) -> int:
    """Make the next entries findable, `most` at once; return how many."""
    rows = log.page(connection, after=_last(connection), limit=most)
    told = [(row.number, _told(row)) for row in rows]
    found = [{"number": number} | _columns(entry) for number, entry in told]
    digests = {
        (value, number)
        for number, entry in told
        for value in _detail(entry).values()
        if isinstance(value, str) and _DIGEST.fullmatch(value)
    }
    if found:
        connection.execute(audit_index.insert(), found)
    if digests:
        named = [{"digest": digest, "number": number} for digest, number in sorted(digests)]
        connection.execute(audit_digest.insert(), named)
    return len(found)


def newest(
    connection: Connection, wanted: Wanted, *, before: int | None, limit: int
) -> list[AuditRow]:
    """Return at most `limit` entries older than number `before`, newest first."""
    ordered = select(audit).order_by(audit.c.number.desc()).limit(limit)
    if before is not None:
        ordered = ordered.where(audit.c.number < before)
    if not wanted.everything:
        ordered = ordered.where(audit.c.number.in_(_numbers(wanted, before, limit)))
    return [AuditRow(*row) for row in connection.execute(ordered)]


def newest_heads(connection: Connection, *, before: int | None, limit: int) -> list[HeadRow]:
    """Return at most `limit` signed heads older than sequence number `before`, newest first."""
    wanted = select(audit_head).order_by(audit_head.c.sequence.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(audit_head.c.sequence < before)
    return [HeadRow(*row) for row in connection.execute(wanted)]


def hashes(connection: Connection, numbers: list[int]) -> dict[int, str]:
    """Return the hashes of these entries, as far as they are there."""
    asked = select(audit.c.number, audit.c.hash).where(audit.c.number.in_(numbers))
    return {row.number: row.hash for row in connection.execute(asked)}


def known(connection: Connection, column: str, *, most: int) -> list[str]:
    """Return the values of a column that occur, in order, leaping from one to the next."""
    one, found = audit_index.c[column], list[str]()
    value = connection.execute(select(func.min(one))).scalar_one()
    while value is not None and len(found) < most:
        if value:
            found.append(value)
        value = connection.execute(select(func.min(one)).where(one > value)).scalar_one()
    return found


def _numbers(wanted: Wanted, before: int | None, limit: int) -> Select[tuple[int]]:
    i = audit_index.c
    found = select(i.number).order_by(i.number.desc()).limit(limit)
    if before is not None:
        found = found.where(i.number < before)
    for name in ("study", "actor", "action"):
        if value := getattr(wanted, name):
            found = found.where(i[name] == value)
    if wanted.subject:
        named = select(audit_digest.c.number).where(audit_digest.c.digest == wanted.subject)
        found = found.where((i.subject == wanted.subject) | i.number.in_(named))
    if wanted.since is not None:
        found = found.where(i.at >= wanted.since)
    if wanted.until is not None:
        found = found.where(i.at < wanted.until)
    return found


def _told(row: AuditRow) -> dict[str, Any]:
    """Return what an entry says; one that somebody spoiled says nothing, and hinders no search."""
    try:
        found = json.loads(row.entry)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _columns(entry: dict[str, Any]) -> dict[str, Any]:
    at = entry.get("at")
    texts = {name: entry.get(name) for name in ("study", "actor", "action", "subject")}
    return {"at": at if type(at) is int and 0 <= at < 2**53 else 0} | {
        name: text.replace("\x00", "") if isinstance(text, str) else ""
        for name, text in texts.items()
    }


def _detail(entry: dict[str, Any]) -> dict[str, Any]:
    found = entry.get("detail")
    return found if isinstance(found, dict) else {}


def _last(connection: Connection) -> int:
    return connection.execute(select(func.max(audit_index.c.number))).scalar_one() or 0
