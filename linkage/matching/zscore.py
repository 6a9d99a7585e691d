"""
Similarity of two CLKs as a hypergeometric z: how far their intersection exceeds chance.

    z = (n11 - ca cb / L) / sqrt(ca cb (L - ca)(L - cb) / (L^2 (L - 1)))

ca, cb are the popcounts and L the length. The Dice coefficient grows with the density of both
filters, z does not: two filters with a missing field are judged by what they hold. Chance pairs
then have a z near 0 with a spread near 1; `calibrate` measures both on random pairs and `zscores`
takes them out, so that a z means the same for every CLK, profile and pair of parties.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.matching.dataset import Words, popcounts
from linkage.matching.dice import Bound, Floats, ones_between

SAMPLE = 1_000_000
"""Random pairs. An error of 1 % in the spread moves the number of chance pairs above z = 3.7 by
14 %; this many keep it near 2 %."""
FEWEST = 200
"""Below this many possible pairs the sample says too little, and the theory (0, 1) is used."""
IQR_OF_NORMAL = 1.3489795003921634
NARROWEST = 0.5
"""Least scale believed: a sample of equal filters must not blow up every z."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Median and robust spread (interquartile range / 1.349) of z over random pairs."""

    centre: float = 0.0
    scale: float = 1.0


Counts = npt.NDArray[np.int64]


def raw_z(ones: Counts, left: Counts, right: Counts, bits: int) -> Floats:
    """
    Return the hypergeometric z of each intersection `ones`: float64[P].

    left, right: popcounts, strictly between 0 and `bits` (dataset.POPCOUNT_BAND sees to it).
    """
    expected = left * right / bits
    spread = _spread(left, bits) * _spread(right, bits) / (bits * np.sqrt(bits - 1.0))
    return np.asarray((ones - expected) / spread, dtype=np.float64)


def zscores(
    ones: Counts, left: Counts, right: Counts, bits: int, calibration: Calibration
) -> Floats:
    """Return the calibrated z of each intersection: float64[P]."""
    raw = raw_z(ones, left, right, bits)
    return np.asarray((raw - calibration.centre) / calibration.scale, dtype=np.float64)


def bound_for(
    left: Counts, right: Counts, bits: int, calibration: Calibration, floor: float
) -> Bound:
    """
    Return the least intersections for a calibrated z of `floor`.

    Lower by a millionth of a bit than exact, against rounding: test the z of what comes back.
    """
    raw = calibration.centre + calibration.scale * floor
    return Bound(
        a=left / bits,
        b=right.astype(np.float64) * (1 - 1e-9),
        c=raw * _spread(left, bits),
        d=(1 - np.sign(raw) * 1e-9) * _spread(right, bits) / (bits * np.sqrt(bits - 1.0)),
    )


def calibrate(left: Words, right: Words, *, seed: int, label: str) -> Calibration:
    """
    Return median and spread of z over 1,000,000 random pairs of usable filters, or over all pairs
    where there are fewer.

    Where `left` is `right` (pairs within a party), no row is paired with itself. `label` names the
    comparison, so that every one draws its own pairs from the run's `seed`.
    """
    within = left is right
    partners = len(right) - within
    if len(left) * partners < FEWEST:
        return Calibration()
    if len(left) * partners <= SAMPLE:
        i, j = np.divmod(np.arange(len(left) * partners), partners)
    else:
        draw = np.random.default_rng(seed_for(seed, label))
        i, j = draw.integers(0, len(left), SAMPLE), draw.integers(0, partners, SAMPLE)
    if within:
        j += j >= i
    ones = ones_between(left, right, i, j)
    z = raw_z(ones, popcounts(left)[i], popcounts(right)[j], left.shape[1] * 64)
    lower, centre, upper = np.quantile(z, [0.25, 0.5, 0.75])
    return Calibration(float(centre), max(NARROWEST, float(upper - lower) / IQR_OF_NORMAL))


def seed_for(seed: int, label: str) -> int:
    """Return a seed of its own for each label, the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{label}".encode()).digest()[:8], "big")


def _spread(ones: Counts, bits: int) -> Floats:
    return np.sqrt(ones * (bits - ones.astype(np.float64)))
