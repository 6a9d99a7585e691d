"""
What only the whole dataset can tell: repeated record ids, the order of its records, its groups.

    whole = Assembled(spool)
    repeated = whole.order_records()        writes "order" and "kept"
    groups = whole.group_records(rules)     writes "groups" and "group_positions"

Everything is done in passes over ranges of the values, so that memory is bounded but for about
20 bytes a record. Rows are numbered through all batches, in the order of the batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.delta import in_order
from sites.spool import Batch, Spool

PASS_ROWS = 2_000_000
"""Rows that one pass holds in memory, about."""
_LEADING = 1 << 16


@dataclass(frozen=True, slots=True)
class Repeated:
    """A record id that an earlier record has: both as the source counts them."""

    earlier: int
    later: int


class Assembled:
    """All batches of a spool. rows: N. batches: each with the row number of its first row."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.batches: list[tuple[Batch, int]] = []
        self.rows = 0
        number = 1
        while spool.path(number).exists():
            batch = spool.batch(number)
            self.batches.append((batch, self.rows))
            self.rows += batch.rows
            number += 1

    def order_records(self) -> list[Repeated]:
        """
        Order all records by pseudonym; leave out those whose record id an earlier one has.

        Writes "kept", bool[N], "order", uint32[K]: the rows that are kept, in order, and "names",
        uint8[K, 16]: their pseudonyms.
        """
        kept = np.ones(self.rows, dtype=bool)
        order: list[npt.NDArray[np.uint32]] = []
        repeated: list[Repeated] = []
        ordered: list[npt.NDArray[np.uint64]] = []
        for low, high in passes(self.rows, PASS_ROWS):
            names, rows, numbers = self._range(low, high)
            # By pseudonym, then by place in the source: of two equal ones the first is kept.
            sorting = in_order(names[:, 0], names[:, 1], numbers)
            names, rows, numbers = names[sorting], rows[sorting], numbers[sorting]
            same = np.zeros(len(rows), dtype=bool)
            same[1:] = (names[1:] == names[:-1]).all(axis=1)
            first = np.maximum.accumulate(np.where(same, 0, np.arange(len(rows))))
            later = np.flatnonzero(same)
            pairs = zip(numbers[first[later]].tolist(), numbers[later].tolist(), strict=True)
            repeated += [Repeated(*pair) for pair in pairs]
            kept[rows[same]] = False
            order.append(rows[~same].astype(np.uint32))
            ordered.append(names[~same])
        names = np.concatenate(ordered) if ordered else np.zeros((0, 2), np.uint64)
        self.spool.save("names", names.astype(">u8").view(np.uint8))
        self.spool.save("kept", kept)
        self.spool.save("order", np.concatenate(order) if order else np.zeros(0, np.uint32))
        return sorted(repeated, key=lambda one: one.later)

    def group_records(self, rules: int) -> int:
        """
        Group the kept records by the digests of `rules` grouping rules; return how many groups.

        Writes "groups", uint32[N]: the first row of each row's group; and "group_positions",
        uint32[K]: the place in "order" of the first record of its group.
        """
        # Only a process that works loads what compiles loops; others take this module's constants.
        from linkage.encoding.duplicates import settle, unite

        kept = self.spool.load("kept")
        groups = np.arange(self.rows, dtype=np.uint32)
        for place in range(rules):
            for low, high in passes(self.rows, PASS_ROWS):
                digests, rows = [], []
                for batch, first in self.batches:
                    one = batch.column("digests")[:, place]
                    leading = one >> np.uint64(48)
                    chosen = (one != 0) & (low <= leading) & (leading < high)
                    chosen &= kept[first : first + batch.rows]
                    found = np.flatnonzero(chosen)
                    digests.append(one[found])
                    rows.append(found + first)
                unite(groups, np.concatenate(digests), np.concatenate(rows))
        settle(groups)
        self.spool.save("groups", groups)
        order = self.spool.load("order")
        first_of = np.full(self.rows, np.iinfo(np.uint32).max, np.uint32)
        members = groups[order]
        # Assigned from the last to the first, so the first record of a group stays.
        first_of[members[::-1]] = np.arange(len(order), dtype=np.uint32)[::-1]
        positions = first_of[members]
        self.spool.save("group_positions", positions)
        return int((positions == np.arange(len(order), dtype=np.uint32)).sum())

    def _range(
        self, low: int, high: int
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the names (uint64[n, 2]), rows and numbers of a range of pseudonyms."""
        names, rows, numbers = [], [], []
        for batch, first in self.batches:
            halves = batch.column("pseudonyms").view(">u8")
            leading = halves[:, 0] >> np.uint64(48)
            start, stop = np.searchsorted(leading, [low, high])
            names.append(halves[start:stop].astype(np.uint64))
            rows.append(np.arange(start, stop) + first)
            numbers.append(np.asarray(batch.column("numbers")[start:stop]))
        return np.concatenate(names), np.concatenate(rows), np.concatenate(numbers)


class Runs:
    """
    Any rows of the dataset, in pseudonym order, from the batches that hold them.

    A batch is in that order too, so of each one run of rows is read.
    """

    def __init__(self, whole: Assembled, rows: npt.NDArray[np.uint32]) -> None:
        firsts = np.array([first for _, first in whole.batches], np.int64)
        of = np.searchsorted(firsts, rows, side="right") - 1
        by_batch = np.argsort(of, kind="stable")
        stops = np.cumsum(np.bincount(of, minlength=len(firsts)))
        local = rows[by_batch].astype(np.int64)
        self._place = np.empty(len(rows), np.int64)
        self._runs: list[tuple[Batch, int, int]] = []
        at = start = 0
        for (batch, first), stop in zip(whole.batches, stops.tolist(), strict=True):
            if start < stop:
                low, high = int(local[start]), int(local[stop - 1]) + 1
                self._runs.append((batch, low - first, high - low))
                # Rows of the run that are left out are read with it, and nobody takes them.
                self._place[by_batch[start:stop]] = local[start:stop] - low + at
                at, start = at + high - low, stop
        self._read = at

    def column(self, name: str, kind: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
        """Return a column of these rows, [n, *shape]."""
        read = np.empty((self._read, *shape), kind)
        at = 0
        for batch, start, size in self._runs:
            batch.read(name, start, read[at : at + size])
            at += size
        return np.take(read, self._place, axis=0)


def passes(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """
    Cut the 65,536 values of 16 leading bits into ranges [low, high) of about `most` rows each.

    Pseudonyms, keys and digests are uniform, so equal ranges hold about equal numbers.
    """
    count = max(1, -(-rows // most))
    edges = [_LEADING * i // count for i in range(count + 1)]
    yield from pairwise(edges) if rows else ()
