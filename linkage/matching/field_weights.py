"""
What a second look is worth: levels of agreement to log weights, without truth.

The records of an asked pair are one person, two relatives, or two strangers. Each kind shows the
levels of a field with shares of its own (m, r, u), field by field independently, so

    log weight = log(N m) - log(S u + R r)

with N, R, S the matches, relatives and strangers to expect among all pairs whose records are free.
Relatives are a kind of their own because a common surname, street and, for twins, birth date are
then one coincidence, not three.

u is CHANCE, unless both sites say it of random pairs of their own records (Answers.chance). m and r
are learned from the pairs asked, each standing for as many as there were of its kind, by
expectation maximisation from the first model's N and from the priors below, which count as much as
PRIOR_PAIRS pairs (m) and R pairs (r) and carry small studies.

R is a first guess and is not learned: relatives become candidates only where a key agrees, so
hardly any of them are asked about. What is known instead is how many pairs of different people
share a key: the sites attest it. Where all fields of a rule agree, S u + R r is multiplied by the
attested collisions over those that it foretells (`_collided`).

Of middle names, the levels of strangers and relatives who agree on the first letter are learned,
not how many agree: two initials are EQUAL, an initial and a name ALIKE, two names any of them.

What the first model knew of the pair is not added: its z and its keys are functions of the same
fields, and would be counted twice. It has chosen the pair and given N.

Sources: Fellegi and Sunter 1969, doi:10.1080/01621459.1969.10501049 (m, u); Winkler 1988 (EM).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from linkage.matching.dataset import Shape
from linkage.matching.dice import Floats
from linkage.matching.evidence import attested_count
from linkage.matching.looked_at import LookedAt, LookWeights
from linkage.matching.missed import Rules
from linkage.matching.second_look import Level, LookLevels, LookPairs, Looks

LEVELS = len(Level)
PRIOR_PAIRS = 10.0
RELATIVES = 0.3
"""Relatives whom a record has in the other dataset, for each match: a first guess."""
PRIOR_COLLISIONS = 2.0
"""Collisions of a rule that the first guess of them is worth."""
PRIOR_WRITTEN = 3.0
"""Pairs that the first guess of the levels of middle names that agree is worth."""
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
    rules: Rules | None = None,
) -> LookWeights:
    """
    Return the log weight of every pair that both sites answered.

    levels: as `compare` gave them. expected: by comparison, the matches that the first model
    expects. rules: fields of the match-key rules; of others, attested collisions are not used.
    """
    of = {s.party: s for s in shapes}
    found = {}
    for pairs, level in zip(looks.comparisons, levels, strict=True):
        sides = of[pairs.parties[0]], of[pairs.parties[1]]
        found[pairs.parties] = _weighed(pairs, level, sides, expected[pairs.parties], rules or {})
    return LookWeights(found)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Others:
    """
    Pairs that are no match, among those whose records are free.

    strangers, relatives: how many. u, r: float64[fields, 4], their shares of the levels. free:
    share of all cross pairs whose records are both free.
    """

    strangers: float
    relatives: float
    free: float
    u: Floats
    r: Floats

    def log_count(self, shown: npt.NDArray[np.uint8]) -> Floats:
        """Return the logarithm of how many show the levels of each row: float64[P]."""
        by_chance = np.log(self.strangers) + _log_likelihood(shown, self.u)
        by_kin = np.log(self.relatives) + _log_likelihood(shown, self.r)
        return np.asarray(np.logaddexp(by_chance, by_kin), dtype=np.float64)

    def as_written(self, field: int, column: npt.NDArray[np.uint8], weight: Floats) -> _Others:
        """Return the same with the levels of a middle name that agrees as `column` has them."""
        seen = np.bincount(column, weight, LEVELS)[Level.ALIKE :]
        learned = self.u.copy(), self.r.copy()
        for shares in learned:
            agree = shares[field, Level.ALIKE - 1 :]
            counts = seen + PRIOR_WRITTEN * agree / agree.sum()
            shares[field, Level.ALIKE - 1 :] = agree.sum() * counts / counts.sum()
        return replace(self, u=learned[0], r=learned[1])


def _weighed(
    pairs: LookPairs,
    level: LookLevels,
    sides: tuple[Shape, Shape],
    expected: float,
    rules: Rules,
) -> LookedAt:
    asked = level.answered
    shown, weight = level.levels[asked], pairs.stands_for[asked]
    matches = max(expected, 0.5)
    guess = others = _others(pairs.fields, level, sides, matches)
    prior = np.array([_MATCH for _ in pairs.fields]).reshape(-1, LEVELS - 1)
    m, log_weight = prior, np.zeros(len(shown))
    for _ in range(ROUNDS):
        before = log_weight
        against = others.log_count(shown)
        log_weight = np.log(matches) + _log_likelihood(shown, m) - against
        log_weight -= _collided(pairs.fields, shown, sides, others, rules)
        is_match = expit(log_weight)
        m = _shares(shown, weight * is_match, prior, PRIOR_PAIRS)
        kin = np.log(others.relatives) + _log_likelihood(shown, others.r) - against
        r = _shares(shown, weight * (1 - is_match) * np.exp(kin), guess.r, guess.relatives)
        others = replace(others, r=r)
        if "middle_name" in pairs.fields:
            at = pairs.fields.index("middle_name")
            others = replace(guess, r=r).as_written(at, shown[:, at], weight * (1 - is_match))
        if np.abs(log_weight - before).max(initial=0.0) < SETTLED:
            break
    return LookedAt(pairs.left[asked], pairs.right[asked], log_weight)


def _others(
    fields: Sequence[str], level: LookLevels, sides: tuple[Shape, Shape], matches: float
) -> _Others:
    one, other = sides
    free = math.prod(1 - min(MOST_MATCHED, matches / max(1, s.people)) for s in sides)
    return _Others(
        strangers=max(1.0, one.people * other.people * free),
        relatives=RELATIVES * matches,
        free=free,
        u=_chance(fields, level.chance),
        r=np.array([_RELATIVE[f] for f in fields], dtype=np.float64).reshape(-1, LEVELS - 1),
    )


def _collided(
    fields: Sequence[str],
    shown: npt.NDArray[np.uint8],
    sides: tuple[Shape, Shape],
    others: _Others,
    rules: Rules,
) -> Floats:
    """
    Return the log of what S u + R r is multiplied by, of each pair; 0 where it agrees on no rule.

    A rule agrees where its fields are EQUAL, those of which it takes a part ALIKE at least. Of
    several rules the one counts that speaks most against the pair.
    """
    found = np.full(len(shown), -np.inf)
    for rule in (key for key in sides[0].keys if key in sides[1].keys and key in rules):
        parts = [name.partition(":") for name in rules[rule]]
        if not all(field in fields for field, _, _ in parts):
            continue
        agrees, by_chance, by_kin = np.ones(len(shown), np.bool_), 1.0, 1.0
        for field, _, part in parts:
            at, least = fields.index(field), Level.ALIKE if part else Level.EQUAL
            agrees &= shown[:, at] >= least
            by_chance *= float(others.u[at, least - 1 :].sum())
            by_kin *= float(others.r[at, least - 1 :].sum())
        pairs = (others.strangers * by_chance + others.relatives * by_kin) / others.free
        # Cross pairs, to pairs within each side: n (n - 1) / 2 for nA nB.
        whole = sides[0].people * sides[1].people
        within = sum(pairs * s.people * (s.people - 1) / 2 / max(1, whole) for s in sides)
        attested = sum(attested_count(s, rule) for s in sides)
        ratio = math.log((attested + PRIOR_COLLISIONS) / (within + PRIOR_COLLISIONS))
        found[agrees] = np.maximum(found[agrees], ratio)
    return np.where(np.isfinite(found), found, 0.0)


def _chance(fields: Sequence[str], said: Mapping[str, Floats]) -> Floats:
    """Return u: what the sites said of a field, else CHANCE."""
    rows = [np.maximum(said.get(f, np.array(CHANCE[f])), LEAST_CHANCE) for f in fields]
    shares = np.array(rows, dtype=np.float64).reshape(len(fields), LEVELS - 1)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float64)


def _shares(shown: npt.NDArray[np.uint8], weight: Floats, prior: Floats, pairs: float) -> Floats:
    """Return the shares of the levels, MISSING left out, on top of so many pairs of the prior."""
    counts = pairs * prior
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
