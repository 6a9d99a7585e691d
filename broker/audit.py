"""
The audit log: every change writes its entry in the same transaction, chained by hashes.

    hash(n) = SHA-256(hash(n - 1) || canonical JSON of entry n), hash(0) = 64 zeros

`verify` finds an entry that was flipped, dropped or reordered. An end that was cut off shows
only against a head that somebody kept: give it as `head`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import rfc8785

from broker.store import audit as rows
from broker.store.engine import Connection
from linkage.errors import PackageRefused

START = "0" * 64


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry: its number, 0 if there is none, and its hash."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    study_id: str = "",
    subject: str = "",
    detail: Mapping[str, str | int] | None = None,
) -> None:
    """Append an entry. Must be called inside `Database.change`: it alone keeps the order."""
    head = newest(connection)
    entry = rfc8785.dumps(
        {
            "number": head.number + 1,
            "at": int(time.time()),
            "actor": actor,
            "action": action,
            "study": study_id,
            "subject": subject,
            "detail": dict(detail or {}),
        }
    )
    rows.add(connection, head.number + 1, entry.decode(), _chained(head.hash, entry))


def newest(connection: Connection) -> Head:
    """Return the head of the log."""
    found = rows.last(connection)
    return Head(found.number, found.hash) if found else Head(0, START)


def verify(connection: Connection, *, head: str | None = None) -> Head:
    """
    Walk the whole log and return its head. `head`: "number:hash" that must be in the chain.

    Raises PackageRefused naming the first entry that does not fit.
    """
    at = Head(0, START)
    seen = head is None or head == str(at)
    for row in rows.walk(connection):
        wanted = _chained(at.hash, row.entry.encode())
        number = _number(row.entry)
        if row.number != at.number + 1 or number != row.number or row.hash != wanted:
            raise PackageRefused(
                f"the audit log does not fit together at entry {at.number + 1}",
                hint="it was altered, or an entry is missing; restore it from your backup",
            )
        at = Head(row.number, row.hash)
        seen = seen or head == str(at)
    if not seen:
        raise PackageRefused(
            "the audit log does not hold the head you gave; its end was cut off or rewritten",
            hint="compare with the copies of the log's heads, restore it from your backup",
        )
    return at


def _chained(previous: str, entry: bytes) -> str:
    return hashlib.sha256(previous.encode() + entry).hexdigest()


def _number(entry: str) -> int:
    try:
        return int(json.loads(entry)["number"])
    except (ValueError, KeyError, TypeError):
        return -1
