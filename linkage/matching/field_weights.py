"""
What a second look is worth: levels of agreement to log weights, without truth.

The weight of an asked pair is that of Fellegi and Sunter: the prior odds of any pair, times m / u
for each field that both records have, where m and u are how often true pairs and chance pairs show
the level they show. u comes from the decoys drawn at random, m by expectation maximisation over all
other pairs asked, from the probabilities of the first model. Both are smoothed, so that a level
never seen is not impossible.

Sources: Fellegi and Sunter 1969, doi:10.1080/01621459.1969.10501049; Winkler 2002.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from linkage.matching.dataset import Shape
from linkage.matching.dice import Floats
from linkage.matching.looked_at import LookedAt, LookWeights
from linkage.matching.second_look import Level, LookLevels, LookPairs, Looks, Reason

LEVELS = len(Level)
SMOOTHING = 1.0
ROUNDS = 50


def weigh_looks(
    looks: Looks,
    levels: Sequence[LookLevels],
    shapes: Sequence[Shape],
    expected: Mapping[tuple[str, str], float],
) -> LookWeights:
    """
    Return the log weight of every pair that both sites answered.

    expected: by comparison, matches to expect, as the first model says.
    """
    people = {s.party: s.people for s in shapes}
    found = {}
    for pairs, level in zip(looks.comparisons, levels, strict=True):
        one, other = (people[party] for party in pairs.parties)
        matches = expected[pairs.parties]
        free = max(1.0, one * other - matches)
        found[pairs.parties] = _weighed(pairs, level, float(np.log(max(matches, 0.5) / free)))
    return LookWeights(found)


def _weighed(pairs: LookPairs, level: LookLevels, log_prior: float) -> LookedAt:
    asked = level.answered
    shown, p = level.levels[asked], pairs.probability[asked]
    random = pairs.reason[asked] == Reason.RANDOM
    u = _shares(shown, random.astype(np.float64))
    ratio = np.zeros(len(shown))
    for _ in range(ROUNDS):
        m = _shares(shown, np.where(random, 0.0, p))
        ratio = _log_ratio(shown, m, u)
        p = 1 / (1 + np.exp(-np.clip(log_prior + ratio, -700, 700)))
    return LookedAt(pairs.left[asked], pairs.right[asked], log_prior + ratio)


def _shares(shown: npt.NDArray[np.uint8], weight: Floats) -> Floats:
    """Return how often each level is shown where the field is not missing: [fields, LEVELS]."""
    counts = np.zeros((shown.shape[1], LEVELS))
    for field, column in enumerate(shown.T):
        counts[field] = np.bincount(column, weight, LEVELS)
    counts[:, Level.MISSING] = 0.0
    counts[:, Level.DIFFERENT :] += SMOOTHING / (LEVELS - 1)
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _log_ratio(shown: npt.NDArray[np.uint8], m: Floats, u: Floats) -> Floats:
    ratio = np.zeros(len(shown))
    for field, column in enumerate(shown.T):
        there = column != Level.MISSING
        ratio[there] += np.log(m[field, column[there]]) - np.log(u[field, column[there]])
    return ratio
