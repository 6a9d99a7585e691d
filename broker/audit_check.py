"""
Verifying the audit log while the server serves: the newest head and what follows it at once, the
whole in pieces in a thread of its own.

Both check what the broker's own machine can: hashes, numbers, the heads' order and signatures
(linkage.audit_chain, steps 2 and 3). Who owns this machine can show what it likes; against that
help the heads that parties keep, on another machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from broker import problems
from broker.store import audit as rows
from broker.store import audit_index
from broker.store.engine import Connection, Database
from linkage.audit_chain import AuditHead, Chain, parse_head, require_signed
from linkage.errors import HistoryAltered, LinkageError
from linkage.sealing import PublicIdentity

PIECE = 1_000
"""Entries that are verified at once, some 20 ms."""
_REST = 1.0
"""Seconds of rest for each second of work: others are served meanwhile."""
_log = structlog.get_logger("linkage.audit")


@dataclass(frozen=True, slots=True)
class Progress:
    """
    A verification of the whole log. of: entries that there were when it began. signed: the newest
    entry under a head. fault: what does not fit, or hindered it.
    """

    begun_at: int
    by: str
    of: int
    entries: int = 0
    heads: int = 0
    signed: int = 0
    ended_at: int | None = None
    fault: LinkageError | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """
    The newest head, which the broker signed and which covers entry `signed` and all before;
    checked: entries after it whose hashes follow; left: later ones, not looked at. fault: what does
    not fit.
    """

    head: AuditHead | None
    signed: int
    checked: int
    left: int
    fault: LinkageError | None = None


class Check:
    """One verification at a time, of this process. signer: gives the broker's public identity."""

    def __init__(self, database: Database, signer: Callable[[], PublicIdentity]) -> None:
        self._database, self.signer = database, signer
        self._lock = threading.Lock()
        self._newest: Progress | None = None

    @property
    def newest(self) -> Progress | None:
        """How far the newest verification is."""
        return self._newest

    def begin(self, by: str) -> Progress:
        """Begin, unless one goes on; return it."""
        with self._lock:
            going = self._newest
            if going is not None and going.ended_at is None:
                return going
            with self._database.read() as connection:
                last = rows.last(connection)
            begun = Progress(int(time.time()), by, last.number if last else 0)
            self._newest = begun
        threading.Thread(target=self._run, args=(begun,), daemon=True).start()
        return begun

    def _run(self, begun: Progress) -> None:
        fault: LinkageError | None = None
        chain = Chain(self.signer())
        try:
            while self._piece(chain):
                self._newest = _as_far(begun, chain)
        except LinkageError as error:
            fault = error
        except Exception as error:
            _log.error("the audit log cannot be verified", **problems.described(error))
            fault = LinkageError("the log could not be verified: a fault of ours", hint="try again")
        if isinstance(fault, HistoryAltered):
            _log.error("history-altered", message=fault.message)
        self._newest = replace(_as_far(begun, chain), ended_at=int(time.time()), fault=fault)

    def _piece(self, chain: Chain) -> bool:
        """Verify the next entries and heads; return whether there may be more."""
        began = time.monotonic()
        with self._database.read() as connection:
            # Heads first: entries are then there for each, whatever is written meanwhile.
            heads = rows.heads_page(connection, after=chain.heads, limit=PIECE)
            entries = rows.page(connection, after=chain.entries, limit=PIECE)
        found = [_parsed(one) for one in heads]
        numbers = [one.number for one in heads]
        at = _heads_up_to(chain, found, numbers, 0)
        for one in entries:
            chain.entry(one.entry.encode(), one.hash)
            at = _heads_up_to(chain, found, numbers, at)
        if len(entries) < PIECE and at < len(found):
            chain.head(found[at])  # raises: entries that it covers are missing
        time.sleep(_REST * (time.monotonic() - began))
        return PIECE in (len(entries), len(heads))


def tail(connection: Connection, signer: PublicIdentity) -> Tail:
    """Look whether the newest head fits, and PIECE entries after it at most."""
    row, last = rows.last_head(connection), rows.last(connection)
    chain, head = Chain(), None
    try:
        if row is not None:
            head = _parsed(row)
            place = f"head {row.sequence} of the log"
            require_signed(head, signer, place)
            if row.number and audit_index.hashes(connection, [row.number]) != {
                row.number: head.hash
            }:
                raise HistoryAltered(
                    f"{place} does not cover the log as it is at entry {row.number}",
                    hint="it was altered; verify the whole log, and compare with a backup",
                )
            chain.entries, chain.hash = row.number, head.hash
        signed = chain.entries
        for one in rows.page(connection, after=signed, limit=PIECE):
            chain.entry(one.entry.encode(), one.hash)
    except HistoryAltered as fault:
        return Tail(None, 0, 0, 0, fault)
    end = last.number if last else 0
    return Tail(head, signed, chain.entries - signed, max(0, end - chain.entries))


def _heads_up_to(chain: Chain, heads: list[AuditHead], numbers: list[int], at: int) -> int:
    while at < len(heads) and numbers[at] <= chain.entries:
        chain.head(heads[at])
        at += 1
    return at


def _as_far(begun: Progress, chain: Chain) -> Progress:
    return replace(begun, entries=chain.entries, heads=chain.heads, signed=chain.signed)


def _parsed(row: rows.HeadRow) -> AuditHead:
    return parse_head(row.head, f"head {row.sequence} of the database")
