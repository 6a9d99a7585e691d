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
fields, and would be counted twice. It has chosen the pair and given N. But where all fields of a
match-key rule are equal and all others differ, fields tell nothing in favour that the key had not
told, and the first model knows from the sites how many people share such a key: no look makes
these pairs surer (`_told_by_key`). They are often two of one household.

Values that are DIFFERENT and yet FAINT have shares of their own: nicknames look so.

Sources: Fellegi and Sunter 1969, doi:10.1080/01621459.1969.10501049 (m, u); Winkler 1988 (EM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from linkage.matching.dataset import Shape
from linkage.matching.dice import Floats
from linkage.matching.looked_at import LookedAt, LookWeights
from linkage.matching.missed import Rules
from linkage.matching.second_look import Level, LookLevels, LookPairs, Looks

DIFFERENT, FAINT, ALIKE, CLOSE, EQUAL = range(1, 6)
"""What two values show; 0 where one is missing. Numbers of the columns of all shares, from 1."""
GRADES = 5
PRIOR_PAIRS = 10.0
RELATIVES = 0.3
"""Relatives whom a record has in the other dataset, for each match: a first guess."""
MOST_MATCHED = 0.95
ROUNDS = 100
SETTLED = 1e-6

# Shares where both records have the field: of matches at each grade, of strangers and relatives at
# DIFFERENT (FAINT among it), ALIKE, CLOSE and EQUAL.
_MATCH = (0.03, 0.02, 0.03, 0.04, 0.88)
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
# Of those that are DIFFERENT the share that is FAINT: strangers, and relatives.
_FAINT: Mapping[str, tuple[float, float]] = {
    "first_name": (0.05, 0.065),
    "middle_name": (0.003, 0.003),
    "last_name": (0.08, 0.08),
    "date_of_birth": (0.09, 0.16),
    "sex": (1e-6, 1e-6),
    "ssn": (0.15, 0.05),
    "zip": (0.09, 0.09),
    "phone": (0.75, 0.75),
    "email": (0.085, 0.5),
    "street": (0.065, 0.1),
}
_INITIAL = ("middle_name", "initial")
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
    expects. rules: fields of the match-key rules, as the study file names them.
    """
    of = {s.party: s for s in shapes}
    known, found = rules or {}, {}
    for pairs, level in zip(looks.comparisons, levels, strict=True):
        one, other = (of[party] for party in pairs.parties)
        shared = [key for key in one.keys if key in other.keys and key in known]
        found[pairs.parties] = _weighed(
            pairs,
            level,
            (one.people, other.people),
            expected[pairs.parties],
            [known[key] for key in shared],
        )
    return LookWeights(found)


def _weighed(
    pairs: LookPairs,
    level: LookLevels,
    people: tuple[int, int],
    expected: float,
    rules: Sequence[Sequence[str]],
) -> LookedAt:
    asked = level.answered
    shown, weight = _grades(level)[asked], pairs.stands_for[asked]
    matches = max(expected, 0.5)
    strangers = 1.0
    for count in people:
        strangers *= max(1.0, count * (1 - min(MOST_MATCHED, matches / max(1, count))))
    u = _log_likelihood(shown, _chance(pairs.fields, level.chance))
    m_prior = np.array([_MATCH for _ in pairs.fields]).reshape(-1, GRADES)
    r_prior = _finer([np.array(_RELATIVE[f]) for f in pairs.fields], pairs.fields, kind=1)
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
    told = _told_by_key(pairs.fields, shown, rules)
    return LookedAt(pairs.left[asked], pairs.right[asked], for_match - against, no_more=told)


def _told_by_key(
    fields: Sequence[str], shown: npt.NDArray[np.uint8], rules: Sequence[Sequence[str]]
) -> npt.NDArray[np.bool_]:
    """
    Return which pairs agree on all that a rule takes, and differ in everything else: bool[P].

    Of parts of fields only the initial of a middle name shows in a look.
    """
    told = np.zeros(len(shown), np.bool_)
    for rule in rules:
        taken = {field: part for field, _, part in (name.partition(":") for name in rule)}
        if not all(f in fields and (not p or (f, p) == _INITIAL) for f, p in taken.items()):
            continue
        here = np.ones(len(shown), np.bool_)
        for field, column in zip(fields, shown.T, strict=True):
            if field in taken:
                here &= column >= (ALIKE if taken[field] else EQUAL)
            else:
                here &= column == DIFFERENT
        told |= here
    return told


def _grades(level: LookLevels) -> npt.NDArray[np.uint8]:
    """Return what every asked pair shows, DIFFERENT cut in two: uint8[P, fields]."""
    finer = level.levels + (level.levels >= Level.ALIKE) + level.faint
    return np.asarray(finer, dtype=np.uint8)


def _finer(rows: Sequence[Floats], fields: Sequence[str], *, kind: int) -> Floats:
    """Return shares with DIFFERENT cut in two, each row summing to 1. kind: column of _FAINT."""
    shares = np.array(rows, dtype=np.float64).reshape(len(fields), GRADES - 1)
    faint = np.array([_FAINT[f][kind] for f in fields])
    differ = shares[:, :1] * np.stack([1 - faint, faint], axis=1)
    made = np.maximum(np.concatenate([differ, shares[:, 1:]], axis=1), LEAST_CHANCE)
    return np.asarray(made / made.sum(axis=1, keepdims=True), dtype=np.float64)


def _chance(fields: Sequence[str], said: Mapping[str, Floats]) -> Floats:
    """Return u: what the sites said of a field, else CHANCE."""
    return _finer([said.get(f, np.array(CHANCE[f])) for f in fields], fields, kind=0)


def _shares(shown: npt.NDArray[np.uint8], weight: Floats, prior: Floats) -> Floats:
    """Return the shares of the levels, MISSING left out, on top of PRIOR_PAIRS of the prior."""
    counts = PRIOR_PAIRS * prior
    for field, column in enumerate(shown.T):
        counts[field] += np.bincount(column, weight, GRADES + 1)[DIFFERENT:]
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _log_likelihood(shown: npt.NDArray[np.uint8], shares: Floats) -> Floats:
    """Return the log likelihood of each pair's levels; a missing field says nothing."""
    total = np.zeros(len(shown))
    for field, column in enumerate(shown.T):
        total += np.concatenate([[0.0], np.log(shares[field])])[column]
    return total
