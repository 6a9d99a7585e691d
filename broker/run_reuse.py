"""
What an earlier run of the study compared, for the next one: linkage.matching.reuse, sealed.

A run tells, chunk by chunk, which pairs were alike and who was compared. When it is done, that
stays with it, sealed as all intermediate results, until another whole run of the study is done, a
site withdraws a dataset, or retention ends it. Whether there is something to reuse changes no
result, so it may vanish at any time.
"""

from __future__ import annotations

import hashlib
import json
import threading

from broker.container import Broker
from broker.scratch import Scratch
from broker.store import kept, runs
from broker.store.engine import Connection
from linkage.errors import LinkageError
from linkage.matching.planning import Chunk
from linkage.matching.reuse import (
    Compared,
    Cover,
    CoverKey,
    Key,
    Piece,
    cover_from_arrow,
    cover_to_arrow,
    covers_of,
    joined,
    pieces_from_arrow,
    pieces_to_arrow,
)
from linkage.matching.reusing import ReusingFinder
from linkage.sealing import KeyHolder

_PIECES, _COVERS, _SAVED = "compared-", "cover-", "saved-"
STAYING = (_PIECES, _COVERS)


class Reused:
    """What the study's newest run that is done compared; read when it is first asked for."""

    def __init__(self, broker: Broker, identity: KeyHolder, row: runs.RunRow) -> None:
        with broker.database.read() as connection:
            found = kept.newest_with(
                connection, row.study_id, _PIECES, epoch=row.epoch, software=row.software
            )
            self._names = kept.names(connection, found, (_PIECES,)) if found else []
        self._scratch = Scratch(broker, identity, row.study_id, found or "")
        self._pieces: dict[Key, list[Piece]] | None = None
        self._covers: dict[CoverKey, Cover] = {}
        self._lock = threading.Lock()

    def earlier(self, key: Key) -> Compared | None:
        """Return an earlier comparison, None where there was none or not all of it is left."""
        with self._lock:
            try:
                if self._pieces is None:
                    self._pieces = self._read()
                pieces = self._pieces.get(key, [])
                left, right = (self._cover(one) if pieces else None for one in covers_of(key))
            except LinkageError:  # another run has ended meanwhile, and this one's went
                self._pieces = {}
                return None
        return joined(left, right, pieces) if left and right else None

    def _read(self) -> dict[Key, list[Piece]]:
        pieces: dict[Key, list[Piece]] = {}
        for name in self._names:
            for key, piece in pieces_from_arrow(self._scratch.get_table(name)).items():
                pieces.setdefault(key, []).append(piece)
        return pieces

    def _cover(self, key: CoverKey) -> Cover:
        if key not in self._covers:
            self._covers[key] = cover_from_arrow(self._scratch.get_table(_cover_name(key)))
        return self._covers[key]


def keep(scratch: Scratch, finder: ReusingFinder, chunk: Chunk, number: int) -> None:
    """Keep what `find` has just compared of a chunk; the same when repeated."""
    told = finder.told(chunk)
    if not told.pieces:
        return
    for key, cover in finder.covers(chunk).items():
        if not scratch.count(_cover_name(key)):
            scratch.put_table(_cover_name(key), cover_to_arrow(cover))
    scratch.put(f"{_SAVED}{number}", json.dumps([told.comparisons, told.saved]).encode())
    scratch.put_table(f"{_PIECES}{number}", pieces_to_arrow(told.pieces))


def staying(connection: Connection, run_id: str) -> list[str]:
    """Return the names of what stays with a run that is done."""
    return kept.names(connection, run_id, STAYING)


def drop_older(connection: Connection, row: runs.RunRow) -> list[str]:
    """A run is done: forget what those before it compared, if it did so itself; return blobs."""
    if not staying(connection, row.id):
        return []
    return kept.drop_but(connection, row.study_id, STAYING, row.id)


def report_of(broker: Broker, scratch: Scratch, run_id: str) -> dict[str, int]:
    """
    Return how many comparisons of CLKs the run's chunks stand for, but for random samples, and how
    many of these were not made again.
    """
    with broker.database.read() as connection:
        told = kept.names(connection, run_id, (_SAVED,))
    facts = [json.loads(scratch.get(name)) for name in told]
    return {"comparisons": sum(n for n, _ in facts), "reused": sum(n for _, n in facts)}


def _cover_name(key: CoverKey) -> str:
    return _COVERS + hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
