"""
Which records of two or more parties could be one person, and the log weight of each such set.

A hyperedge holds at most one record a party. Pairs come from the fit (density_ratio.py); larger
sets are grown from them, one record at a time, each record joined to the set by at least one pair.
The log weight of a set is that of the pairs of its heaviest spanning tree, plus the log
likelihood ratio of its weakest pair where that speaks against it. For three records that is
largest + second + min(0, smallest): three records of one name agree on it three times, but it is
rare only twice.

All sets are enumerated where there are up to five parties. A person whom more hold would have too
many of them, and each would compete with the others for the same records: then
linkage.matching.hierarchy takes the place of `grow`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numba
import numpy as np
import numpy.typing as npt

from linkage.errors import TooManyCandidates
from linkage.matching.dice import Floats

LEAST_PAIR = -6.0
"""Log weight below which a pair does not grow larger sets: it would be worth one in 400."""
HARDER = (LEAST_PAIR, -4.0, -2.0, 0.0)
"""The same where it would give too many sets, one after another."""
LEAST_SET = -4.0
LARGEST = 5
"""Parties up to which all sets are enumerated."""
MAX_SETS = 5_000_000
MOST_GROWN = 8
"""Times MAX_SETS that are grown before each is kept once: a set is grown from each of its pairs."""
BLOCK_CELLS = 20_000_000
"""Weights of a block of sets held at a time, about 320 MB."""

Members = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Pairs:
    """
    Weighted pairs of two parties: P parallel rows.

    left, right: int64[P], record rows. log_weight: float64[P], log odds of the pair before
    competition. log_prior: log weight of a pair of which nothing is known.
    missed: share of true pairs that are no candidates. Nearly all chance pairs are none, so its
    logarithm is the log likelihood ratio of a pair that was no candidate.
    """

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    log_weight: Floats
    log_prior: float
    missed: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Hyperedges:
    """
    Sets of records: E rows, ordered by size, then by members.

    members: int64[E, parties], the row in each party, -1 where the set has none of that party.
    log_weight: float64[E].
    """

    members: Members
    log_weight: Floats


def grow(pairs: Mapping[tuple[int, int], Pairs], parties: int) -> Hyperedges:
    """
    Return all pairs, and all larger sets that the pairs connect and that are worth considering.

    pairs: by party numbers (i, j), i < j, of five parties or fewer. Where weak pairs grow more than
    5,000,000 sets, they grow none (HARDER); as pairs they all stay. Raises TooManyCandidates if
    that is not enough.
    """
    for least in HARDER:
        found = _grown(pairs, parties, least)
        if found is not None:
            return found
    raise TooManyCandidates(
        "too many sets of records could be one person",
        hint="check the datasets for duplicates; a dataset must hold a person once",
    )


def _grown(pairs: Mapping[tuple[int, int], Pairs], parties: int, least: float) -> Hyperedges | None:
    """Return what `grow` does with pairs from `least`; None if they give too many sets."""
    layers = [pair_sets(pairs, parties)]
    for _ in range(3, parties + 1):
        layer = _larger(layers[-1], pairs, parties, least)
        if layer is None:
            return None
        if not len(layer.members):
            break
        layers.append(layer)
    if sum(len(layer.members) for layer in layers[1:]) > MAX_SETS:
        return None
    return Hyperedges(
        np.concatenate([layer.members for layer in layers]),
        np.concatenate([layer.log_weight for layer in layers]),
    )


def pair_sets(pairs: Mapping[tuple[int, int], Pairs], parties: int) -> Hyperedges:
    """Return the pairs as sets of two, in order of their parties."""
    blocks, weights = [np.zeros((0, parties), np.int64)], [np.zeros(0)]
    for (one, other), found in sorted(pairs.items()):
        block = np.full((len(found.left), parties), -1, np.int64)
        block[:, one], block[:, other] = found.left, found.right
        blocks.append(block)
        weights.append(found.log_weight)
    return Hyperedges(np.concatenate(blocks), np.concatenate(weights))


def _larger(
    sets: Hyperedges,
    pairs: Mapping[tuple[int, int], Pairs],
    parties: int,
    least: float,
) -> Hyperedges | None:
    """Return the sets with one record more than `sets`; None if they are too many."""
    strong = sets.members[sets.log_weight >= least]
    grown = [np.zeros((0, parties), np.int64)]
    for (one, other), found in sorted(pairs.items()):
        heavy = found.log_weight >= least
        left, right = found.left[heavy], found.right[heavy]
        for near, far, known, new in ((one, other, left, right), (other, one, right, left)):
            room = strong[(strong[:, near] >= 0) & (strong[:, far] < 0)]
            index, partner = _join(room[:, near], known, new)
            if sum(map(len, grown)) + len(index) > MOST_GROWN * MAX_SETS:
                return None
            block = room[index].copy()
            block[:, far] = partner
            grown.append(block)
    members = _each_once(np.concatenate(grown))
    if len(members) > MAX_SETS:
        return None
    log_weight = weigh_sets(members, pairs)
    kept = log_weight >= LEAST_SET
    return Hyperedges(members[kept], log_weight[kept])


def _each_once(members: Members) -> Members:
    """Return np.unique(members, axis=0), which compares rows as byte strings and is slower."""
    ordered = members[np.lexsort(members.T[::-1])]
    new = np.ones(len(ordered), np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return np.asarray(ordered[new])


def _join(
    wanted: npt.NDArray[np.int64], known: npt.NDArray[np.int64], new: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (k, new[m]) for every wanted[k] == known[m], as two parallel arrays."""
    order = np.argsort(known, kind="stable")
    begin = np.searchsorted(known[order], wanted, side="left")
    count = np.searchsorted(known[order], wanted, side="right") - begin
    index = np.repeat(np.arange(len(wanted)), count)
    offset = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
    return index, new[order][np.repeat(begin, count) + offset]


def weigh_sets(members: Members, pairs: Mapping[tuple[int, int], Pairs]) -> Floats:
    """Return the log weight of each set (see above): float64[E]."""
    # In blocks: a row needs two numbers for every two parties.
    rows = max(1, BLOCK_CELLS // members.shape[1] ** 2)
    blocks = [
        _weigh_block(members[start : start + rows], pairs) for start in range(0, len(members), rows)
    ]
    return np.concatenate([np.zeros(0), *blocks])


def _weigh_block(members: Members, pairs: Mapping[tuple[int, int], Pairs]) -> Floats:
    parties = members.shape[1]
    weights = np.full((len(members), parties, parties), -np.inf)
    ratios = np.full((len(members), parties, parties), np.inf)
    for one, other in combinations(range(parties), 2):
        both = (members[:, one] >= 0) & (members[:, other] >= 0)
        if (one, other) not in pairs or not both.any():
            continue
        found = pairs[one, other]
        eta = _lookup(found, members[both, one], members[both, other])
        proposed = np.isfinite(eta)
        weights[both, one, other] = weights[both, other, one] = eta
        ratios[both, one, other] = np.where(proposed, eta - found.log_prior, np.log(found.missed))
    trees: Floats = _trees(weights, members >= 0)
    return np.asarray(trees + np.minimum(0.0, ratios.min(axis=(1, 2))), dtype=np.float64)


def is_candidate(
    found: Pairs, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return whether each pair (left, right) was a candidate: bool[P]."""
    return np.isfinite(_lookup(found, left, right))


def _lookup(found: Pairs, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> Floats:
    """Return the log weight of each pair (left, right), -inf where it was no candidate."""
    if not len(found.left):
        return np.full(len(left), -np.inf)
    base = int(max(found.right.max(), right.max(initial=0))) + 1
    codes, order = np.unique(found.left * base + found.right, return_index=True)
    wanted = left * base + right
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    known: Floats = np.where(codes[place] == wanted, found.log_weight[order][place], -np.inf)
    return known


@numba.njit(cache=True, nogil=True)
def _trees(weights, present):  # type: ignore[no-untyped-def]
    """Return the weight of each set's heaviest spanning tree (Prim), float64[E]."""
    count, parties = present.shape
    total = np.zeros(count)
    for e in range(count):
        inside = np.zeros(parties, np.bool_)
        for p in range(parties):
            if present[e, p]:
                inside[p] = True
                break
        while True:
            best, where = -np.inf, -1
            for p in range(parties):
                if inside[p]:
                    for q in range(parties):
                        if present[e, q] and not inside[q] and weights[e, p, q] > best:
                            best, where = weights[e, p, q], q
            if where < 0:
                break
            inside[where] = True
            total[e] += best
        for p in range(parties):
            if present[e, p] and not inside[p]:
                total[e] = -np.inf
    return total
