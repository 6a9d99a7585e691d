"""
What a second look is worth: levels of agreement to log weights, without truth.

The records of an asked pair are one person, two relatives, or two strangers. Each kind shows the
levels of a field with shares of its own (m, r, u), field by field independently, so

    log weight = log(N m) - log(S u + R r)

with N, R, S the matches, relatives and strangers to expect among all pairs whose records are free.
Relatives are a kind of their own because a common surname, street and, for twins, birth date are
then one coincidence, not three.

u is CHANCE, unless both sites say it of random pairs of their own records (Answers.chance). m, r
and R are learned from the pairs asked, each standing for as many as there were of its kind, by
expectation maximisation from the first model's N and from the priors below, which count as much as
PRIOR_PAIRS pairs and carry small studies.

What the first model knew of the pair is not added: its z and its keys are functions of the same
fields, and would be counted twice. It has chosen the pair and given N.

Sources: Fellegi and Sunter 1969, doi:10.1080/01621459.1969.10501049 (m, u); Winkler 1988 (EM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from linkage.matching.dataset import Shape
from linkage.matching.dice import Floats
from linkage.matching.looked_at import LookedAt, LookWeights
from linkage.matching.second_look import Level, LookLevels, LookPairs, Looks

LEVELS = len(Level)
PRIOR_PAIRS = 10.0
RELATIVES = 0.3
"""Relatives whom a record has in the other dataset, for each match: a first guess."""
MOST_MATCHED = 0.95
ROUNDS = 100
SETTLED = 1e-6

# Shares of DIFFERENT, ALIKE, CLOSE and EQUAL where both records have the field.
_MATCH = (0.05, 0.03, 0.04, 0.88)
CHANCE: Mapping[str, tuple[float, float, float, float]] = {
    "first_name": (0.988, 0.006, 0.001, 0.005),
    "middle_name": (0.89, 0.05, 0.03, 0.03),
    "last_name": (0.993, 0.005, 0.001, 0.001),
    "date_of_birth": (0.93, 0.065, 0.005, 0.00005),
    "sex": (0.5, 1e-6, 1e-6, 0.5),
    "ssn": (0.998, 0.002, 0.0001, 1e-6),
    "zip": (0.97, 0.02, 0.01, 0.001),
    "phone": (0.997, 0.002, 0.0005, 1e-5),
    "email": (0.989, 0.008, 0.002, 1e-5),
    "street": (0.997, 0.002, 0.0005, 0.0002),
}
"""
How random pairs of a large population agree: rounded from random pairs of simulated people of the
USA, those of three_commons among them, so figures on that set are not blind to it.
"""
_RELATIVE: Mapping[str, tuple[float, float, float, float]] = {
    "first_name": (0.95, 0.02, 0.01, 0.02),
    "middle_name": (0.86, 0.06, 0.04, 0.04),
    "last_name": (0.15, 0.03, 0.02, 0.80),
    "date_of_birth": (0.87, 0.08, 0.02, 0.03),
    "sex": (0.5, 1e-6, 1e-6, 0.5),
    "ssn": (0.98, 0.015, 0.003, 0.002),
    "zip": (0.15, 0.03, 0.02, 0.80),
    "phone": (0.55, 0.03, 0.02, 0.40),
    "email": (0.85, 0.06, 0.04, 0.05),
    "street": (0.20, 0.03, 0.07, 0.70),
}
LEAST_CHANCE = 1e-7
"""No site can make a level rarer than this, whatever it says."""


def weigh_looks(
    looks: Looks,
    levels: Sequence[LookLevels],
    shapes: Sequence[Shape],
    expected: Mapping[tuple[str, str], float],
) -> LookWeights:
    """
    Return the log weight of every pair that both sites answered.

    levels: as `compare` gave them. expected: by comparison, the matches that the first model
    expects.
    """
    people = {s.party: s.people for s in shapes}
    found = {}
    for pairs, level in zip(looks.comparisons, levels, strict=True):
        sizes = (people[pairs.parties[0]], people[pairs.parties[1]])
        found[pairs.parties] = _weighed(pairs, level, sizes, expected[pairs.parties])
    return LookWeights(found)


def _weighed(
    pairs: LookPairs, level: LookLevels, people: tuple[int, int], expected: float
) -> LookedAt:
    asked = level.answered
    shown, weight = level.levels[asked], pairs.stands_for[asked]
    matches = max(expected, 0.5)
    strangers = 1.0
    for count in people:
        strangers *= max(1.0, count * (1 - min(MOST_MATCHED, matches / max(1, count))))
    u = _log_likelihood(shown, _chance(pairs.fields, level.chance))
    m_prior = np.array([_MATCH for _ in pairs.fields]).reshape(-1, LEVELS - 1)
    r_prior = np.array([_RELATIVE[f] for f in pairs.fields]).reshape(-1, LEVELS - 1)
    relatives, m_shares, r_shares = RELATIVES * matches, m_prior, r_prior
    for_match = against = np.zeros(len(shown))
    for _ in range(ROUNDS):
        before = for_match - against
        for_match = np.log(matches) + _log_likelihood(shown, m_shares)
        kin = np.log(relatives) + _log_likelihood(shown, r_shares)
        against = np.logaddexp(np.log(strangers) + u, kin)
        whole = np.logaddexp(for_match, against)
        is_match, is_kin = np.exp(for_match - whole), np.exp(kin - whole)
        m_shares = _shares(shown, weight * is_match, m_prior)
        r_shares = _shares(shown, weight * is_kin, r_prior)
        seen = float((weight * is_kin).sum())
        relatives = (seen + PRIOR_PAIRS * RELATIVES) / (matches + PRIOR_PAIRS) * matches
        if np.abs(for_match - against - before).max(initial=0.0) < SETTLED:
            break
    return LookedAt(pairs.left[asked], pairs.right[asked], for_match - against)


def _chance(fields: Sequence[str], said: Mapping[str, Floats]) -> Floats:
    """Return u: what the sites said of a field, else CHANCE."""
    rows = [np.maximum(said.get(f, np.array(CHANCE[f])), LEAST_CHANCE) for f in fields]
    shares = np.array(rows, dtype=np.float64).reshape(len(fields), LEVELS - 1)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float64)


def _shares(shown: npt.NDArray[np.uint8], weight: Floats, prior: Floats) -> Floats:
    """Return the shares of the levels, MISSING left out, on top of PRIOR_PAIRS of the prior."""
    counts = PRIOR_PAIRS * prior
    for field, column in enumerate(shown.T):
        counts[field] += np.bincount(column, weight, LEVELS)[Level.DIFFERENT :]
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _log_likelihood(shown: npt.NDArray[np.uint8], shares: Floats) -> Floats:
    """Return the log likelihood of each pair's levels; a missing field says nothing."""
    total = np.zeros(len(shown))
    for field, column in enumerate(shown.T):
        total += np.concatenate([[0.0], np.log(shares[field])])[column]
    return total
