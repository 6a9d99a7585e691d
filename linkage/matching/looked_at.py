"""
The log weights that a second look gives, and how they take the place of the first model's.

This is between linkage.matching.field_weights, which makes them, and linkage.matching.weights,
which uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from linkage.errors import MatchingFailed
from linkage.matching.dice import Floats
from linkage.matching.hyperedges import Pairs


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LookedAt:
    """
    Pairs of one comparison whose weight a look replaces: P parallel rows, each pair once.

    left, right: uint32[P], record rows. log_weight: float64[P], log odds before competition.
    no_more: bool[P], pairs that a look makes less likely, but never more; none if left out.
    Raises MatchingFailed where lengths differ, a pair comes twice, or a weight is not finite.
    """

    left: npt.NDArray[np.uint32]
    right: npt.NDArray[np.uint32]
    log_weight: Floats
    no_more: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __post_init__(self) -> None:
        if not len(self.no_more):
            object.__setattr__(self, "no_more", np.zeros(len(self.left), np.bool_))
        if not len(self.left) == len(self.right) == len(self.log_weight) == len(self.no_more):
            raise MatchingFailed("the weights of a second look do not fit its pairs")
        if not np.isfinite(self.log_weight).all():
            raise MatchingFailed("a second look has a weight that is not finite")
        if len(np.unique(_code(self.left, self.right))) != len(self.left):
            raise MatchingFailed("a pair was looked at twice")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LookWeights:
    """By comparison (its parties in sorted order), the pairs that second looks weigh anew."""

    comparisons: Mapping[tuple[str, str], LookedAt]


def replaced(pairs: Pairs, looked: LookedAt | None) -> Pairs:
    """
    Return the pairs with the weights of the look where it has one, in order of left, right row.

    Where the look says no_more, the smaller of both weights counts. A pair that was no candidate is
    one from now on.
    """
    if looked is None or not len(looked.left):
        return pairs
    codes = _code(pairs.left, pairs.right)
    new = _code(looked.left, looked.right)
    kept = ~np.isin(codes, new)
    weight = looked.log_weight.copy()
    held = np.flatnonzero(looked.no_more & np.isin(new, codes))
    order = np.argsort(codes)
    place = order[np.searchsorted(codes, new[held], sorter=order)]
    weight[held] = np.minimum(weight[held], pairs.log_weight[place])
    left = np.concatenate([pairs.left[kept], looked.left.astype(np.int64)])
    right = np.concatenate([pairs.right[kept], looked.right.astype(np.int64)])
    log_weight = np.concatenate([pairs.log_weight[kept], weight])
    order = np.lexsort((right, left))
    return replace(pairs, left=left[order], right=right[order], log_weight=log_weight[order])


def _code(left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Return one number for each pair of rows; rows are below 2^32."""
    return (left.astype(np.int64) << 32) | right.astype(np.int64)
