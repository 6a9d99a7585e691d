"""
Figures of a cohort report, made of nothing but counts that may be read.

    cells = readable({"female": 40, "male": "hidden", "unknown": "hidden"}, total=60)
    cells                                    {"female": 40, TOGETHER: 20}
    distance(cells, reference)               Jensen-Shannon distance and its interval

A distance to many digits, made of the true counts, would give a hidden cell away to who solves for
it. So whatever is computed here is computed from the shown cells, hidden ones taken together: a
reader could do the same. Randomness is seeded by the counts, so the same table gives the same
figures.

Sources: Lin 1991, doi:10.1109/18.61115 (divergence); Endres and Schindelin 2003,
doi:10.1109/TIT.2003.813506 (its root is a metric); Efron and Tibshirani 1993 (basic bootstrap);
Yang and Dalton 2012, SAS Global Forum 335 (standardized difference of several categories).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sites.cohort.disclosure import HIDDEN, Shown

TOGETHER = "hidden groups together"
"""Stands for all groups of a table whose counts are hidden; their sum follows from the total."""

DRAWS = 2000
LARGEST_DIFFERENCE = 10.0
_LEVEL = (0.025, 0.975)

Shares = npt.NDArray[np.float64]


def readable(shown: Mapping[str, Shown] | None, total: Shown) -> dict[str, int]:
    """
    Return the counts that a reader of a one-way table knows: each shown one, the others together.

    Empty where the table is not shown, or a total that would be needed is not.
    """
    if shown is None:
        return {}
    cells = {name: count for name, count in shown.items() if isinstance(count, int)}
    if len(cells) == len(shown):
        return cells
    if not isinstance(total, int):
        return {}
    rest = total - sum(cells.values())
    return cells | ({TOGETHER: rest} if rest > 0 else {})


def js_distance(p: Shares, q: Shares) -> Any:
    """
    Return the Jensen-Shannon distance to base 2, in [0, 1], along the last axis.

    p, q: shares that sum to 1; broadcast against each other.
    """
    p, q = np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(q, np.float64))
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.where(p > 0, p * np.log2(p / middle), 0.0)
        other = np.where(q > 0, q * np.log2(q / middle), 0.0)
    divergence = (one.sum(axis=-1) + other.sum(axis=-1)) / 2
    return np.sqrt(np.clip(divergence, 0.0, 1.0))


def distance(counts: Sequence[int], reference: Sequence[float]) -> dict[str, float]:
    """
    Return how far counts of people are from the shares of a reference population.

    counts: int[K], their sum above 0; reference: float[K], shares that sum to 1. The result holds
    `distance`; `low` and `high`, its 95 % interval by the basic bootstrap, which takes out most of
    the upward bias that every sample of a distance has; `chance`, the distance that 95 % of random
    samples of the reference of the same size stay below.
    """
    seen, true = np.asarray(counts, np.int64), np.asarray(reference, np.float64)
    n = int(seen.sum())
    draw = _draws(counts, list(reference))
    found = float(js_distance(seen / n, true))
    again = js_distance(draw.multinomial(n, seen / n, DRAWS) / n, true)
    chance = js_distance(draw.multinomial(n, true / true.sum(), DRAWS) / n, true)
    upper, lower = np.quantile(again, _LEVEL)[::-1]
    low, high = 2 * found - upper, 2 * found - lower
    return {
        "distance": round(found, 3),
        "low": round(float(np.clip(low, 0.0, found)), 3),
        "high": round(float(np.clip(high, found, 1.0)), 3),
        "chance": round(float(np.quantile(chance, 0.95)), 3),
    }


def standardized_difference(p: Shares, q: Shares) -> float:
    """
    Return the standardized difference of two distributions over K categories, 0 to 10.

    Root of the Mahalanobis distance of their shares under the mean of both covariances. Categories
    that nobody of either has play no part.
    """
    kept = (p + q) > 0
    p, q = p[kept][1:], q[kept][1:]
    if not len(p):
        return 0.0
    covariance = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
    apart = p - q
    # Groups with no category in common have no variance to divide by: they differ as far as can be.
    square = apart @ np.linalg.solve(covariance + 1e-9 * np.eye(len(p)), apart)
    return min(math.sqrt(max(float(square), 0.0)), LARGEST_DIFFERENCE)


def difference(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, float] | None:
    """
    Return how two groups of people differ in one variable: `difference`, standardized; `chance`,
    what 95 % of random splits of all of them into groups of these sizes stay below.

    one, other: readable counts by category. Categories that only one shows are taken together in
    both. None where fewer than two categories remain or a group is empty.
    """
    shared = [name for name in one if name in other and name != TOGETHER]
    tables = []
    for cells in (one, other):
        rest = sum(cells.values()) - sum(cells[name] for name in shared)
        tables.append([*(cells[name] for name in shared), rest])
    a, b = (np.asarray(table, np.int64) for table in tables)
    if not a.sum() or not b.sum() or ((a + b) > 0).sum() < 2:
        return None
    draw = _draws(a.tolist(), b.tolist())
    splits = draw.multivariate_hypergeometric(a + b, int(a.sum()), DRAWS // 4)
    by_chance = [
        standardized_difference(split / a.sum(), (a + b - split) / b.sum()) for split in splits
    ]
    return {
        "difference": round(standardized_difference(a / a.sum(), b / b.sum()), 3),
        "chance": round(float(np.quantile(by_chance, 0.95)), 3),
    }


def shares(shown: Mapping[str, Shown], total: Shown) -> dict[str, Any]:
    """Return, for each count that is shown, its share of the total in [0, 1]; else HIDDEN."""
    whole = total if isinstance(total, int) else 0
    return {
        name: round(count / whole, 4) if isinstance(count, int) and whole else HIDDEN
        for name, count in shown.items()
    }


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share (1927, doi:10.1080/01621459.1927.10502953)."""
    z = 1.959963984540054
    p = hits / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    return max(low, 0.0), min(high, 1.0)


def _draws(*told: Any) -> np.random.Generator:
    """Return random numbers that depend on what is shown alone."""
    digest = hashlib.sha256(json.dumps(told).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
