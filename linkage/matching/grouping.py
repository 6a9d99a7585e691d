"""
Pairs of the same evidence, counted: the fit (density_ratio.py) then takes as long for millions of
pairs as for thousands.

Only what the features can tell is kept of z: between the outermost knots, and to 1/64, which moves
a log weight by some hundredths, while z itself is uncertain by 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.matching.dice import Floats

Mask = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
STEPS = 64
"""Steps of z in one unit."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Groups:
    """
    G different kinds of evidence among P pairs. z: float64[G, CLKs]. agree, disagree: uint64[G].

    of: int64[P], the group of each pair. The groups do not depend on the order of the pairs.
    """

    z: Floats
    agree: Mask
    disagree: Mask
    of: Rows


def grouped(z: Floats, agree: Mask, disagree: Mask, ends: tuple[float, float]) -> Groups:
    """
    Group pairs by their keys and by their z, which is rounded to 1/64 and moved between `ends`.

    z: float64[P, CLKs], NaN counts as the lower end. agree, disagree: uint64[P].
    """
    low, high = ends
    steps = np.rint((np.clip(np.nan_to_num(z, nan=low), low, high) - low) * STEPS).astype(np.int64)
    _, of = np.unique(agree, return_inverse=True)
    for column in (disagree, *steps.T):
        _, value = np.unique(column, return_inverse=True)
        size = int(value.max(initial=0)) + 1
        _, of = np.unique(of.ravel() * size + value.ravel(), return_inverse=True)
    of = of.ravel()
    member = np.zeros(int(of.max(initial=-1)) + 1, np.int64)
    member[of[::-1]] = np.arange(len(of))[::-1]
    return Groups(low + steps[member] / STEPS, agree[member], disagree[member], of)
