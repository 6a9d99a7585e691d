"""
Persons whom many parties hold: clusters of records, in place of all their subsets.

Eight records of one person have 210 subsets of three to five records, each about as likely as the
others; as all of them claim the same records, none gets a probability worth a link. So their pairs
are merged greedily, best first, at most one record a party, and what is considered of a cluster is

    every cluster that arises on the way: strong ones first, then with each weaker record or cluster
    each of these of more than five records without any one of its records

so that a weak member can still come apart. Two clusters of two or more records each are merged only
by a pair that is more likely than not before competition: propagation compares the whole with
either half, not with both, and would take it. Ties go to the smaller party numbers, then rows.
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
class Clusters:
    """
    members: int64[C, parties], the row in each party, -1 where there is none; ordered by size,
    then by members. label: by party, int64[rows], which cluster a row ended in, -1 for none.
    """

    members: Members
    label: tuple[npt.NDArray[np.int64], ...]

    def shared(self, sets: Members) -> npt.NDArray[np.bool_]:
        """Return which sets hold two or more records of one cluster: bool[E]."""
        labels = np.full(sets.shape, -1, np.int64)
        for party, label in enumerate(self.label):
            rows = sets[:, party]
            # Rows beyond a party's last candidate are in no cluster.
            known = (rows >= 0) & (rows < len(label))
            labels[known, party] = label[rows[known]]
        labels.sort(axis=1)
        return np.asarray(((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] >= 0)).any(axis=1))


def find(edges: Sequence[Edges], parties: int, *, least: float, larger_than: int) -> Clusters:
    """
    Return the clusters of more than `larger_than` records, and what is considered of them.

    edges: pairs of records with their log weights; those below `least` merge nothing.
    """
    nodes, left, right, weight = _nodes(edges, least)
    size = len(nodes)
    absorbing, absorbed, root = _merge(left, right, weight, nodes[:, 0], size)
    _, which, count = np.unique(root, return_inverse=True, return_counts=True)
    large = count[which] > larger_than
    labels = []
    for party in range(parties):
        mine = nodes[:, 0] == party
        label = np.full(int(nodes[mine, 1].max(initial=-1)) + 1, -1, np.int64)
        label[nodes[mine & large, 1]] = which[mine & large]
        labels.append(label)
    sets = _considered(absorbing, absorbed, large, larger_than)
    members = np.full((len(sets), parties), -1, np.int64)
    for i, one in enumerate(sets):
        members[i, nodes[one, 0]] = nodes[one, 1]
    members = np.unique(members, axis=0)
    order = np.argsort((members >= 0).sum(axis=1), kind="stable")
    return Clusters(members[order], tuple(labels))


def _nodes(
    edges: Sequence[Edges], least: float
) -> tuple[Members, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the records, int64[N, 2] of party and row, and pairs of their numbers, best first."""
    ends, weights = [np.zeros((0, 4), np.int64)], [np.zeros(0)]
    for one, other, left, right, weight in edges:
        kept = weight >= least
        block = np.empty((int(kept.sum()), 4), np.int64)
        block[:, 0], block[:, 1] = one, left[kept]
        block[:, 2], block[:, 3] = other, right[kept]
        ends.append(block)
        weights.append(weight[kept])
    both, weight = np.concatenate(ends), np.concatenate(weights)
    order = np.lexsort((both[:, 3], both[:, 1], both[:, 2], both[:, 0], -weight))
    both = both[order]
    nodes, number = np.unique(
        np.concatenate([both[:, :2], both[:, 2:]]), axis=0, return_inverse=True
    )
    number = number.ravel()
    return nodes, number[: len(both)], number[len(both) :], weight[order]


def _considered(
    absorbing: npt.NDArray[np.int64],
    absorbed: npt.NDArray[np.int64],
    large: npt.NDArray[np.bool_],
    larger_than: int,
) -> list[list[int]]:
    """Return the sets of node numbers to consider, of three or more, by the order of merging."""
    held: dict[int, list[int]] = {}
    sets: list[list[int]] = []
    for one, other in zip(absorbing.tolist(), absorbed.tolist(), strict=True):
        if not large[one]:
            continue
        cluster = held.pop(one, [one]) + held.pop(other, [other])
        held[one] = cluster
        if len(cluster) > 2:
            sets.append(cluster)
        if len(cluster) > larger_than:
            sets += [cluster[:i] + cluster[i + 1 :] for i in range(len(cluster))]
    return sets


@numba.njit(cache=True, nogil=True)
def _merge(left, right, weight, party, size):  # type: ignore[no-untyped-def]
    """
    Merge in the given order where no party would be held twice; up to 63 parties.

    Returns the roots that took and that were taken, merge by merge, and the root of every node.
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
    for n in range(size):
        a = n
        while root[a] != a:
            a = root[a]
        root[n] = a
    return absorbing[:count], absorbed[:count], root
