"""
Which records are one person, where there are many parties: sets along a tree of merges.

A person whom eight parties hold has 247 sets of records, and messages between all of them
(propagation.py) leave out a record that is likely in: each of its many sets claims the others, in
circles. So for more than five parties the pairs are merged greedily, best first (clusters.py), and
the only sets are the nodes of the tree that arises: a person's records are one of its nodes. The
sum over all ways to cut a tree into sets is then exact and takes one pass,

    Z(leaf i) = 1 + c(i),    Z(node of L and R) = Z(L) Z(R) + w(node),

w the weight of a set (hyperedges.py) and c(i) what records of other trees claim of i. Between trees
only pairs compete, by messages as in propagation.py: with s(i) the chance that no node of its own
tree holds i,

    m(i -> j) = 1 / (1 + c(i) - c(ij) + (1 + c(i)) (1 - s(i)) / s(i)),   c(ij) = w(ij) m(j -> i).

Source of the sum along a tree: Heller and Ghahramani 2005, Bayesian hierarchical clustering,
doi:10.1145/1102351.1102389.
"""

from __future__ import annotations

from collections.abc import Mapping

import numba
import numpy as np
import numpy.typing as npt

from linkage.matching import clusters
from linkage.matching.dice import Floats
from linkage.matching.hyperedges import Hyperedges, Pairs, pair_sets, weigh_sets
from linkage.matching.propagation import DAMPING, ROUNDS, log_sum

TOLERANCE = 1e-4
"""Largest change of a log message that counts as settled."""

Ints = npt.NDArray[np.int64]


def cut(pairs: Mapping[tuple[int, int], Pairs], parties: int) -> tuple[Hyperedges, Floats]:
    """
    Return all pairs and all larger nodes of the trees, and the probability of each: float64[E].

    pairs: by party numbers (i, j), i < j. The probability of a pair is that it is a set, and no
    part of a larger one; pairs of one tree that are no node of it have 0.
    """
    alone = pair_sets(pairs, parties)
    trees = clusters.merge_trees(
        [(one, other, p.left, p.right, p.log_weight) for (one, other), p in pairs.items()], parties
    )
    size = (trees.members >= 0).sum(axis=1)
    weight = weigh_sets(trees.members, pairs)
    tree = _tree_of(trees.records, trees.one, trees.other)
    left, right = trees.ends(alone.members)
    across = np.flatnonzero(tree[left] != tree[right])
    node, crossing = _settle(
        weight,
        trees.one,
        trees.other,
        trees.records,
        left[across],
        right[across],
        alone.log_weight[across],
    )
    probability = np.zeros(len(alone.members))
    probability[across] = crossing
    two = np.flatnonzero(size == 2)
    probability[trees.number_of_pairs(alone.members, trees.members[two])] = node[two]
    large = size > 2
    return (
        Hyperedges(
            np.concatenate([alone.members, trees.members[large]]),
            np.concatenate([alone.log_weight, weight[large]]),
        ),
        np.concatenate([probability, node[large]]),
    )


@numba.njit(cache=True, nogil=True)
def _tree_of(records, one, other):  # type: ignore[no-untyped-def]
    """Return the number of the last node that holds each record: int64[records]."""
    top = np.arange(records + len(one))
    for k in range(len(one) - 1, -1, -1):
        top[one[k]] = top[other[k]] = top[records + k]
    return top[:records]


@numba.njit(cache=True, nogil=True)
def _settle(weight, one, other, records, left, right, log_weight):  # type: ignore[no-untyped-def]
    """Return the probability of each node and of each pair between trees."""
    pairs, nodes = len(left), len(one)
    end = np.empty(2 * pairs, np.int64)  # message 2k goes from left[k], 2k + 1 from right[k]
    end[0::2], end[1::2] = left, right
    begin = np.zeros(records + 1, np.int64)
    for e in end:
        begin[e + 1] += 1
    begin = np.cumsum(begin)
    by_record = np.argsort(end, kind="mergesort")
    message = np.zeros(2 * pairs)
    claims, total, free = np.full(records, -np.inf), np.zeros(records + nodes), np.zeros(records)
    chosen = np.zeros(nodes)
    suffix = np.empty(2 * pairs + 1)
    for _ in range(ROUNDS):
        for i in range(records):
            claims[i] = -np.inf
            for s in range(begin[i], begin[i + 1]):
                a = by_record[s]
                claims[i] = log_sum(claims[i], log_weight[a // 2] + message[a ^ 1])
        _sum_trees(weight, one, other, records, claims, total, free, chosen)
        most = 0.0
        for i in range(records):
            first, last = begin[i], begin[i + 1]
            # What speaks against a pair of i beside its other claims: the sets of its own tree.
            held = _log_rest(free[i]) - free[i] + log_sum(0.0, claims[i])
            suffix[last] = -np.inf
            for s in range(last - 1, first - 1, -1):
                a = by_record[s]
                suffix[s] = log_sum(suffix[s + 1], log_weight[a // 2] + message[a ^ 1])
            prefix = log_sum(0.0, held)
            for s in range(first, last):
                a = by_record[s]
                change = -log_sum(prefix, suffix[s + 1]) - message[a]
                prefix = log_sum(prefix, log_weight[a // 2] + message[a ^ 1])
                message[a] += DAMPING * change
                most = max(most, abs(change))
        if most <= TOLERANCE:
            break
    crossing = np.empty(pairs)
    for k in range(pairs):
        x = log_weight[k] + message[2 * k] + message[2 * k + 1]
        crossing[k] = np.exp(x - log_sum(0.0, x))
    return chosen, crossing


@numba.njit(cache=True, nogil=True)
def _sum_trees(weight, one, other, records, claims, total, free, chosen):  # type: ignore[no-untyped-def]
    """
    Fill in log Z of each record and node, the log chance that no node holds a record, and the
    chance of each node.
    """
    for i in range(records):
        total[i] = log_sum(0.0, claims[i])
    for k in range(len(one)):
        total[records + k] = log_sum(total[one[k]] + total[other[k]], weight[k])
    outside = np.zeros(records + len(one))
    for k in range(len(one) - 1, -1, -1):
        n = records + k
        chosen[k] = np.exp(outside[n] + weight[k] - total[n])
        apart = outside[n] + total[one[k]] + total[other[k]] - total[n]
        outside[one[k]] = outside[other[k]] = apart
    free[:] = outside[:records]


@numba.njit(cache=True, nogil=True)
def _log_rest(a):  # type: ignore[no-untyped-def]
    """Return log(1 - exp(a)) for a <= 0."""
    return np.log(-np.expm1(a)) if a < 0.0 else -np.inf
