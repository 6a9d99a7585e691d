"""
How fast this machine compares CLKs, beside anonlink.

    result = compare(20_000, 20_000, 1024); print(result.ratio)

Both get the same filters in the same process, and the whole answers are compared: pairs, scores and
order. anonlink works on one thread; ours is timed on one and on all processors. Medians of
`REPEATS` runs. anonlink is a development dependency: where it is not installed, there is no
reference and no ratio.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.bench_filters import Bytes, made_filters

if TYPE_CHECKING:
    from linkage.matching.dice import Intersections

REPEATS = 3
MOST = 10_000_000
T = TypeVar("T")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One job timed: all pairs of `left` and `right` filters, Dice coefficient at least `threshold`.

    Rates are pairs a second, on `threads` threads, on one, and anonlink's on one; ratios are ours
    divided by anonlink's. identical: both answered the same. None where anonlink is not installed.
    pairs: found. filters: their kind.
    """

    left: int
    right: int
    bits: int
    filters: str
    threshold: float
    threads: int
    pairs: int
    comparisons_per_second: float
    comparisons_per_second_one_thread: float
    anonlink_comparisons_per_second: float | None
    ratio_one_thread: float | None
    ratio: float | None
    identical: bool | None


def compare(
    left: int,
    right: int,
    bits: int,
    *,
    threshold: float = 0.8,
    filters: str = "random",
    seed: int = 1,
    progress: Progress = lambda what: None,
) -> Comparison:
    """
    Time ours and anonlink on made-up filters (bench_filters). progress: told what is timed next.

    Raises LinkageError for sizes, bits or a threshold out of range, or filters of unknown kind.
    """
    if not (1 <= left <= MOST and 1 <= right <= MOST):
        raise LinkageError(f"a benchmark needs 1 to {MOST:,} filters a side")
    if bits not in (512, 1024, 2048, 4096):
        raise LinkageError("a filter has 512, 1024, 2048 or 4096 bits")
    if not 0 < threshold <= 1:
        raise LinkageError("a Dice threshold must lie above 0 and at most at 1")
    # Imported here, for it needs numba: `linkage evaluate` and `people` do not.
    from linkage.matching.dice import similar_pairs

    progress("making filters")
    one, other = made_filters(filters, left, right, bits, seed=seed)
    sides = one.view(np.uint64), other.view(np.uint64)
    threads = len(os.sched_getaffinity(0))
    similar_pairs(sides[0][:8], sides[1][:8], threshold)  # compile before the clock runs
    progress("ours, one thread")
    alone, found = _median(lambda: similar_pairs(*sides, threshold))
    progress(f"ours, {threads} threads")
    together, again = _median(lambda: similar_pairs(*sides, threshold, threads=threads))
    theirs, identical = None, None
    if anonlink := _installed("anonlink.similarities"):
        progress("anonlink")
        bitarrays = [[_bitarray(row) for row in side] for side in (one, other)]
        theirs, answer = _median(
            lambda: anonlink.dice_coefficient_accelerated(bitarrays, threshold, k=right)
        )
        identical = _same(found, answer) and _same(again, answer)
    every = left * right
    return Comparison(
        left=left,
        right=right,
        bits=bits,
        filters=filters,
        threshold=threshold,
        threads=threads,
        pairs=len(found[1]),
        comparisons_per_second=every / together,
        comparisons_per_second_one_thread=every / alone,
        anonlink_comparisons_per_second=every / theirs if theirs else None,
        ratio_one_thread=theirs / alone if theirs else None,
        ratio=theirs / together if theirs else None,
        identical=identical,
    )


def _same(ours: tuple[Intersections, npt.NDArray[np.float64]], theirs: Any) -> bool:
    """Return whether both found the same pairs with the same scores, in order of the left row."""
    pairs, value = ours
    score, (i, j) = theirs
    score, i, j = np.array(score), np.array(i), np.array(j)
    # anonlink gives each left row's partners best first, ours are in order of the right row.
    order = np.lexsort((j, i))
    return (
        np.array_equal(pairs.left, i[order])
        and np.array_equal(pairs.right, j[order])
        and np.array_equal(value, score[order])
    )


def _median(job: Callable[[], T]) -> tuple[float, T]:
    """Return the median time of `REPEATS` runs in seconds, and the last answer."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        answer = job()
        times.append(time.perf_counter() - start)
    return statistics.median(times), answer


def _installed(module: str) -> Any:
    """Return the module of an optional package, None where it is not installed."""
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError:
        return None


def _bitarray(row: Bytes) -> Any:
    from bitarray import bitarray

    bits = bitarray(endian="big")
    bits.frombytes(row.tobytes())
    return bits
