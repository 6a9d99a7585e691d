"""
Bits in common between two sets of CLKs, and the Dice coefficient made of them.

    found = similar_pairs(left, right, 0.8)     # anonlink's question, with Dice coefficients
    found = pairs_reaching(left, right, bound)  # the kernel below it, for any bound

`pairs_reaching` compares every filter on the left with every one on the right and hands on the
pairs whose intersection reaches a bound, in order of left row, then right row; `pair_blocks` hands
them on as they are found. Both run linkage.matching.kernel; `intersections` is the readable
reference, and tests hold them equal.

The bound is a plane over both popcounts, so one kernel serves the Dice coefficient and the
hypergeometric z (linkage.matching.zscore). It is computed in float64 and compared with an integer
count; a bound is inclusive.

Source of the coefficient: Schnell, Bachteler and Reiher 2009, doi:10.1186/1472-6947-9-41.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from linkage.errors import EncodingRefused, TooManyCandidates
from linkage.matching import kernel
from linkage.matching.dataset import Words, popcounts
from linkage.matching.planes import popcount

Floats = npt.NDArray[np.float64]
BLOCK = 256
"""Left rows that one thread compares at a time, at most."""
MOST_WORDS = 64
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


Keep = Callable[[Intersections], Intersections]


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
) -> Intersections:
    """
    Return all pairs whose intersection reaches `bound`, inclusive.

    triangle: None compares all with all; a number s says that left row i is right row s + i, and
    only right rows after it are compared, so each pair within a dataset is seen once.
    threads: how many share the left rows; the answer does not depend on it.

    Raises EncodingRefused as `check` and where the bound does not fit; TooManyCandidates past
    `limit` pairs.
    """
    found = list(pair_blocks(left, right, bound, triangle=triangle, limit=limit, threads=threads))
    return Intersections(
        left=np.concatenate([np.empty(0, np.uint32), *(block.left for block in found)]),
        right=np.concatenate([np.empty(0, np.uint32), *(block.right for block in found)]),
        ones=np.concatenate([np.empty(0, np.int64), *(block.ones for block in found)]),
    )


def pair_blocks(
    left: Words,
    right: Words,
    bound: Bound,
    *,
    triangle: int | None = None,
    limit: int = MAX_PAIRS,
    threads: int = 1,
    keep: Keep | None = None,
) -> Iterator[Intersections]:
    """
    Yield what `pairs_reaching` returns, by blocks of left rows in order, as they are found.

    keep: applied to each block (all pairs of some left rows) by the thread that found it. What it
    drops counts for `limit` only within its own block.

    Besides the right side, laid out anew, only blocks that were not taken yet are in memory, two a
    thread at most. Raises as `pairs_reaching`, TooManyCandidates when the block that passes `limit`
    is reached.
    """
    check(left, right)
    lengths = [len(bound.a), len(bound.c), len(bound.b), len(bound.d)]
    if lengths != [len(left), len(left), len(right), len(right)]:
        raise EncodingRefused("the bound does not fit the filters")
    largest = [np.abs(part).max(initial=0.0) for part in (bound.a, bound.b, bound.c, bound.d)]
    with np.errstate(over="ignore", invalid="ignore"):
        # Sums, too: inf - inf in one pair of a tile would hide what the others of it reach.
        if not np.isfinite(largest[0] * largest[1] + largest[2] * largest[3]):
            raise EncodingRefused("a bound must be finite")
    if triangle is not None and triangle < 0:
        raise EncodingRefused("a triangle begins at a row of the right side, counted from 0")
    if threads < 1:
        raise EncodingRefused("a search needs at least one thread")
    return _blocks(left, right, bound, triangle, limit, threads, keep)


def _blocks(
    left: Words,
    right: Words,
    bound: Bound,
    triangle: int | None,
    limit: int,
    threads: int,
    keep: Keep | None,
) -> Iterator[Intersections]:
    if not len(left) or not len(right):
        return
    rows = np.ascontiguousarray(left)
    plane = (bound.a, bound.b, bound.c, bound.d)
    words = kernel.words_needed(rows, right, plane)
    layout = kernel.lay_out(np.ascontiguousarray(right), bound.b, bound.d, words)

    def work(start: int, allowed: int) -> Intersections:
        part = slice(start, start + size)
        first = -1 if triangle is None else triangle + start
        found = kernel.search(rows[part], bound.a[part], bound.c[part], layout, first, allowed)
        if len(found) > allowed:  # not all of them
            raise _flooded(limit)
        pairs = Intersections(
            left=(found[:, 0] + np.uint64(start)).astype(np.uint32),
            right=found[:, 1].astype(np.uint32),
            ones=found[:, 2].astype(np.int64),
        )
        return keep(pairs) if keep else pairs

    # Small inputs are cut so that every thread has its share; a group has four rows.
    size = min(BLOCK, 4 * -(-len(rows) // (16 * threads)))
    count = 0
    waiting: deque[Future[Intersections]] = deque()
    starts = iter(range(0, len(rows), size))
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                while len(waiting) < 2 * threads and (start := next(starts, None)) is not None:
                    waiting.append(pool.submit(work, start, limit if keep else limit - count))
                if not waiting:
                    return
                block = waiting.popleft().result()
                count += len(block.left)
                if count > limit:
                    raise _flooded(limit)
                yield block
        finally:
            for future in waiting:
                future.cancel()


def _flooded(limit: int) -> TooManyCandidates:
    return TooManyCandidates(
        f"too many pairs of CLKs look alike: the limit is {limit}",
        hint="check the datasets for duplicates; a dataset must hold a person once",
    )


def check(left: Words, right: Words) -> None:
    """
    Raise EncodingRefused unless both are uint64 matrices of equal width: 512 to 4,096 bits, in
    steps of 512. The kernel's numbers have no room for sums of many more.
    """
    for side in (left, right):
        if side.dtype != np.uint64 or side.ndim != 2:
            raise EncodingRefused("filters must be a matrix of 64-bit words")
    if left.shape[1] != right.shape[1]:
        raise EncodingRefused(
            "filters of different lengths cannot be compared",
            hint="both parties must encode with the same study file",
        )
    if left.shape[1] == 0 or left.shape[1] % 8 or left.shape[1] > MOST_WORDS:
        raise EncodingRefused(
            "a filter must be a multiple of 512 bits, 4,096 at most",
            hint="use 512, 1024, 2048 or 4096 bits",
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
