"""
A finder that compares only what no earlier run has compared (reuse.py).

What it finds is what `Finder` finds, bit for bit; a property test holds both equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from linkage.matching.candidates import Filters, Finder, Pairs
from linkage.matching.dataset import Dataset
from linkage.matching.planning import NULL, SAMPLE, Chunk, RowSets
from linkage.matching.reuse import (
    Carried,
    Compared,
    Cover,
    CoverKey,
    Key,
    Piece,
    carry,
    compare,
    key_of,
)

Earlier = Callable[[Key], Compared | None]
"""What an earlier run compared; None where it did not, or where nothing is left of it."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Told:
    """
    What one chunk tells a later run, by comparison. comparisons: of two filters that the chunk
    stands for; saved: how many of these were not made again.
    """

    pieces: dict[Key, Piece] = field(default_factory=dict)
    comparisons: int = 0
    saved: int = 0


class ReusingFinder(Finder):
    """
    Finds candidates as `Finder`, takes over what `earlier` tells, and tells the same of itself.

    Random samples (NULL, SAMPLE) are drawn anew in every run; of these nothing is told.
    """

    def __init__(
        self,
        dataset: Callable[[str], Dataset],
        *,
        seed: int,
        rows: RowSets | None = None,
        earlier: Earlier = lambda _: None,
    ) -> None:
        super().__init__(dataset, seed=seed, rows=rows)
        self._earlier = earlier
        self._told: dict[str, Told] = {}

    def told(self, chunk: Chunk) -> Told:
        """
        Return what `find` has compared of a chunk. Chunks within a party are compared once for all
        of its partners, so only the first of them has something to tell.
        """
        with self._lock:
            return self._told.get(chunk.name, Told())

    def covers(self, chunk: Chunk) -> dict[CoverKey, Cover]:
        """Return who is compared by the chunk's CLKs, on both sides."""
        if chunk.kind == "keys" or not _can_be_told(chunk):
            return {}
        return {
            (party, name, clk): self._cover(clk, self._dataset(party), name)
            for party, name in ((chunk.left, chunk.left_rows), (chunk.right, chunk.right_rows))
            for clk in chunk.clks
        }

    def _alike(
        self, chunk: Chunk, clk: str, left: Dataset, right: Dataset, limit: int, threads: int
    ) -> Pairs:
        if not _can_be_told(chunk):
            return super()._alike(chunk, clk, left, right, limit, threads)
        mine, theirs = self._range_of(chunk, clk, left), self._among(clk, right, chunk.right_rows)
        whole = self._among(clk, left, chunk.left_rows)
        first = _first(whole, mine)
        found = compare(
            self._carried(chunk, clk, left, right),
            mine,
            theirs,
            first=first,
            within=chunk.kind == "within",
            calibration=self._calibration(clk, left, right),
            floor=chunk.floor,
            limit=limit,
            threads=threads,
        )
        piece = Piece(chunk.start, chunk.stop, chunk.of, found.threshold, found.pairs)
        with self._lock:
            before = self._told.get(chunk.name, Told())
            self._told[chunk.name] = Told(
                {**before.pieces, key_of(chunk, clk): piece},
                before.comparisons + found.comparisons,
                before.saved + found.comparisons - found.made,
            )
        i, j = found.reaching.T
        return np.stack([whole.rows[i], theirs.rows[j]], axis=1)

    def _carried(self, chunk: Chunk, clk: str, left: Dataset, right: Dataset) -> Carried | None:
        calibration = self._calibration(clk, left, right)
        needed = calibration.centre + calibration.scale * chunk.floor
        key = key_of(chunk, clk)

        def made() -> Carried | None:
            mine = self._cover(clk, left, chunk.left_rows)
            theirs = mine if left is right else self._cover(clk, right, chunk.right_rows)
            return carry(self._earlier(key), mine, theirs, needed=needed)

        return self._once(made, "carried", *key, str(chunk.floor))

    def _cover(self, clk: str, dataset: Dataset, name: str) -> Cover:
        def made() -> Cover:
            some = self._among(clk, dataset, name)
            return Cover.of(dataset.records.pseudonyms[some.rows], some.words)

        return self._once(made, "cover", clk, dataset.party, name)


def _can_be_told(chunk: Chunk) -> bool:
    return not {chunk.left_rows, chunk.right_rows} & {NULL, SAMPLE}


def _first(whole: Filters, mine: Filters) -> int:
    """Return the place of the first row of a range among all rows."""
    return int(np.searchsorted(whole.rows, mine.rows[0])) if len(mine.rows) else 0
