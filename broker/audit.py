"""
The audit log: every change writes its entry in the same transaction, chained by hashes.

    hash(n) = SHA-256(hash(n - 1) || canonical JSON of entry n), hash(0) = 64 zeros

`broker.audit_heads` signs its head; `linkage.audit_chain` holds what verifies it, here and without
the broker. `verify` follows the hashes alone: an end that was cut off shows only against a head
that somebody kept; give it as `head`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

import rfc8785

from broker.store import audit as rows
from broker.store.engine import Connection
from linkage.audit_chain import START as START
from linkage.audit_chain import Chain
from linkage.audit_chain import chained as chained
from linkage.errors import HistoryAltered


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
            # Heads go to every party: without it, a hash would confirm who guesses the entry.
            "salt": secrets.token_hex(16),
        }
    )
    rows.add(connection, head.number + 1, entry.decode(), chained(head.hash, entry))


def newest(connection: Connection) -> Head:
    """Return the head of the log."""
    found = rows.last(connection)
    return Head(found.number, found.hash) if found else Head(0, START)


def verify(connection: Connection, *, head: str | None = None) -> Head:
    """
    Walk the whole log and return its head. `head`: "number:hash" that must be in the chain.

    Raises HistoryAltered naming the first entry that does not fit.
    """
    chain = Chain()
    seen = head is None or head == str(Head(0, START))
    for row in rows.walk(connection):
        chain.entry(row.entry.encode(), row.hash)
        seen = seen or head == f"{row.number}:{row.hash}"
    if not seen:
        raise HistoryAltered(
            "the audit log does not hold the head you gave; its end was cut off or rewritten",
            hint="compare with the copies of the log's heads, restore it from your backup",
        )
    return Head(chain.entries, chain.hash)
