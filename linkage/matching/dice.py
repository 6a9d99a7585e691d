"""
Bits in common between two sets of CLKs, and the Dice coefficient made of them.

    found = pairs_reaching(left, right, dice_bound(popcounts(left), popcounts(right), 0.8))

`pairs_reaching` compares every filter on the left with every one on the right and hands on the
pairs whose intersection reaches a bound, in order of left row, then right row. It is compiled for
the CPU it runs on; `intersections` is the readable reference, and a test holds both equal.

The bound is a plane over both popcounts, so one kernel serves the Dice coefficient and the
hypergeometric z (linkage.matching.zscore). It is computed in float64 and compared with an integer
count; a bound is inclusive.

Source of the coefficient: Schnell, Bachteler and Reiher 2009, doi:10.1186/1472-6947-9-41.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

from linkage.errors import EncodingRefused, TooManyCandidates
from linkage.matching.dataset import Words, popcounts

Floats = npt.NDArray[np.float64]
TILE = 64
"""Right rows held in the first-level cache while all left rows pass: 64 x 256 bytes."""
FIRST_BUFFER = 1 << 16
MAX_PAIRS = 20_000_000
"""Pairs that one call hands on at most: 16 bytes each. Beyond it the bound is too low."""


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """
    The least intersection of each pair: a[i] * b[j] + c[i] * d[j].

    a, c: float64[left rows]. b, d: float64[right rows].
    """

    a: Floats
    b: Floats
    c: Floats
    d: Floats


@dataclass(frozen=True, slots=True, eq=False)
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

    Raises EncodingRefused unless `at_least` is in (0, 1].
    """
    if not 0 < at_least <= 1:
        raise EncodingRefused("a Dice threshold must lie above 0 and at most at 1")
    half = at_least / 2
    return Bound(
        a=half * left.astype(np.float64),
        b=np.ones(len(right)),
        c=np.full(len(left), half),
        d=right.astype(np.float64),
    )


def pairs_reaching(
    left: Words, right: Words, bound: Bound, *, triangle: int | None = None, limit: int = MAX_PAIRS
) -> Intersections:
    """
    Return all pairs whose intersection reaches `bound`, inclusive.

    triangle: None compares all with all; a number s says that left row i is right row s + i, and
    only right rows after it are compared, so each pair within a dataset is seen once.

    Raises EncodingRefused as `check` and where the bound does not fit; TooManyCandidates past
    `limit` pairs.
    """
    check(left, right)
    lengths = [len(bound.a), len(bound.c), len(bound.b), len(bound.d)]
    if lengths != [len(left), len(left), len(right), len(right)]:
        raise EncodingRefused("the bound does not fit the filters")
    if not all(np.isfinite(part).all() for part in (bound.a, bound.b, bound.c, bound.d)):
        raise EncodingRefused("a bound must be finite")
    kernel, columns = _wide, np.ascontiguousarray(right.T)
    if not _VECTOR_POPCOUNT:
        kernel, columns = _narrow, np.ascontiguousarray(right)
    rows = np.ascontiguousarray(left)
    first = -1 if triangle is None else triangle
    size = FIRST_BUFFER
    while True:
        found = np.empty((size, 3), np.uint32)
        count = kernel(rows, columns, bound.a, bound.b, bound.c, bound.d, first, found)
        if count > limit:
            raise TooManyCandidates(
                f"{count} pairs of CLKs look alike, the limit is {limit}",
                hint="check the datasets for duplicates; a dataset must hold a person once",
            )
        if count <= size:
            return _ordered(found[:count])
        size = count


def check(left: Words, right: Words) -> None:
    """Raise EncodingRefused unless both are uint64 matrices with rows of one length."""
    for side in (left, right):
        if side.dtype != np.uint64 or side.ndim != 2:
            raise EncodingRefused("filters must be a matrix of 64-bit words")
    if left.shape[1] != right.shape[1] or left.shape[1] == 0:
        raise EncodingRefused(
            "filters of different or no length cannot be compared",
            hint="both parties must encode with the same study file",
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


@intrinsic
def _popcount(typing_context: Any, word: Any) -> Any:
    """Count the ones of a uint64 by the CPU's own instruction (LLVM ctpop)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


def _has_vector_popcount() -> bool:
    return bool(llvm.get_host_cpu_features().get("avx512vpopcntdq", False))


_VECTOR_POPCOUNT = _has_vector_popcount()


@numba.njit(cache=True, nogil=True)
def _listed(left, right, i, j):  # type: ignore[no-untyped-def]
    counts = np.zeros(len(i), np.int64)
    for k in range(len(i)):
        ones = np.uint64(0)
        for word in range(left.shape[1]):
            ones += _popcount(left[i[k], word] & right[j[k], word])
        counts[k] = ones
    return counts


@numba.njit(cache=True, nogil=True)
def _narrow(left, right, a, b, c, d, first, found):  # type: ignore[no-untyped-def]
    """One scalar popcount a word; `right` is row-major. For CPUs without vector popcount."""
    count = 0
    for start in range(0, len(right), TILE):
        stop = min(start + TILE, len(right))
        for i in range(len(left)):
            begin = start if first < 0 else max(start, first + i + 1)
            for j in range(begin, stop):
                ones = np.uint64(0)
                for word in range(left.shape[1]):
                    ones += _popcount(left[i, word] & right[j, word])
                if np.float64(ones) >= a[i] * b[j] + c[i] * d[j]:
                    if count < len(found):
                        found[count, 0] = i
                        found[count, 1] = j
                        found[count, 2] = ones
                    count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _wide(left, right, a, b, c, d, first, found):  # type: ignore[no-untyped-def]
    """
    Eight words of a left row in registers against eight parallel streams of right words; the loop
    over right rows becomes vector instructions. `right` is transposed: uint64[words, rows].
    """
    count = 0
    tile = 4 * TILE
    ones = np.zeros(tile, np.uint64)
    for start in range(0, right.shape[1], tile):
        size = min(tile, right.shape[1] - start)
        for i in range(len(left)):
            ones[:] = 0
            for w in range(0, left.shape[1], 8):
                l0, l1, l2, l3 = left[i, w], left[i, w + 1], left[i, w + 2], left[i, w + 3]
                l4, l5, l6, l7 = left[i, w + 4], left[i, w + 5], left[i, w + 6], left[i, w + 7]
                for j in range(size):
                    ones[j] += (
                        _popcount(l0 & right[w, start + j])
                        + _popcount(l1 & right[w + 1, start + j])
                        + _popcount(l2 & right[w + 2, start + j])
                        + _popcount(l3 & right[w + 3, start + j])
                        + _popcount(l4 & right[w + 4, start + j])
                        + _popcount(l5 & right[w + 5, start + j])
                        + _popcount(l6 & right[w + 6, start + j])
                        + _popcount(l7 & right[w + 7, start + j])
                    )
            begin = 0 if first < 0 else max(0, first + i + 1 - start)
            for j in range(begin, size):
                if np.float64(ones[j]) >= a[i] * b[start + j] + c[i] * d[start + j]:
                    if count < len(found):
                        found[count, 0] = i
                        found[count, 1] = start + j
                        found[count, 2] = ones[j]
                    count += 1
    return count
