"""
What an earlier run compared, so that a later one compares only what is new.

Whether two CLKs are alike depends on nothing but the two: their popcounts and the ones they share.
So where both records of a pair were compared before and neither's CLK has changed, a later run
need not compare them again. It takes over which pairs were alike, and computes their z anew, by
its own calibration; then it compares new and changed records with all others. A run with reuse
and one without give the same candidates, bit for bit, and so the same entities; a test holds both
equal.

    finder = ReusingFinder(dataset, seed=seed, earlier=earlier)           (reusing.py)
    finder.find(chunk), finder.told(chunk), finder.covers(chunk)          once a chunk
    joined(left, right, pieces)     of all chunks of a key: the next run's earlier(key)

An earlier run keeps pairs down to MARGIN below what it needed itself, for the next run's
calibration and floor differ a little. Where they differ by more, all is compared again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused
from linkage.matching.candidates import Filters
from linkage.matching.dataset import Rows, Words
from linkage.matching.dice import ones_between, pairs_reaching
from linkage.matching.identity import as_names, find_in
from linkage.matching.planning import Chunk
from linkage.matching.zscore import Calibration, bound_for, raw_z, zscores
from linkage.records import Bytes2D

MARGIN = 0.1
"""Of z. A calibration on a million random pairs moves a floor of 3.5 by .005 (standard deviation),
a tenth fewer people lower it by .03; it costs half as many chance pairs again."""
_ROUNDING = 1e-6

Pairs = npt.NDArray[np.int64]
Key = tuple[str, ...]
"""kind, left, its rows, right, its rows, CLK: as a chunk names them."""
CoverKey = tuple[str, str, str]
"""party, its rows, CLK."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Cover:
    """Records that were compared, N parallel rows: pseudonyms, and digests of their CLK, S16[N]."""

    names: npt.NDArray[np.bytes_]
    digests: npt.NDArray[np.bytes_]

    @classmethod
    def of(cls, pseudonyms: Bytes2D, words: Words) -> Cover:
        """Return the cover of records with these pseudonyms, uint8[N, 16], and filters."""
        made = b"".join(hashlib.blake2b(row, digest_size=16).digest() for row in words)
        digests = np.frombuffer(made, np.uint8).reshape(-1, 16)
        return cls(as_names(pseudonyms), as_names(digests))

    def places_of(self, other: Cover) -> Rows:
        """Return where this cover has each record of the other unchanged; -1 where not: int64."""
        order = np.argsort(self.names, kind="stable")
        place = find_in(self.names[order], other.names)
        there = np.where(place >= 0, order[place], -1) if len(order) else place
        same = there >= 0
        same[same] = self.digests[there[same]] == other.digests[same]
        return np.where(same, there, -1)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Compared:
    """
    One CLK of some records of two parties, compared pair by pair, or of one party with itself.

    left, right: who was compared, the same object within a party. pairs: int64[P, 2], places in
    these, of all pairs whose raw z is at least `threshold`; within a party the lower one first.
    """

    left: Cover
    right: Cover
    threshold: float
    pairs: Pairs


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Carried:
    """
    What need not be compared again. left, right: bool[N], bool[M], who was compared before and is
    unchanged. pairs: int64[K, 2], places now, ascending, of all pairs among them whose raw z is at
    least `threshold`.
    """

    left: npt.NDArray[np.bool_]
    right: npt.NDArray[np.bool_]
    threshold: float
    pairs: Pairs


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Piece:
    """
    What one chunk tells of a comparison. start, stop, of: the chunk's rows, and where the last
    chunk of the comparison stops. pairs: int64[P, 2], places in the covers of all pairs of these
    rows whose raw z is at least `threshold`.
    """

    start: int
    stop: int
    of: int
    threshold: float
    pairs: Pairs


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Found:
    """
    reaching: int64[P, 2], places of the pairs whose z reaches the floor. pairs: of all whose raw z
    is at least `threshold`, for a later run. comparisons: of two filters, all there are; made: how
    many of them were not known.
    """

    reaching: Pairs
    threshold: float
    pairs: Pairs
    comparisons: int
    made: int


def compare(
    known: Carried | None,
    mine: Filters,
    theirs: Filters,
    *,
    first: int,
    within: bool,
    calibration: Calibration,
    floor: float,
    limit: int,
    threads: int = 1,
) -> Found:
    """
    Compare filters with others, all but the pairs that are known; return places in both covers.

    first: the place of the first of `mine` in its cover. within: `theirs` is that cover, and only
    places after one's own are compared. Where more is new than known, all is compared.
    Raises TooManyCandidates far beyond `limit` pairs.
    """
    bits, count = theirs.words.shape[1] * 64, len(mine.rows)
    threshold = calibration.centre + calibration.scale * (floor - MARGIN)
    blocks: list[Pairs] = [np.zeros((0, 2), np.int64)]
    comparisons = count * len(theirs.rows)
    if within:
        comparisons -= count * first + count * (count + 1) // 2
    made, rounds = comparisons, [(np.arange(count), np.arange(len(theirs.rows)))]
    some = _but_for_known(known, first, count) if known is not None else []
    if known is not None and (less := sum(len(i) * len(j) for i, j in some)) < comparisons:
        made, rounds = less, some
        threshold = max(threshold, known.threshold)
        begin, end = np.searchsorted(known.pairs[:, 0], [first, first + count])
        blocks.append(known.pairs[begin:end] - np.array([first, 0], np.int64))
    for rows, others in rounds:
        if not len(rows) or not len(others):
            continue
        every = len(rows) == count and len(others) == len(theirs.rows)
        found = pairs_reaching(
            mine.words if every else mine.words[rows],
            theirs.words if every else theirs.words[others],
            bound_for(mine.ones[rows], theirs.ones[others], bits, calibration, floor - MARGIN),
            triangle=first if within and every else None,
            limit=2 * limit,
            threads=threads,
        )
        blocks.append(np.stack([rows[found.left], others[found.right]], axis=1))
    i, j = np.concatenate(blocks).T
    if within:
        later = j > i + first
        i, j = i[later], j[later]
    ones = ones_between(mine.words, theirs.words, i, j)
    alike = raw_z(ones, mine.ones[i], theirs.ones[j], bits)
    z = zscores(ones, mine.ones[i], theirs.ones[j], bits, calibration)
    both = np.stack([i + first, j], axis=1)
    return Found(both[z >= floor], threshold, both[alike >= threshold], comparisons, made)


def _but_for_known(known: Carried, first: int, count: int) -> list[tuple[Rows, Rows]]:
    """Return which rows are to be compared with which others, places in a chunk's own rows."""
    old = known.left[first : first + count]
    return [
        (np.flatnonzero(~old), np.arange(len(known.right))),
        (np.flatnonzero(old), np.flatnonzero(~known.right)),
    ]


def key_of(chunk: Chunk, clk: str) -> Key:
    """Return what names the comparison of a CLK that the chunk is a piece of."""
    return chunk.kind, chunk.left, chunk.left_rows, chunk.right, chunk.right_rows, clk


def covers_of(key: Key) -> tuple[CoverKey, CoverKey]:
    """Return the names of both covers of a comparison."""
    _, left, left_rows, right, right_rows, clk = key
    return (left, left_rows, clk), (right, right_rows, clk)


def carry(earlier: Compared | None, left: Cover, right: Cover, *, needed: float) -> Carried | None:
    """
    Return what an earlier comparison says of these records; None where it says nothing.

    right: the same object as left within a party. needed: raw z down to which pairs are wanted.
    """
    if earlier is None or earlier.threshold > needed - _ROUNDING:
        return None
    there = left.places_of(earlier.left)
    other = there if right is left else right.places_of(earlier.right)
    pairs = np.stack([there[earlier.pairs[:, 0]], other[earlier.pairs[:, 1]]], axis=1)
    pairs = pairs[(pairs >= 0).all(axis=1)]
    if right is left:
        pairs.sort(axis=1)
    return Carried(
        _marked(there, len(left.names)),
        _marked(other, len(right.names)),
        earlier.threshold,
        pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))],
    )


def joined(left: Cover, right: Cover, pieces: Sequence[Piece]) -> Compared | None:
    """
    Return what the chunks of one comparison compared together; None unless they are all there.

    Of chunks that tell of the same rows, as those within a party do for each of its partners, the
    one with the most pairs is taken.
    """
    taken: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.start, p.threshold)):
        done = taken[-1].stop if taken else 0
        if taken and piece.start == taken[-1].start and piece.stop == done:
            continue
        if piece.start != done:
            return None
        taken.append(piece)
    if not taken or any(p.of != taken[-1].stop for p in taken):
        return None
    return Compared(
        left,
        right,
        max(p.threshold for p in taken),
        np.concatenate([p.pairs for p in taken]),
    )


def _marked(places: Rows, count: int) -> npt.NDArray[np.bool_]:
    marked = np.zeros(count, np.bool_)
    marked[places[places >= 0]] = True
    return marked


def pieces_to_arrow(pieces: Mapping[Key, Piece]) -> pa.Table:
    """Return what one chunk tells, without the covers."""
    facts = [
        [list(key), p.start, p.stop, p.of, p.threshold, len(p.pairs)] for key, p in pieces.items()
    ]
    both = np.concatenate([np.zeros((0, 2), np.int64), *(p.pairs for p in pieces.values())])
    table = pa.table({"left": both[:, 0].copy(), "right": both[:, 1].copy()})
    return table.replace_schema_metadata({"compared": json.dumps(facts)})


def pieces_from_arrow(table: pa.Table) -> dict[Key, Piece]:
    """Read what `pieces_to_arrow` wrote. Raises EncodingRefused for another table."""
    metadata = table.schema.metadata or {}
    if b"compared" not in metadata:
        raise EncodingRefused("these are not the pairs that a run has compared")
    facts: list[Any] = json.loads(metadata[b"compared"])
    both = np.stack([table["left"].to_numpy(), table["right"].to_numpy()], axis=1)
    ends = np.cumsum([size for *_, size in facts])
    parts = np.split(both, ends[:-1]) if facts else []
    return {
        tuple(key): Piece(start, stop, of, threshold, pairs)
        for (key, start, stop, of, threshold, _), pairs in zip(facts, parts, strict=True)
    }


def cover_to_arrow(cover: Cover) -> pa.Table:
    """Return a cover as a table of fixed 16 bytes each."""
    columns = {}
    for name, values in (("name", cover.names), ("digest", cover.digests)):
        data = pa.py_buffer(np.ascontiguousarray(values).tobytes())
        columns[name] = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), len(values), [None, data]
        )
    return pa.table(columns)


def cover_from_arrow(table: pa.Table) -> Cover:
    """Read what `cover_to_arrow` wrote. Raises EncodingRefused for another table."""
    if table.column_names != ["name", "digest"]:
        raise EncodingRefused("this is no cover of a comparison")
    found = []
    for name in table.column_names:
        whole = table[name].combine_chunks()
        raw = whole.buffers()[1] if len(whole) else None
        values = np.frombuffer(raw or b"", np.uint8)
        values = values[16 * whole.offset :][: 16 * len(whole)]
        found.append(as_names(values.reshape(-1, 16)))
    return Cover(*found)
