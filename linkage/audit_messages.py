"""What is said over HTTP about reading and verifying the audit log (rules: linkage.messages)."""

from __future__ import annotations

from typing import Any

from linkage.audit_chain import AuditHead
from linkage.messages import Count, Message


class FoundEntry(Message):
    """
    An entry as stored. told: what it says, empty where it cannot be read. fits: its hash covers it,
    its number and the hash of the entry before; whether the log as a whole fits, this does not say.
    """

    number: int
    told: dict[str, Any]
    hash: str
    fits: bool


class FoundEntries(Message):
    """
    Entries, newest first. older: are there more. unsearched: newest entries that a search does not
    find yet.
    """

    entries: list[FoundEntry]
    older: bool
    unsearched: Count


class AuditState(Message):
    """
    head, signed: the newest head, and the newest entry under it; checked: entries after it that
    follow; left: later ones, not looked at. fault: what does not fit, "" for nothing.

    The verification of the whole log by this server, None for none: verified_entries and heads so
    far, of how many; begun_at, ended_at; its fault likewise.
    """

    head: AuditHead | None
    signed: int
    checked: int
    left: int
    fault: str = ""
    begun_at: int | None = None
    ended_at: int | None = None
    verified_entries: int = 0
    verified_heads: int = 0
    of: int = 0
    verified_fault: str = ""
