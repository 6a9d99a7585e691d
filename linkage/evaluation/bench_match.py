"""
How fast this machine compares CLKs, beside anonlink.

    result = compare(); print(result.ratio)

Both get the same input, one process on one core, and must give the same answer; the better of
`REPEATS` runs counts. anonlink is a development dependency: where it is not installed, there is
no reference and no ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError

REPEATS = 3
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One job timed. rate, reference_rate: `unit` a second, the latter None if not installed.

    what: the job; reference: the package compared with; size: of the input, in words.
    """

    what: str
    unit: str
    size: str
    rate: float
    reference: str
    reference_rate: float | None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the reference we are."""
        return self.rate / self.reference_rate if self.reference_rate else None


def compare(scale: float = 1.0, seed: int = 1) -> Comparison:
    """
    Compare all pairs of two sides of CLKs; `scale` multiplies the pairs (1: some seconds).

    Raises LinkageError if `scale` is not positive, or if an answer differs from the reference's.
    """
    if not 0 < scale <= 100:
        raise LinkageError("a benchmark needs a scale above 0 and at most 100")
    return _dice_all_pairs(int(4000 * scale**0.5) + 2, seed)


def _dice_all_pairs(n: int, seed: int) -> Comparison:
    """Compare n filters with n, 1,024 bits, about 30 % ones, threshold .7: few pairs reach it."""
    # Imported here, for they need numba: `linkage evaluate` and `people` do not.
    from linkage.matching.dataset import popcounts
    from linkage.matching.dice import dice_bound, pairs_reaching

    rng = np.random.default_rng(seed)
    bits = rng.random((2, n, 1024)) < 0.3
    bits[1, : n // 10] = bits[0, : n // 10] ^ (rng.random((n // 10, 1024)) < 0.05)
    packed = np.packbits(bits, axis=2)
    left, right = packed.view(np.uint64)
    bound = dice_bound(popcounts(left), popcounts(right), 0.7)
    warm = slice(0, 2)  # compile before the clock runs
    pairs_reaching(
        left[warm], right[warm], dice_bound(popcounts(left[warm]), popcounts(right[warm]), 0.7)
    )
    ours, found = _best(lambda: pairs_reaching(left, right, bound))
    theirs = None
    if anonlink := _installed("anonlink.similarities"):
        filters = [[_bitarray(row) for row in side] for side in packed]
        theirs, reference = _best(lambda: anonlink.dice_coefficient_accelerated(filters, 0.7, k=n))
        if len(reference[0]) != len(found.left):
            raise LinkageError("our kernel and anonlink find different pairs")
    return Comparison(
        what="Dice coefficient, all pairs, threshold 0.7",
        unit="million comparisons",
        size=f"{n:,} x {n:,} of 1,024 bits",
        rate=n * n / ours / 1e6,
        reference="anonlink",
        reference_rate=n * n / theirs / 1e6 if theirs else None,
    )


def _best(job: Callable[[], T], repeats: int = REPEATS) -> tuple[float, T]:
    """Return the shortest time of `repeats` runs in seconds, and the last answer."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = job()
        times.append(time.perf_counter() - start)
    return min(times), answer


def _installed(module: str) -> Any:
    """Return the module of an optional package, None where it is not installed."""
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError:
        return None


def _bitarray(row: npt.NDArray[np.uint8]) -> Any:
    from bitarray import bitarray

    bits = bitarray(endian="big")
    bits.frombytes(row.tobytes())
    return bits
