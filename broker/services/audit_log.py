"""
The audit log as people read it: newest first, searched, each entry checked against its hash; and
whether the whole of it verifies (broker.audit_check).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.audit_check import Check, Progress, Tail, tail
from broker.policy import Grant
from broker.store import audit as rows
from broker.store import audit_index
from broker.store.audit_index import Wanted as Wanted
from broker.store.engine import Database
from linkage.audit_chain import START, AuditHead, chained
from linkage.audit_messages import AuditState

_AT_ONCE = 2_000
"""Entries that a search makes findable first: some 30 ms."""
_MOST_NAMES = 200
_FRESH_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One entry as stored. told: what it says, empty where it cannot be read. fits: its hash covers
    it, its number and the hash of the entry before.
    """

    number: int
    told: Mapping[str, Any]
    hash: str
    fits: bool


@dataclass(frozen=True, slots=True)
class Page:
    """
    entries: newest first. older: are there more. unsearched: newest entries that a search does not
    find yet; a worker sees to them.
    """

    entries: Sequence[Entry]
    older: bool
    unsearched: int


@dataclass(slots=True)
class Known:
    """Names to suggest, by kind. asked: when they were looked up, monotonic seconds."""

    asked: float = float("-inf")
    found: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditLog:
    """What admins and auditors see of the log. check: verifies the whole of it."""

    database: Database
    check: Check
    known: Known = field(default_factory=Known)

    def page(
        self, _grant: Grant, wanted: Wanted, *, before: int | None = None, limit: int = 50
    ) -> Page:
        """Return entries older than number `before`, newest first."""
        unsearched = 0 if wanted.everything else self.catch_up(_AT_ONCE)
        with self.database.read() as connection:
            found = audit_index.newest(connection, wanted, before=before, limit=limit + 1)
            older, found = len(found) > limit, found[:limit]
            previous = audit_index.hashes(connection, [row.number - 1 for row in found])
        return Page([_entry(row, previous) for row in found], older, unsearched)

    def names(self, _grant: Grant) -> Mapping[str, Sequence[str]]:
        """
        Return which studies, actors and actions occur, as far as they can be searched for, as it
        was at most _FRESH_SECONDS ago: they are hundreds of small queries, and only suggestions.
        """
        now = time.monotonic()
        if now - self.known.asked > _FRESH_SECONDS:
            with self.database.read() as connection:
                self.known.found = {
                    name: audit_index.known(connection, name, most=_MOST_NAMES)
                    for name in ("study", "actor", "action")
                }
            self.known.asked = now
        return self.known.found

    def catch_up(self, most: int = _AT_ONCE) -> int:
        """Make the next entries findable; return how many are left."""
        with self.database.read() as connection:
            if not audit_index.behind(connection):
                return 0
        with self.database.change() as connection:
            audit_index.add(connection, most=most)
            return audit_index.behind(connection)

    def tail(self, _grant: Grant) -> Tail:
        """Look at the newest head and at what follows it: cheap, and no verification."""
        with self.database.read() as connection:
            return tail(connection, self.check.signer())

    def verify(self, grant: Grant) -> Progress:
        """Begin to verify the whole log, unless that goes on already."""
        return self.check.begin(grant.caller.actor)

    def state(self, grant: Grant) -> AuditState:
        """Return both of `tail` and the newest verification, as programs read it."""
        found, made = self.tail(grant), self.check.newest
        told = AuditState(
            head=found.head,
            signed=found.signed,
            checked=found.checked,
            left=found.left,
            fault=found.fault.message if found.fault else "",
        )
        if made is None:
            return told
        return told.model_copy(
            update={
                "begun_at": made.begun_at,
                "ended_at": made.ended_at,
                "verified_entries": made.entries,
                "verified_heads": made.heads,
                "of": made.of,
                "verified_fault": made.fault.message if made.fault else "",
            }
        )

    def newest_heads(
        self, _grant: Grant, *, before: int | None = None, limit: int = 20
    ) -> tuple[list[AuditHead], bool]:
        """Return heads older than sequence number `before`, newest first; is one to be signed?"""
        with self.database.read() as connection:
            found = audit_index.newest_heads(connection, before=before, limit=limit)
            wished = rows.head_wished(connection)
        return [AuditHead.model_validate_json(row.head) for row in found], wished


def _entry(row: rows.AuditRow, previous: Mapping[int, str]) -> Entry:
    try:
        told = json.loads(row.entry)
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    before = START if row.number == 1 else previous.get(row.number - 1, "")
    fits = told.get("number") == row.number and chained(before, row.entry.encode()) == row.hash
    return Entry(row.number, told, row.hash, fits)
