"""
How well a model predicts: AUROC, sensitivity and specificity, and what of them may be read.

    auroc(scores, labels)             estimate and DeLong's interval
    shares_told(hits, of, rule)       sensitivity or specificity by group, and intervals

A sensitivity to many digits is a count: 37 of 41 found. Hiding those of groups in which few were
found or missed is not enough: who knows the rule works out from which groups are hidden what they
hide. So no exact share is told at all. Counts are cut into blocks of at least the minimum, and the
figure is that of the whole block: its middle, and an interval that holds for each count in it. A
few found look like any other few, a few missed likewise.

Sources: DeLong, DeLong and Clarke-Pearson 1988, doi:10.2307/2531595; on the logit scale, Pepe 2003
section 5.2.5; Wilson 1927 for shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sites.cohort.disclosure import CellRule
from sites.cohort.report_numbers import wilson

Z = 1.959963984540054
EVERYBODY = "everybody"

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def auroc(scores: Floats, labels: Flags) -> dict[str, float] | None:
    """
    Return `auroc` with its 95 % interval `low`, `high`; None without both kinds of label.

    scores: float64[N], higher means more likely; labels: bool[N]. Ties count half.
    """
    positive, negative = scores[labels], scores[~labels]
    m, n = len(positive), len(negative)
    if not m or not n:
        return None
    both = _midranks(np.concatenate([positive, negative]))
    among_positive, among_negative = _midranks(positive), _midranks(negative)
    area = float((both[:m].sum() - m * (m + 1) / 2) / (m * n))
    # DeLong's structural components, by ranks (Sun and Xu 2014, doi:10.1109/LSP.2014.2337313).
    ten = (both[:m] - among_positive) / n
    one = 1 - (both[m:] - among_negative) / m
    variance = _variance(ten) / m + _variance(one) / n
    low, high = _logit_interval(area, math.sqrt(variance))
    if variance == 0:  # no score differs, or all lie right: the smaller class bounds what it can be
        low, high = _degenerate(area, min(m, n))
    return {"auroc": round(area, 3), "low": round(low, 3), "high": round(high, 3)}


def _midranks(values: Floats) -> Floats:
    """Return ranks from 1, ties sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse.ravel()].astype(np.float64)
    return ranks


def _variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _logit_interval(area: float, error: float) -> tuple[float, float]:
    if not 0 < area < 1 or not error:
        return area, area
    centre, spread = math.log(area / (1 - area)), Z * error / (area * (1 - area))
    return 1 / (1 + math.exp(spread - centre)), 1 / (1 + math.exp(-spread - centre))


def _degenerate(area: float, smaller: int) -> tuple[float, float]:
    low, high = wilson(round(area * smaller), smaller)
    return min(low, area), max(high, area)


def shares_told(
    hits: Mapping[str, int], of: Mapping[str, int], rule: CellRule
) -> dict[str, dict[str, float] | None]:
    """
    Return, for each group and for EVERYBODY, which share of `of` people are `hits`.

    The groups are parts of one whole. Each `share`, `low`, `high` is told to two digits, by the
    block of counts alone that its hits lie in; None for too few people. No group is told where the
    blocks of all of them and of the whole, added up, would narrow one down to half a block.
    """
    groups = {name: count for name, count in of.items() if count >= rule.minimum}
    blocks = {name: block(hits[name], count, rule.minimum) for name, count in groups.items()}
    size, found = sum(of.values()), sum(hits.values())
    whole = block(found, size, rule.minimum) if size >= rule.minimum else None
    told: dict[str, dict[str, float] | None] = dict.fromkeys(of)
    told[EVERYBODY] = whole and _share(whole, size)
    # A group that is not told may have any hits.
    ranges = {name: blocks.get(name, (0, count)) for name, count in of.items()}
    if whole is not None and not any(
        _narrower(name, ranges, whole, rule.minimum) for name in ranges
    ):
        told |= {name: _share(mine, of[name]) for name, mine in blocks.items()}
    return told


def _narrower(
    name: str, ranges: Mapping[str, tuple[int, int]], whole: tuple[int, int], minimum: int
) -> bool:
    """Return whether sums leave less than half a block of the counts that a group's hits may be."""
    low, high = ranges[name]
    others = [one for group, one in ranges.items() if group != name]
    least = max(low, whole[0] - sum(one[1] for one in others))
    most = min(high, whole[1] - sum(one[0] for one in others))
    return most - least < min(high - low, minimum // 2)


def _share(counts: tuple[int, int], of: int) -> dict[str, float]:
    (least, most), middle = counts, sum(counts) / 2
    low, high = wilson(least, of)[0], wilson(most, of)[1]
    return {"share": round(middle / of, 2), "low": round(low, 2), "high": round(high, 2)}


def block(hits: int, of: int, minimum: int) -> tuple[int, int]:
    """
    Return the smallest and largest count that look like `hits` of `of`.

    The counts from 0 to `of` are cut into equal blocks of at least `minimum`; none and all are in
    the first and the last of them, for either would tell the sum of the other groups.
    """
    counts = of + 1
    blocks = max(1, counts // minimum)
    mine = hits * blocks // counts
    # The first count of block b is the smallest c with c * blocks // counts = b.
    first, following = (-(-number * counts // blocks) for number in (mine, mine + 1))
    return first, following - 1
