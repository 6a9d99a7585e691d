"""
One-to-one belief propagation: the probability of each set of records, given all its competitors.

A person has at most one record a party, so of all hyperedges that share a record at most one is
true. A configuration, a set of disjoint hyperedges, has a probability proportional to the product
of their weights. The share of configurations that hold a hyperedge is found by messages

    m(i -> e) = 1 / (1 + sum over other hyperedges f of i of w(f) * product of m(k -> f), k != i)
    p(e)      = x / (1 + x),  x = w(e) * product over its records of m(i -> e),

the chance that record i is free, as hyperedge e sees it. On trees this is exact. Everything is in
logarithms, so strong weights are not clipped and do not tie.

Source: the monomer-dimer model, Bayati, Gamarnik, Katz, Nair and Tetali 2007,
doi:10.1145/1250790.1250809, here with hyperedges.
"""

from __future__ import annotations

import numba
import numpy as np

from linkage.matching.dice import Floats
from linkage.matching.hyperedges import Hyperedges

ROUNDS = 500
DAMPING = 0.5
"""Share of each change that is made: without it, two equal claims on one record swing for ever."""
TOLERANCE = 1e-6
"""Largest change of a log message that counts as settled."""


def propagate(edges: Hyperedges) -> Floats:
    """Return the probability of each hyperedge: float64[E] in [0, 1]."""
    count = len(edges.members)
    if count == 0:
        return np.zeros(0)
    edge, party = np.nonzero(edges.members >= 0)
    # A record's number: those of the parties before it, and its row.
    first_of_party = np.concatenate([[0], np.cumsum(edges.members.max(axis=0) + 1)])
    node = first_of_party[party] + edges.members[edge, party]
    begin_of_edge = np.concatenate([[0], np.cumsum(np.bincount(edge, minlength=count))])
    by_node = np.argsort(node, kind="stable")
    degree = np.bincount(node, minlength=int(first_of_party[-1]))
    begin_of_node = np.concatenate([[0], np.cumsum(degree)])
    messages = _messages(edges.log_weight, edge, node, begin_of_edge, by_node, begin_of_node)
    x = edges.log_weight + np.add.reduceat(messages, begin_of_edge[:-1])
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -700.0, 700.0))), dtype=np.float64)


@numba.njit(cache=True, nogil=True)
def _messages(log_weight, edge, node, begin_of_edge, by_node, begin_of_node):  # type: ignore[no-untyped-def]
    """
    Return log m of each incidence (record in hyperedge), in the order of `edge` and `node`.

    A record is worked on only while a message around it still moves: most settle in a few rounds,
    the last tangle of namesakes takes two hundred.
    """
    message, claim = np.zeros(len(edge)), np.zeros(len(edge))
    suffix = np.empty(len(edge) + 1)
    edge_moved = np.ones(len(log_weight), np.bool_)
    node_moved = np.ones(len(begin_of_node) - 1, np.bool_)
    for _ in range(ROUNDS):
        for e in np.flatnonzero(edge_moved):
            edge_moved[e] = False
            total = log_weight[e]
            for a in range(begin_of_edge[e], begin_of_edge[e + 1]):
                total += message[a]
            for a in range(begin_of_edge[e], begin_of_edge[e + 1]):
                claim[a] = total - message[a]
                node_moved[node[a]] = True
        moved = np.flatnonzero(node_moved)
        if len(moved) == 0:
            break
        for n in moved:
            node_moved[n] = False
            begin, end = begin_of_node[n], begin_of_node[n + 1]
            suffix[end] = -np.inf
            for s in range(end - 1, begin - 1, -1):
                suffix[s] = log_sum(suffix[s + 1], claim[by_node[s]])
            prefix = -np.inf
            for s in range(begin, end):
                a = by_node[s]
                change = -log_sum(0.0, log_sum(prefix, suffix[s + 1])) - message[a]
                if abs(change) > TOLERANCE:
                    message[a] += DAMPING * change
                    edge_moved[edge[a]] = True
                    node_moved[n] = True
                prefix = log_sum(prefix, claim[a])
    return message


@numba.njit(cache=True, nogil=True)
def log_sum(a, b):  # type: ignore[no-untyped-def]
    """Return log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    if b == -np.inf:
        return a
    return a + np.log1p(np.exp(b - a))
