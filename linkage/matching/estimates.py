"""
Precision and recall without truth, and the thresholds that they give.

Of the links that one-to-one matching accepts down to a probability t, the expected number of true
ones is the sum of their probabilities. So, with N the expected number of matches,

    precision(t) = sum / links,   recall(t) = sum / N,   F1(t) = 2 sum / (links + N).

The **link threshold** is the t >= .5 with the largest F1; where a precision is wanted, the least
t >= .5 with that precision or more. The **review threshold** is the largest t at or below it such
that the candidates under t hold at most a share 1 - P of all matches, P the wanted precision: so as
few of what is linked are wrong as of what nobody looks at are right. Both are inclusive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from linkage.errors import MatchingFailed
from linkage.matching.dice import Floats

BINS = 50
CURVE = tuple(round(k / 1000, 3) for k in (*range(10, 1000, 10), *range(991, 1000)))
"""Thresholds; finer at the end, where the precisions lie that people want."""
NORMAL_95 = 1.96
LEAST_THRESHOLD = 0.5
"""No pair is linked that is likelier two people than one, whatever F1 would gain."""
USUAL_PRECISION = 0.99
"""What the review threshold takes for wanted where nothing is."""
Rows = npt.NDArray[np.int64]


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
class Review:
    """
    The pairs that a person could look at: from `threshold`, inclusive, to the link threshold.

    pairs: how many. matches: how many of them are expected to be true. lost: share of all matches
    that lies below, among candidates that nobody looks at. Intervals are 95 %, half widths.
    """

    threshold: float
    pairs: int
    matches: float
    lost: float
    matches_interval: float
    lost_interval: float


@dataclass(frozen=True, slots=True)
class Below:
    """
    The candidates below `threshold`, exclusive. pairs: how many. matches: how many of them are
    expected to be true, with this variance.
    """

    threshold: float
    pairs: int
    matches: float
    variance: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    Estimated quality of one comparison, or of all together; JSON-able.

    link_threshold: the least probability to link, inclusive. expected_matches: N.
    expected_spread: standard error of what N has beyond the candidates. wanted_precision: what the
    thresholds were chosen for; None for the best F1. curve: thresholds of CURVE. histogram:
    candidates by probability, 50 equal bins over [0, 1], the last one closed.
    The intervals hold what chance does to a true model; a wrong model errs further.
    """

    link_threshold: float
    expected_matches: float
    expected_spread: float
    wanted_precision: float | None
    chosen: Point
    review: Review
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
            expected_spread=plain["expected_spread"],
            wanted_precision=plain["wanted_precision"],
            chosen=Point(**plain["chosen"]),
            review=Review(**plain["review"]),
            curve=tuple(Point(**point) for point in plain["curve"]),
            histogram=tuple(plain["histogram"]),
        )


def estimate(
    accepted: Floats,
    candidates: Floats,
    expected: float,
    *,
    spread: float = 0.0,
    precision: float | None = None,
) -> Estimate:
    """
    Estimate quality and choose the thresholds.

    accepted: float64[K], probabilities of the links that one-to-one matching takes, in any order.
    candidates: float64[P], probabilities of all candidates. expected: the expected number of
    matches, N, of which those beyond the candidates have the standard error `spread`. precision:
    the precision that is wanted of the links, None for the best F1.

    Without any link of .5 or more, or any that reaches the wanted precision, the link threshold is
    1. Raises MatchingFailed for a precision that is no number in [.5, 1].
    """
    check_precision(precision)
    best_first = np.sort(accepted)[::-1]
    counts, _ = np.histogram(candidates, bins=BINS, range=(0.0, 1.0))
    threshold = _threshold(best_first, expected, precision)
    usual = USUAL_PRECISION if precision is None else precision
    return Estimate(
        link_threshold=threshold,
        expected_matches=float(expected),
        expected_spread=float(spread),
        wanted_precision=precision,
        chosen=_point(best_first, expected, spread, threshold),
        review=_review(candidates, expected, threshold, 1 - usual),
        curve=tuple(_point(best_first, expected, spread, t) for t in CURVE),
        histogram=tuple(int(c) for c in counts),
    )


def check_precision(precision: float | None) -> None:
    """Raise MatchingFailed for a wanted precision that is no number in [.5, 1]; None passes."""
    if precision is not None and not LEAST_THRESHOLD <= precision <= 1:  # NaN fails, too
        raise MatchingFailed(
            f"a wanted precision must be a number from {LEAST_THRESHOLD} to 1",
            hint="leave it out for the best F1, or give one like 0.99",
        )


def points_for(
    left: npt.NDArray[np.integer],
    right: npt.NDArray[np.integer],
    probability: Floats,
    known: Estimate,
    precisions: Sequence[float],
) -> list[Point]:
    """
    Return what linking the pairs of a comparison with each of these precisions would give.

    left, right, probability: the weighed pairs. known: their estimate, of which the expected
    matches are taken. A precision that no threshold of .5 or more reaches gives a threshold of 1.
    """
    best_first = np.sort(probability[one_to_one(left, right, probability)])[::-1]
    expected, spread = known.expected_matches, known.expected_spread
    return [
        _point(best_first, expected, spread, _threshold(best_first, expected, one))
        for one in precisions
    ]


def below(candidates: Floats, *known: Estimate) -> list[Below]:
    """
    Return what lies below every threshold of CURVE, and below those that the estimates chose: so
    any review threshold can be weighed, each under any link threshold. Ascending.

    candidates: float64[P], their probabilities, in any order.
    """
    chosen = {t for one in known for t in (one.link_threshold, one.review.threshold)}
    ascending = np.sort(candidates)
    true = np.concatenate([[0.0], np.cumsum(ascending)])
    variance = np.concatenate([[0.0], np.cumsum(ascending * (1 - ascending))])
    thresholds = sorted(chosen.union(CURVE))
    counts = np.searchsorted(ascending, thresholds).tolist()
    return [
        Below(t, count, float(true[count]), float(variance[count]))
        for t, count in zip(thresholds, counts, strict=True)
    ]


def _threshold(best_first: Floats, expected: float, precision: float | None) -> float:
    likely = best_first[best_first >= LEAST_THRESHOLD]
    links, true = np.arange(1, len(likely) + 1), np.cumsum(likely)
    if precision is None:
        f1 = 2 * true / (links + expected)
        return float(likely[int(np.argmax(f1))]) if len(likely) else 1.0
    # Of equal probabilities all are linked or none.
    last = np.append(likely[1:] < likely[:-1], True)[: len(likely)]
    enough = np.flatnonzero(last & (true >= precision * links))
    return float(likely[enough[-1]]) if len(enough) else 1.0


def _point(best_first: Floats, expected: float, spread: float, threshold: float) -> Point:
    taken = best_first[: len(best_first) - int(np.searchsorted(best_first[::-1], threshold))]
    links, true = len(taken), float(taken.sum())
    chance = float(np.sum(taken * (1 - taken))) + 1
    total = max(expected, true, 1e-12)
    return Point(
        threshold=threshold,
        links=links,
        precision=true / links if links else 1.0,
        recall=true / total if links else 0.0,
        f1=2 * true / (links + total),
        precision_interval=min(1.0, _interval(chance) / links) if links else 1.0,
        recall_interval=min(1.0, _interval(chance + spread**2) / total) if links else 1.0,
    )


def _review(candidates: Floats, expected: float, link: float, lost: float) -> Review:
    below = np.sort(candidates[candidates < link])
    left = np.cumsum(below)
    unseen = int(np.searchsorted(left, lost * expected, side="right"))
    threshold = float(below[unseen]) if unseen < len(below) else link
    unseen = int(np.searchsorted(below, threshold))  # of equal ones all are looked at
    nobody, looked_at = below[:unseen], below[unseen:]
    total = max(expected, 1e-12)
    return Review(
        threshold=threshold,
        pairs=len(looked_at),
        matches=float(looked_at.sum()),
        lost=min(1.0, float(nobody.sum()) / total),
        matches_interval=_interval(float(np.sum(looked_at * (1 - looked_at)))),
        lost_interval=min(1.0, _interval(float(np.sum(nobody * (1 - nobody)))) / total),
    )


def _interval(variance: float) -> float:
    return NORMAL_95 * math.sqrt(variance)


def one_to_one(
    left: npt.NDArray[np.integer], right: npt.NDArray[np.integer], probability: Floats
) -> Rows:
    """
    Return which pairs greedy one-to-one matching takes, best first: int64[K], row numbers.

    Ties go to the smaller left row, then to the smaller right row.
    """
    order = np.lexsort((right, left, -probability))
    rows = [int(side.max(initial=0)) + 1 for side in (left, right)]
    taken: Rows = order[
        _first_of_both(left[order].astype(np.int64), right[order].astype(np.int64), *rows)
    ]
    return taken


@numba.njit(cache=True, nogil=True)
def _first_of_both(left, right, lefts, rights):  # type: ignore[no-untyped-def]
    """Return whether a pair has the first free occurrence of both of its records: bool[P]."""
    used_left, used_right = np.zeros(lefts, np.bool_), np.zeros(rights, np.bool_)
    taken = np.zeros(len(left), np.bool_)
    for k in range(len(left)):
        if not used_left[left[k]] and not used_right[right[k]]:
            used_left[left[k]] = used_right[right[k]] = taken[k] = True
    return taken


def one_to_one_reference(
    left: npt.NDArray[np.integer], right: npt.NDArray[np.integer], probability: Floats
) -> Rows:
    """Return what `one_to_one` returns, to be read."""
    order = np.lexsort((right, left, -probability))
    used_left, used_right, taken = set[int](), set[int](), []
    for k, i, j in zip(order.tolist(), left[order].tolist(), right[order].tolist(), strict=True):
        if i not in used_left and j not in used_right:
            used_left.add(i)
            used_right.add(j)
            taken.append(k)
    return np.array(taken, dtype=np.int64)
