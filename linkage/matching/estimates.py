"""
Precision and recall without truth, and the link threshold they give.

Of the links that one-to-one matching accepts down to a probability t, the expected number of true
ones is the sum of their probabilities. So, with N the expected number of matches,

    precision(t) = sum / links,   recall(t) = sum / N,   F1(t) = 2 sum / (links + N),

and the link threshold is the t >= .5 with the largest F1. A threshold is inclusive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.matching.dice import Floats

BINS = 50
CURVE = tuple(round(k / 100, 2) for k in range(1, 100))
NORMAL_95 = 1.96
LEAST_THRESHOLD = 0.5
"""No pair is linked that is likelier two people than one, whatever F1 would gain."""


@dataclass(frozen=True, slots=True)
class Point:
    """What linking from `threshold` on is expected to give; intervals are 95 %, half widths."""

    threshold: float
    links: int
    precision: float
    recall: float
    f1: float
    precision_interval: float
    recall_interval: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    Estimated quality of one comparison, or of all together; JSON-able.

    link_threshold: the least probability to link, inclusive. expected_matches: N.
    curve: thresholds .01 to .99. histogram: candidates by probability, 50 equal bins over [0, 1],
    the last one closed.
    The intervals hold what chance does to a true model; a wrong model errs further.
    """

    link_threshold: float
    expected_matches: float
    chosen: Point
    curve: tuple[Point, ...]
    histogram: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers."""
        plain = asdict(self)
        return {**plain, "curve": list(plain["curve"]), "histogram": list(self.histogram)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Estimate:
        """Read what `to_json` wrote."""
        return cls(
            link_threshold=plain["link_threshold"],
            expected_matches=plain["expected_matches"],
            chosen=Point(**plain["chosen"]),
            curve=tuple(Point(**point) for point in plain["curve"]),
            histogram=tuple(plain["histogram"]),
        )


def estimate(accepted: Floats, candidates: Floats, expected: float) -> Estimate:
    """
    Estimate quality and choose the threshold.

    accepted: float64[K], probabilities of the links that one-to-one matching takes, in any order.
    candidates: float64[P], probabilities of all candidates. expected: the expected number of
    matches, N. Without any link of .5 or more the threshold is 1.
    """
    best_first = np.sort(accepted)[::-1]
    counts, _ = np.histogram(candidates, bins=BINS, range=(0.0, 1.0))
    threshold = _best_threshold(best_first, expected)
    return Estimate(
        link_threshold=threshold,
        expected_matches=float(expected),
        chosen=_point(best_first, expected, threshold),
        curve=tuple(_point(best_first, expected, t) for t in CURVE),
        histogram=tuple(int(c) for c in counts),
    )


def _best_threshold(best_first: Floats, expected: float) -> float:
    likely = best_first[best_first >= LEAST_THRESHOLD]
    if not len(likely):
        return 1.0
    links = np.arange(1, len(likely) + 1)
    f1 = 2 * np.cumsum(likely) / (links + expected)
    return float(best_first[int(np.argmax(f1))])


def _point(best_first: Floats, expected: float, threshold: float) -> Point:
    taken = best_first[best_first >= threshold]
    links, true = len(taken), float(taken.sum())
    width = NORMAL_95 * float(np.sqrt(np.sum(taken * (1 - taken)) + 1))
    total = max(expected, true, 1e-12)
    return Point(
        threshold=threshold,
        links=links,
        precision=true / links if links else 1.0,
        recall=true / total if links else 0.0,
        f1=2 * true / (links + total),
        precision_interval=min(1.0, width / links) if links else 1.0,
        recall_interval=min(1.0, width / total) if links else 1.0,
    )


def one_to_one(
    left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32], probability: Floats
) -> npt.NDArray[np.int64]:
    """
    Return which pairs greedy one-to-one matching takes, best first: int64[K], row numbers.

    Ties go to the smaller left row, then to the smaller right row.
    """
    order = np.lexsort((right, left, -probability))
    used_left, used_right, taken = set[int](), set[int](), []
    for k, i, j in zip(order.tolist(), left[order].tolist(), right[order].tolist(), strict=True):
        if i not in used_left and j not in used_right:
            used_left.add(i)
            used_right.add(j)
            taken.append(k)
    return np.array(taken, dtype=np.int64)
