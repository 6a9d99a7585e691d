"""
The Dice kernel behind anonlink's interface, for programs that are built on anonlink.

    from anonlink.candidate_generation import find_candidate_pairs
    from linkage.matching.anonlink_like import dice_coefficient

    candidates = find_candidate_pairs([hospital, registry], dice_coefficient, 0.8, k=5)

`dice_coefficient` answers as `anonlink.similarities.dice_coefficient_accelerated` does: the same
pairs, scores, order and ties (anonlink 0.15.3). `dice_coefficient_reference` is the readable
version; tests hold the two, and both versions of anonlink, equal.

On purpose it differs where anonlink's fast version departs from its own Python version, and follows
the latter: anonlink skips filters by their popcounts with a truncated bound, so it may lose a pair
that has exactly the threshold, and almost all pairs at thresholds below about a millionth. What
anonlink answers with a surprise (a NaN threshold, a negative k, bits in opposite order, filters of
0 bits) is refused here.

Neither anonlink nor bitarray is needed: whoever hands over a bitarray has it.
"""

from __future__ import annotations

import math
import os
import sys
from array import array
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from linkage.errors import EncodingRefused
from linkage.matching.dataset import Words, popcounts
from linkage.matching.dice import Bound, Intersections, check, dice_bound, pair_blocks

Records: TypeAlias = "Sequence[Any] | npt.NDArray[np.uint8] | npt.NDArray[np.uint64]"
Found: TypeAlias = "tuple[array[float], tuple[array[int], array[int]]]"
WORD_BYTES, STEP_BYTES = 8, 64
"""Bytes of a word, and of the 512 bits in which the kernel counts."""


def dice_coefficient(
    datasets: Sequence[Records],
    threshold: float,
    k: int | None = None,
    *,
    threads: int | None = None,
) -> Found:
    """
    Return the pairs whose Dice coefficient is at least `threshold`: scores, (left, right) numbers.

    datasets: two, each a sequence of filters (bitarray, bytes or what `bytes` makes of a filter),
    or a packed matrix uint8[N, bytes] or uint64[N, words]. All filters have one length, a multiple
    of 8 bits, 4,096 at most.
    threshold: inclusive; 0 and less give every pair, above 1 none. Two empty filters have 0.
    k: each left filter keeps its k best, of equal ones those with the smallest right number; None
    keeps all.
    threads: None for as many as this process has CPUs; the answer does not depend on it.

    Scores: array('d'), greatest first; equal ones by left, then right number: array('I') both.

    Raises EncodingRefused where datasets, threshold or k do not fit; TooManyCandidates past
    20,000,000 pairs.
    """
    left, right = _packed(datasets)
    threshold, k = _threshold(threshold), _k(k)
    if not len(left) or not len(right) or threshold > 1 or k == 0:
        return array("d"), (array("I"), array("I"))
    ones_left, ones_right = popcounts(left), popcounts(right)

    def scores(found: Intersections) -> npt.NDArray[np.float64]:
        total = ones_left[found.left] + ones_right[found.right]
        value = np.zeros(len(total))
        np.divide(2.0 * found.ones, total, out=value, where=total > 0)
        return value

    def keep(found: Intersections) -> Intersections:
        kept = scores(found) >= threshold
        found = Intersections(found.left[kept], found.right[kept], found.ones[kept])
        return found if k is None else _best(found, scores(found), k)

    blocks = pair_blocks(
        left,
        right,
        _bound(ones_left, ones_right, threshold),
        keep=keep,
        threads=threads or len(os.sched_getaffinity(0)),
    )
    found = list(blocks)
    value = np.concatenate([scores(block) for block in found])
    order = np.argsort(-value, kind="stable")  # they come by left, then right number
    numbers = (
        np.concatenate([block.left for block in found])[order],
        np.concatenate([block.right for block in found])[order],
    )
    return array("d", value[order].tobytes()), (
        array("I", numbers[0].tobytes()),
        array("I", numbers[1].tobytes()),
    )


def dice_coefficient_reference(
    datasets: Sequence[Records], threshold: float, k: int | None = None
) -> Found:
    """Return what `dice_coefficient` does, one pair at a time."""
    left, right = (
        [int.from_bytes(row.tobytes(), "big") for row in side] for side in _packed(datasets)
    )
    threshold, k = _threshold(threshold), _k(k)
    found: list[tuple[float, int, int]] = []
    for i, one in enumerate(left):
        reaching = []
        for j, other in enumerate(right):
            total = one.bit_count() + other.bit_count()
            score = 2 * (one & other).bit_count() / total if total else 0.0
            if score >= threshold:
                reaching.append((-score, i, j))
        found += sorted(reaching)[:k]
    found.sort()
    scores = array("d", [-score for score, _, _ in found])
    return scores, (array("I", [i for _, i, _ in found]), array("I", [j for _, _, j in found]))


def _bound(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], threshold: float) -> Bound:
    """Return the bound of `dice_bound`, or for a threshold of 0 and less one all pairs reach."""
    if threshold > 0:
        return dice_bound(left, right, threshold)
    nothing, neither = np.zeros(len(left)), np.zeros(len(right))
    return Bound(a=nothing, b=neither, c=nothing, d=neither)


def _best(found: Intersections, value: npt.NDArray[np.float64], k: int) -> Intersections:
    """Return the k best pairs of each left row, in the order of `found` (by left, then right)."""
    order = np.lexsort((found.right, -value, found.left))
    lefts = found.left[order]
    begin = np.flatnonzero(np.r_[True, lefts[1:] != lefts[:-1]]) if len(lefts) else lefts
    rank = np.arange(len(lefts)) - np.repeat(begin, np.diff(np.append(begin, len(lefts))))
    kept = np.sort(order[rank < k])
    return Intersections(found.left[kept], found.right[kept], found.ones[kept])


def _threshold(threshold: object) -> float:
    if not isinstance(threshold, Real) or math.isnan(threshold):
        raise EncodingRefused(
            "a similarity threshold must be a number", hint="give a Dice coefficient, such as 0.8"
        )
    return float(threshold)


def _k(k: object) -> int | None:
    if k is None:
        return None
    if not isinstance(k, Integral) or k < 0:
        raise EncodingRefused(
            "k must be a whole number from 0", hint="give None to keep every pair"
        )
    return int(k)


def _packed(datasets: Sequence[Records]) -> tuple[Words, Words]:
    """Return both datasets as words, zeros added up to a multiple of 512 bits: Dice stays."""
    if len(datasets) != 2:
        raise EncodingRefused(
            f"two datasets can be compared, not {len(datasets)}",
            hint="anonlink's find_candidate_pairs compares any number of them, two at a time",
        )
    sides = [_bytes(side) for side in datasets]
    if len({order for _, order in sides if order}) > 1:
        raise _two_orders()
    if not all(len(matrix) for matrix, _ in sides):
        nothing = np.zeros((0, WORD_BYTES), np.uint64)
        return nothing, nothing
    widths = {matrix.shape[1] for matrix, _ in sides}
    if len(widths) > 1:
        raise _mixed()
    width = widths.pop()
    if not 0 < width * 8 <= 4096:
        raise EncodingRefused(
            f"filters of {width * 8} bits cannot be compared", hint="use 8 to 4,096 bits"
        )
    left, right = (_words(matrix) for matrix, _ in sides)
    check(left, right)
    return left, right


def _words(matrix: npt.NDArray[np.uint8]) -> Words:
    padding = -matrix.shape[1] % STEP_BYTES
    whole = np.pad(matrix, ((0, 0), (0, padding))) if padding else matrix
    # Writable: numba compiles the kernel anew for arrays that are not.
    return np.require(whole, requirements=["C", "W"]).view(np.uint64)


def _bytes(side: Records) -> tuple[npt.NDArray[np.uint8], str]:
    """Return uint8[N, bytes] and the order of bits of its bitarrays: "" where there is none."""
    if isinstance(side, np.ndarray):
        if side.ndim != 2 or side.dtype not in (np.uint8, np.uint64):
            raise EncodingRefused("a matrix of filters is uint8[N, bytes] or uint64[N, words]")
        return np.ascontiguousarray(side).view(np.uint8), ""
    module = sys.modules.get("bitarray")  # who passes a bitarray has imported it
    kind = module.bitarray if module else ()
    rows, orders = [], set()
    for record in side:
        if isinstance(record, kind):
            if len(record) % 8:
                raise EncodingRefused(
                    f"a filter has {len(record)} bits",
                    hint="the length must be a multiple of 8",
                )
            # A method until bitarray 3.4, a property since.
            orders.add(record.endian() if callable(record.endian) else record.endian)
        rows.append(_one(record))
    if len(orders) > 1:
        raise _two_orders()
    if len({len(row) for row in rows}) > 1:
        raise _mixed()
    matrix = np.frombuffer(b"".join(rows), np.uint8)
    return matrix.reshape(len(rows), -1 if len(matrix) else 0), next(iter(orders), "")


def _one(record: Any) -> bytes:
    if not isinstance(record, (str, int)):
        try:
            return bytes(record)
        except (TypeError, ValueError):
            pass
    raise EncodingRefused(
        f"a filter cannot be a {type(record).__name__}", hint="give bitarrays or bytes"
    )


def _two_orders() -> EncodingRefused:
    return EncodingRefused(
        "some filters are big-endian bitarrays, others little-endian",
        hint="make all bitarrays with the same endian",
    )


def _mixed() -> EncodingRefused:
    return EncodingRefused(
        "filters of different lengths cannot be compared",
        hint="both parties must encode with the same study file",
    )
