"""
Bits in common between two sets of CLKs, and the Dice coefficient made of them.

    found = similar_pairs(left, right, 0.8)     # anonlink's question, with Dice coefficients
    found = pairs_reaching(left, right, bound)  # the kernel below it, for any bound

`pairs_reaching` compares every filter on the left with every one on the right and hands on the
pairs whose intersection reaches a bound, in order of left row, then right row. CPUs with AVX2 run
linkage.matching.shuffle, others the portable loop below; `intersections` is the readable reference,
and tests hold all three equal.

The bound is a plane over both popcounts, so one kernel serves the Dice coefficient and the
hypergeometric z (linkage.matching.zscore). It is computed in float64 and compared with an integer
count; a bound is inclusive.

Source of the coefficient: Schnell, Bachteler and Reiher 2009, doi:10.1186/1472-6947-9-41.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from linkage.errors import EncodingRefused, TooManyCandidates
from linkage.matching import shuffle
from linkage.matching.dataset import Words, popcounts
from linkage.matching.shuffle import popcount

Floats = npt.NDArray[np.float64]
TILE = 128
"""Right rows in a tile: 32 KiB at 2,048 bits, about a first-level cache."""
FIRST_BUFFER = 1 << 16
MAX_PAIRS = 20_000_000
"""Pairs that one call hands on at most: 16 bytes each. Beyond it the bound is too low."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bound:
    """
    The least intersection of each pair: a[i] * b[j] + c[i] * d[j].

    a, c: float64[left rows]. b, d: float64[right rows].
    """

    a: Floats
    b: Floats
    c: Floats
    d: Floats


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Intersections:
    """
    Pairs that reach a bound: P parallel rows, ordered by left, then right.

    left, right: uint32[P], row numbers from 0. ones: int64[P], bits set in both.
    """

    left: npt.NDArray[np.uint32]
    right: npt.NDArray[np.uint32]
    ones: npt.NDArray[np.int64]


def dice(left: Words, right: Words) -> Floats:
    """
    Return the Dice coefficient of each parallel pair of filters: float64[P] in [0, 1].

    2 |a and b| / (|a| + |b|); two empty filters have 0. Raises EncodingRefused as `check`.
    """
    check(left, right)
    if len(left) != len(right):
        raise EncodingRefused("parallel filters differ in number")
    ones = np.bitwise_count(left & right).sum(axis=1, dtype=np.int64)
    total = popcounts(left) + popcounts(right)
    result: Floats = np.divide(2.0 * ones, total, out=np.zeros(len(ones)), where=total > 0)
    return result


def intersections(left: Words, right: Words) -> npt.NDArray[np.int64]:
    """Return bits in common of every left with every right filter, int64[N, M]: the reference."""
    check(left, right)
    common = left[:, None, :] & right[None, :, :]
    counts: npt.NDArray[np.int64] = np.bitwise_count(common).sum(axis=2, dtype=np.int64)
    return counts


def dice_bound(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], at_least: float) -> Bound:
    """
    Return the bound for a Dice coefficient of at least `at_least`, from both sides' popcounts.

    Lower by a billionth than exact, against rounding: test the coefficient of what comes back, as
    `similar_pairs` does. Raises EncodingRefused unless `at_least` is in (0, 1].
    """
    if not 0 < at_least <= 1:
        raise EncodingRefused("a Dice threshold must lie above 0 and at most at 1")
    half = at_least / 2 * (1 - 1e-9)
    return Bound(
        a=half * left.astype(np.float64),
        b=np.ones(len(right)),
        c=np.full(len(left), half),
        d=right.astype(np.float64),
    )


def similar_pairs(
    left: Words, right: Words, at_least: float, *, threads: int = 1
) -> tuple[Intersections, Floats]:
    """
    Return all pairs whose Dice coefficient is at least `at_least`, and their coefficients.

    threads: as in `pairs_reaching`. Inclusive, compared in float64. Raises EncodingRefused as
    `check` and `dice_bound`, TooManyCandidates past 20,000,000 pairs.
    """
    check(left, right)
    ones_left, ones_right = popcounts(left), popcounts(right)
    found = pairs_reaching(
        left, right, dice_bound(ones_left, ones_right, at_least), threads=threads
    )
    total = ones_left[found.left] + ones_right[found.right]
    value = np.divide(2.0 * found.ones, total, out=np.zeros(len(total)), where=total > 0)
    kept = value >= at_least
    pairs = Intersections(found.left[kept], found.right[kept], found.ones[kept])
    return pairs, value[kept]


def pairs_reaching(
    left: Words,
    right: Words,
    bound: Bound,
    *,
    triangle: int | None = None,
    limit: int = MAX_PAIRS,
    threads: int = 1,
    portable: bool = False,
) -> Intersections:
    """
    Return all pairs whose intersection reaches `bound`, inclusive.

    triangle: None compares all with all; a number s says that left row i is right row s + i, and
    only right rows after it are compared, so each pair within a dataset is seen once.
    threads: how many share the left rows; the answer does not depend on it. portable: use no
    instruction that some CPUs lack.

    Raises EncodingRefused as `check` and where the bound does not fit; TooManyCandidates past
    `limit` pairs.
    """
    check(left, right)
    lengths = [len(bound.a), len(bound.c), len(bound.b), len(bound.d)]
    if lengths != [len(left), len(left), len(right), len(right)]:
        raise EncodingRefused("the bound does not fit the filters")
    if not all(np.isfinite(part).all() for part in (bound.a, bound.b, bound.c, bound.d)):
        raise EncodingRefused("a bound must be finite")
    if threads < 1:
        raise EncodingRefused("a search needs at least one thread")
    if not len(left) or not len(right):
        return _ordered(np.empty((0, 3), np.uint32))
    rows = np.ascontiguousarray(left)
    fast = shuffle.available() and not portable
    search = (_by_tables if fast else _by_words)(rows, right, bound, triangle)
    cuts = np.linspace(0, len(rows), min(threads, len(rows)) + 1).round().astype(int).tolist()

    def work(part: int) -> npt.NDArray[np.uint32]:
        return _all_found(search, cuts[part], cuts[part + 1], limit)

    if threads == 1:
        return _ordered(work(0))
    with ThreadPoolExecutor(threads) as pool:
        found = np.concatenate(list(pool.map(work, range(len(cuts) - 1))))
    _limited(len(found), limit)
    return _ordered(found)


Search = Callable[[int, int, npt.NDArray[np.uint32]], int]
"""Stores (left row, right row, ones) of the hits of left rows start to stop; returns their number,
which may exceed the room."""


def _by_tables(rows: Words, right: Words, bound: Bound, triangle: int | None) -> Search:
    """Return the search that linkage.matching.shuffle makes."""
    side = shuffle.Right(right, bound.b, bound.d, in_order=triangle is not None)
    words = shuffle.prefix(rows, right, (bound.a, bound.b, bound.c, bound.d))

    def search(start: int, stop: int, found: npt.NDArray[np.uint32]) -> int:
        plane = bound.a[start:stop], bound.c[start:stop]
        first = -1 if triangle is None else triangle + start
        count = shuffle.search(rows[start:stop], plane, side, words, first, found)
        found[: min(count, len(found)), 0] += np.uint32(start)
        return count

    return search


def _by_words(rows: Words, right: Words, bound: Bound, triangle: int | None) -> Search:
    """Return the portable search."""
    tiles = _tiled(right)
    b, d = np.zeros((2, len(tiles) * TILE))
    b[: len(right)], d[: len(right)] = bound.b, bound.d

    def search(start: int, stop: int, found: npt.NDArray[np.uint32]) -> int:
        plane = (bound.a[start:stop], b, bound.c[start:stop], d)
        first = -1 if triangle is None else triangle + start
        count = int(_all_against(rows[start:stop], tiles, len(right), plane, first, found))
        found[: min(count, len(found)), 0] += np.uint32(start)
        return count

    return search


def _all_found(search: Search, start: int, stop: int, limit: int) -> npt.NDArray[np.uint32]:
    """Return all hits of these left rows: uint32[P, 3]. Raises TooManyCandidates."""
    size = FIRST_BUFFER
    while True:
        found = np.empty((size, 3), np.uint32)
        count = search(start, stop, found)
        _limited(count, limit)
        if count <= size:
            return found[:count]
        size = count


def _limited(count: int, limit: int) -> None:
    if count > limit:
        raise TooManyCandidates(
            f"{count} pairs of CLKs look alike, the limit is {limit}",
            hint="check the datasets for duplicates; a dataset must hold a person once",
        )


def _tiled(right: Words) -> Words:
    """
    Return the rows in transposed tiles, uint64[tiles, words, TILE], the last one padded with zeros.

    Each tile lies together in memory: rows of one wide transposed matrix would be a large power of
    two apart and evict each other from the cache.
    """
    tiles = -(-len(right) // TILE)
    padded = np.zeros((tiles * TILE, right.shape[1]), np.uint64)
    padded[: len(right)] = right
    return np.ascontiguousarray(padded.reshape(tiles, TILE, right.shape[1]).transpose(0, 2, 1))


def check(left: Words, right: Words) -> None:
    """Raise EncodingRefused unless both are uint64 matrices of equal width, in steps of 512."""
    for side in (left, right):
        if side.dtype != np.uint64 or side.ndim != 2:
            raise EncodingRefused("filters must be a matrix of 64-bit words")
    if left.shape[1] != right.shape[1]:
        raise EncodingRefused(
            "filters of different lengths cannot be compared",
            hint="both parties must encode with the same study file",
        )
    if left.shape[1] == 0 or left.shape[1] % 8:
        raise EncodingRefused(
            "a filter must be a multiple of 512 bits", hint="use 512, 1024, 2048 or 4096 bits"
        )


def _ordered(found: npt.NDArray[np.uint32]) -> Intersections:
    order = np.lexsort((found[:, 1], found[:, 0]))
    return Intersections(
        left=found[order, 0].copy(),
        right=found[order, 1].copy(),
        ones=found[order, 2].astype(np.int64),
    )


def ones_between(
    left: Words, right: Words, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the bits that left[i] and right[j] have in common, for parallel i, j: int64[P]."""
    check(left, right)
    counts: npt.NDArray[np.int64] = _listed(left, right, i, j)
    return counts


@numba.njit(cache=True, nogil=True)
def _listed(left, right, i, j):  # type: ignore[no-untyped-def]
    counts = np.zeros(len(i), np.int64)
    for k in range(len(i)):
        ones = np.uint64(0)
        for word in range(left.shape[1]):
            ones += popcount(left[i[k], word] & right[j[k], word])
        counts[k] = ones
    return counts


@numba.njit(cache=True, nogil=True)
def _all_against(left, tiles, rows, bound, first, found):  # type: ignore[no-untyped-def]
    """
    Compare each left row with every tile; store (i, j, ones) of pairs that reach the bound.

    Eight words of a left row stay in registers against eight streams of right words, so that the
    loop over right rows becomes vector instructions; a tile stays in the first-level cache while
    all left rows pass. Most tiles hold no hit, so one branch-free pass looks for any first.
    Returns the number of hits, which may exceed what `found` holds.
    """
    a, b, c, d = bound
    count = 0
    tile = tiles.shape[2]
    ones = np.zeros(tile, np.uint64)
    for t in range(len(tiles)):
        start = t * tile
        size = min(tile, rows - start)
        right, bt, dt = tiles[t], b[start : start + tile], d[start : start + tile]
        for i in range(len(left)):
            begin = 0 if first < 0 else max(0, first + i + 1 - start)
            if begin >= size:
                continue
            ones[:] = 0
            for w in range(0, left.shape[1], 8):
                l0, l1, l2, l3 = left[i, w], left[i, w + 1], left[i, w + 2], left[i, w + 3]
                l4, l5, l6, l7 = left[i, w + 4], left[i, w + 5], left[i, w + 6], left[i, w + 7]
                r0, r1, r2, r3 = right[w], right[w + 1], right[w + 2], right[w + 3]
                r4, r5, r6, r7 = right[w + 4], right[w + 5], right[w + 6], right[w + 7]
                for j in range(tile):
                    ones[j] += (
                        popcount(l0 & r0[j])
                        + popcount(l1 & r1[j])
                        + popcount(l2 & r2[j])
                        + popcount(l3 & r3[j])
                        + popcount(l4 & r4[j])
                        + popcount(l5 & r5[j])
                        + popcount(l6 & r6[j])
                        + popcount(l7 & r7[j])
                    )
            ai, ci = a[i], c[i]
            hit = False
            for j in range(tile):
                hit |= np.float64(np.int64(ones[j])) >= ai * bt[j] + ci * dt[j]
            if hit:
                for j in range(begin, size):
                    if np.float64(np.int64(ones[j])) >= ai * bt[j] + ci * dt[j]:
                        if count < len(found):
                            found[count, 0] = i
                            found[count, 1] = start + j
                            found[count, 2] = ones[j]
                        count += 1
    return count
