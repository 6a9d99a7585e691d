"""
Records merged greedily, best pair first, at most one record a party: trees for hierarchy.py.

Two clusters of two or more records each are merged only by a pair that is more likely than not
before competition. Ties go to the smaller party numbers, then rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

Members = npt.NDArray[np.int64]
Edges = tuple[int, int, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Two party numbers, left rows, right rows, log weights."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MergeTrees:
    """
    Every merge, in order. records: how many have a pair; they are numbered first, merges follow.

    one, other: int64[M], what was merged. members: int64[M, parties], the row in each party after
    the merge, -1 where there is none.
    number: by party, int64[rows], the number of each row that has a pair.
    """

    records: int
    one: npt.NDArray[np.int64]
    other: npt.NDArray[np.int64]
    members: Members
    number: tuple[npt.NDArray[np.int64], ...]

    def ends(self, sets: Members) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the numbers of both records of sets of two."""
        _, party = np.nonzero(sets >= 0)
        rows = sets[sets >= 0]
        found = np.empty(len(rows), np.int64)
        for one, number in enumerate(self.number):
            found[party == one] = number[rows[party == one]]
        return found[0::2], found[1::2]

    def number_of_pairs(self, sets: Members, wanted: Members) -> npt.NDArray[np.int64]:
        """Return which of the sets of two each of `wanted` is; all are among them."""
        codes, sought = (
            left * self.records + right for left, right in (self.ends(sets), self.ends(wanted))
        )
        order = np.argsort(codes, kind="stable")
        return np.asarray(order[np.searchsorted(codes[order], sought)])


def merge_trees(edges: Sequence[Edges], parties: int) -> MergeTrees:
    """
    Merge records greedily by all their pairs, and return how.

    edges: pairs of records with their log weights.
    """
    nodes, left, right, weight = _nodes(edges)
    size = len(nodes)
    absorbing, absorbed = _merge(left, right, weight, nodes[:, 0], size)
    one, other, members = _grown(absorbing, absorbed, nodes, size, parties)
    number = []
    for party in range(parties):
        mine = np.flatnonzero(nodes[:, 0] == party)
        known = np.full(int(nodes[mine, 1].max(initial=-1)) + 1, -1, np.int64)
        known[nodes[mine, 1]] = mine
        number.append(known)
    return MergeTrees(size, one, other, members, tuple(number))


@numba.njit(cache=True, nogil=True)
def _grown(absorbing, absorbed, nodes, size, parties):  # type: ignore[no-untyped-def]
    """Return what each merge merged, as numbers of records and merges, and its members."""
    now = np.arange(size)
    one, other = np.empty(len(absorbing), np.int64), np.empty(len(absorbing), np.int64)
    members = np.full((len(absorbing), parties), -1, np.int64)
    for k in range(len(absorbing)):
        one[k], other[k] = now[absorbing[k]], now[absorbed[k]]
        for part in (one[k], other[k]):
            if part < size:
                members[k, nodes[part, 0]] = nodes[part, 1]
            else:
                for p in range(parties):
                    if members[part - size, p] >= 0:
                        members[k, p] = members[part - size, p]
        now[absorbing[k]] = size + k
    return one, other, members


def _nodes(
    edges: Sequence[Edges],
) -> tuple[Members, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the records, int64[N, 2] of party and row, and pairs of their numbers, best first."""
    ends, weights = [np.zeros((0, 4), np.int64)], [np.zeros(0)]
    for one, other, left, right, weight in edges:
        block = np.empty((len(weight), 4), np.int64)
        block[:, 0], block[:, 1] = one, left
        block[:, 2], block[:, 3] = other, right
        ends.append(block)
        weights.append(weight)
    both, weight = np.concatenate(ends), np.concatenate(weights)
    order = np.lexsort((both[:, 3], both[:, 1], both[:, 2], both[:, 0], -weight))
    both = both[order]
    nodes, number = np.unique(
        np.concatenate([both[:, :2], both[:, 2:]]), axis=0, return_inverse=True
    )
    number = number.ravel()
    return nodes, number[: len(both)], number[len(both) :], weight[order]


@numba.njit(cache=True, nogil=True)
def _merge(left, right, weight, party, size):  # type: ignore[no-untyped-def]
    """
    Merge in the given order where no party would be held twice; up to 63 parties.

    Returns the roots that took and that were taken, merge by merge.
    """
    root = np.arange(size)
    mask = np.left_shift(np.ones(size, np.uint64), party.astype(np.uint64))
    absorbing, absorbed = np.empty(size, np.int64), np.empty(size, np.int64)
    held = np.ones(size, np.int64)
    count = 0
    for i in range(len(left)):
        a, b = left[i], right[i]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        if a == b or mask[a] & mask[b]:
            continue
        if weight[i] < 0 and held[a] > 1 and held[b] > 1:
            continue
        root[b] = a
        held[a] += held[b]
        mask[a] |= mask[b]
        absorbing[count], absorbed[count] = a, b
        count += 1
    return absorbing[:count], absorbed[:count]
