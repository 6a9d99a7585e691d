"""
Signed heads of the audit log: made by the worker, handed to every caller, checked by anyone.

The worker signs, with the identity that every signed study pins. So a party verifies heads with
what it has, no second key needs a second telephone call, and the server, which faces the network,
still holds no private key. Heads are made every `[worker] head_seconds`, whether or not anything
was written: their number then says nothing of what other parties do, and one that is old says that
somebody withholds newer ones. Remaining weakness: what was written since the newest head that left
this machine can be rewritten by whoever holds database and key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from broker.store import audit as rows
from broker.store.engine import Connection, Database
from linkage.audit_chain import (
    START,
    AuditHead,
    Chain,
    KeptHead,
    Verdict,
    export_lines,
    parse_head,
)
from linkage.errors import HistoryAltered
from linkage.sealing import KeyHolder, PublicIdentity

FRESH_SECONDS = 1.0
"""How old the head of an answer may be; asking the database at every request would cost time."""

_PIECE_BYTES = 1 << 16


class HeadSigner:
    """
    The worker's hand on the log. every: seconds between heads. now: Unix seconds.

    Workers that share a database take turns: whoever comes second finds that no head is due.
    """

    def __init__(
        self,
        database: Database,
        identity: KeyHolder,
        *,
        every: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._identity = database, identity
        self._every, self._now = every, now

    def tend(self) -> AuditHead | None:
        """Sign a head if one is due or wished for; return it."""
        with self._database.read() as connection:
            if not self._due(connection):
                return None
        return self._sign(only_if_due=True)

    def sign(self) -> AuditHead:
        """Sign a head now. Raises HistoryAltered where the log does not follow the newest head."""
        made = self._sign(only_if_due=False)
        if made is None:
            raise HistoryAltered("no head was signed", hint="try again")
        return made

    def _sign(self, *, only_if_due: bool) -> AuditHead | None:
        with self._database.change() as connection:
            if only_if_due and not self._due(connection):
                return None
            before, chain = _newest(connection), _since_newest(connection)
            made = AuditHead(
                sequence=before.sequence + 1 if before else 1,
                previous=before.digest if before else START,
                hash=chain.hash,
                at=int(self._now()),
            ).sign(self._identity)
            text = made.canonical().decode()
            rows.add_head(connection, rows.HeadRow(made.sequence, chain.entries, text))
            rows.forget_wishes(connection)
        return made

    def _due(self, connection: Connection) -> bool:
        before = _newest(connection)
        # A clock that was put back must not silence the log until it has caught up.
        if before is None or abs(self._now() - before.at) >= self._every:
            return True
        return rows.head_wished(connection)


class Heads:
    """What callers get of the heads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest: tuple[float, str] = (float("-inf"), "")

    def newest(self) -> str:
        """Return the newest head, canonical JSON, at most FRESH_SECONDS old; "" for none."""
        asked, text = self._newest
        now = time.monotonic()
        if now - asked > FRESH_SECONDS:
            with self._database.read() as connection:
                row = rows.last_head(connection)
            text = row.head if row else ""
            self._newest = (now, text)
        return text

    def page(self, *, after: int, limit: int) -> list[AuditHead]:
        """Return at most `limit` heads after sequence number `after`, oldest first."""
        with self._database.read() as connection:
            found = rows.heads_page(connection, after=after, limit=limit)
        return [AuditHead.model_validate_json(row.head) for row in found]

    def lines(self) -> Iterator[bytes]:
        """Yield all heads, oldest first, as the lines of a file that `linkage audit` reads."""
        with self._database.read() as connection:
            for row in rows.walk_heads(connection):
                yield row.head.encode() + b"\n"

    def export(self, signer: PublicIdentity) -> Iterator[bytes]:
        """
        Yield the whole log with its heads, as `audit export` writes it, as it is: whoever gets it
        verifies it. A slow reader holds a connection to the database.
        """
        held = bytearray()
        with self._database.read() as connection:
            for line in export_lines(signer, walk(connection)):
                held += line
                # Each piece changes threads, which takes longer than a line does.
                if len(held) >= _PIECE_BYTES:
                    yield bytes(held)
                    held.clear()
        yield bytes(held)

    def wish(self, actor: str) -> None:
        """Have the worker sign a head now, which it does within about a second."""
        with self._database.change() as connection:
            rows.wish_head(connection, actor)


def verify(
    connection: Connection, signer: PublicIdentity, kept: Sequence[KeptHead] = ()
) -> Verdict:
    """
    Walk the log and its heads. Raises HistoryAltered naming the first that does not fit.

    kept: heads that parties hold, as `linkage.audit_chain.read_heads` read them.
    """
    chain = Chain(signer, kept)
    for one in walk(connection):
        if isinstance(one, AuditHead):
            chain.head(one)
        else:
            chain.entry(*one)
    return chain.end()


def walk(connection: Connection) -> Iterator[tuple[bytes, str] | AuditHead]:
    """
    Yield entries and heads in their order: each head after the newest entry that it covers.

    Heads whose entries are missing come last. Raises HistoryAltered for a head that is no head.
    """
    heads = rows.walk_heads(connection)
    head = next(heads, None)
    for number, row in enumerate(rows.walk(connection)):
        while head is not None and head.number <= number:
            yield _parsed(head)
            head = next(heads, None)
        yield row.entry.encode(), row.hash
    while head is not None:
        yield _parsed(head)
        head = next(heads, None)


def _since_newest(connection: Connection) -> Chain:
    """
    Walk from the newest head to the log's end, so that nothing altered meanwhile is signed.

    Raises HistoryAltered where entries do not follow that head.
    """
    chain = Chain()
    row = rows.last_head(connection)
    if row is not None and row.number:
        chain.entries, chain.hash = row.number, _parsed(row).hash
        covered = rows.page(connection, after=row.number - 1, limit=1)
        if not covered or (covered[0].number, covered[0].hash) != (row.number, chain.hash):
            raise HistoryAltered(
                f"the audit log no longer holds entry {row.number}, which head {row.sequence}"
                " covers",
                hint="it was altered; run `linkage-broker audit verify`, compare with a backup",
            )
    for entry in rows.walk(connection, after=chain.entries):
        chain.entry(entry.entry.encode(), entry.hash)
    return chain


def _newest(connection: Connection) -> AuditHead | None:
    row = rows.last_head(connection)
    return _parsed(row) if row else None


def _parsed(row: rows.HeadRow) -> AuditHead:
    return parse_head(row.head, f"head {row.sequence} of the database")
