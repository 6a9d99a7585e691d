"""
Speed of the kernel against anonlink 0.15.3, side by side in one process on the same filters.

    python tests/benchmarks/bench_matching.py [--records 6000] [--bits 1024] [--seconds 3]

Prints comparisons a second on one core, their ratio, and the cost of the z that a run uses. The
pairs that both find are compared first: a ratio of different answers would mean nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from anonlink.similarities import dice_coefficient_accelerated
from bitarray import bitarray

from linkage.matching.dataset import Words, popcounts
from linkage.matching.dice import pairs_reaching, similar_pairs
from linkage.matching.zscore import Calibration, bound_for

T = TypeVar("T")
DENSITY = 0.3
SHARED = 0.1
"""Share of left filters that have a noisy copy on the right."""


def filters(n: int, bits: int, seed: int = 1) -> tuple[Words, Words]:
    """Return n filters a side, density .3; a tenth have a copy with 5 % of its bits flipped."""
    draw = np.random.default_rng(seed)
    left, right = draw.random((2, n, bits)) < DENSITY
    shared = int(n * SHARED)
    right[:shared] = left[:shared] ^ (draw.random((shared, bits)) < 0.05)
    one, other = (np.packbits(side, axis=1).view(np.uint64) for side in (left, right))
    return one, other


def best(work: Callable[[], T], seconds: float) -> tuple[float, T]:
    """Repeat `work` for at least `seconds`; return its shortest CPU time and its last answer."""
    times: list[float] = []
    while not times or sum(times) < seconds:
        begun = time.process_time()
        answer = work()
        times.append(time.process_time() - begun)
    return min(times), answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print the comparison; fail if the two sides find different pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--records", type=int, default=6000)
    parser.add_argument("--bits", type=int, default=0, choices=(0, 512, 1024, 2048, 4096))
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args(arguments)
    n = asked.records
    print(f"{n:,} x {n:,} filters, one core, CPU time, best of {asked.seconds:g} s")
    print("bits   threshold      ours  anonlink  ratio   (million comparisons/s)")
    for bits in (asked.bits,) if asked.bits else (1024, 2048):
        left, right = filters(n, bits)
        similar_pairs(left[:2], right[:2], 0.7)  # compiles
        for threshold in (0.7, 0.9):
            ours, theirs = _dice_rates(left, right, threshold, asked.seconds)
            ratio = ours / theirs
            print(f"{bits:5}  dice >= {threshold:.1f}  {ours:7.0f}  {theirs:8.0f}  {ratio:5.2f}")
        bound = bound_for(popcounts(left), popcounts(right), bits, Calibration(), 3.7)
        taken, pairs = best(partial(pairs_reaching, left, right, bound), asked.seconds)
        print(f"{bits:5}  z >= 3.7     {n * n / taken / 1e6:7.0f}  ({len(pairs.left):,} pairs)")


def _dice_rates(left: Words, right: Words, threshold: float, seconds: float) -> tuple[float, float]:
    """Return our rate and anonlink's, in million comparisons a second of CPU time."""
    sides = [[_bitarray(row) for row in side] for side in (left, right)]
    ours, (found, value) = best(partial(similar_pairs, left, right, threshold), seconds)
    theirs, reference = best(
        partial(dice_coefficient_accelerated, sides, threshold, k=len(right)), seconds
    )
    _same(found.left, found.right, value, reference)
    pairs = len(left) * len(right) / 1e6
    return pairs / ours, pairs / theirs


def _bitarray(row: Words) -> bitarray:
    bits = bitarray(endian="big")
    bits.frombytes(row.tobytes())
    return bits


def _same(left: np.ndarray, right: np.ndarray, value: np.ndarray, reference: tuple) -> None:
    similarity, (i, j) = reference
    ours = dict(zip(zip(left.tolist(), right.tolist(), strict=True), value.tolist(), strict=True))
    theirs = dict(zip(zip(i, j, strict=True), similarity, strict=True))
    if ours != theirs:
        raise SystemExit("our kernel and anonlink find different pairs")


if __name__ == "__main__":
    main()
