"""
One comparison, two parties: the fit of the weights and the competition of the pairs, in turn.

The fit (density_ratio.py) weighs the evidence, the propagation (propagation.py) lets candidates
compete and counts the expected matches, and their number says how many records are free to pair by
chance. The matches that no key and no CLK shows are counted too (missed.py): their records are not
free either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from linkage.matching import density_ratio
from linkage.matching.dice import Floats
from linkage.matching.evidence import Evidence
from linkage.matching.hyperedges import Hyperedges, Pairs
from linkage.matching.missed import Keyless, Rules, share_without_key
from linkage.matching.propagation import propagate

ROUNDS = 8
FREE_ROUNDS = 2
RUNAWAY = 1.03
"""A refit that raises the expected matches by more than this factor is not believed."""
SETTLED = 1e-4
MOST_MATCHED = 0.95
MISSED = 0.02
"""Share of true pairs that candidates miss, before anything is known of it."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fitted:
    """
    One comparison's fit. log_weight: float64[P] of each pair. expected: matches among the
    candidates. matches: those that are no candidates counted too, as far as the keys tell.
    """

    evidence: Evidence
    log_weight: Floats
    expected: float
    matches: float


def fit_pairs(evidence: Evidence, rules: Rules | None = None) -> Fitted:
    """
    Fit and propagate in turn until the expected number of matches settles.

    rules: fields of the match-key rules (missed.py). Without them, or where they cannot tell,
    matches that are no candidates are not counted.
    """
    beta: Floats | None = None
    best = Fitted(evidence, np.zeros(len(evidence.left)), 0.0, 0.0)
    if not len(evidence.left):
        return best
    for turn in range(ROUNDS):
        free = _free(best.matches, evidence.people)
        beta = density_ratio.fit(evidence, free, beta)
        log_weight = density_ratio.log_weights(evidence, free, beta)
        probability = propagate(as_edges(evidence, log_weight))
        expected = float(probability.sum())
        if turn >= FREE_ROUNDS and expected > RUNAWAY * best.expected:
            break
        settled = abs(expected - best.expected) <= SETTLED * expected
        keyless = without_key(evidence, probability, rules or {})
        matches = max(expected, all_matches(evidence, probability, keyless))
        best = Fitted(evidence, log_weight, expected, matches)
        if settled:
            break
    return best


def without_key(
    evidence: Evidence, probability: Floats, rules: Rules, *, folds: int = 0
) -> Keyless | None:
    """
    Return the share of matches on which no key agrees; None where the rules cannot tell.

    probability: float64[P] of each candidate. folds: see missed.share_without_key.
    """
    if not evidence.keys or not all(key in rules for key in evidence.keys):
        return None
    fields = [rules[key] for key in evidence.keys]
    return share_without_key(fields, evidence.agree, probability, evidence.left_out, folds=folds)


def all_matches(evidence: Evidence, probability: Floats, keyless: Keyless | None) -> float:
    """Return how many matches there are, if those with a key are all but a share `keyless`."""
    keyed = float(probability[evidence.agree > 0].sum())
    return keyed / (1 - keyless.share) if keyless else 0.0


def _free(matches: float, people: tuple[int, int]) -> float:
    """Return the share of cross pairs whose records both have no match."""
    one, other = (1 - min(MOST_MATCHED, matches / max(1, n)) for n in people)
    return one * other


def as_edges(evidence: Evidence, log_weight: Floats) -> Hyperedges:
    """Return the pairs of one comparison as sets of records."""
    return Hyperedges(
        np.stack([evidence.left, evidence.right], axis=1).astype(np.int64), log_weight
    )


def as_pairs(fitted: Fitted) -> Pairs:
    """Return the pairs of one comparison with their weights, to be propagated with others."""
    evidence = fitted.evidence
    one, other = evidence.people
    free = max(1.0, one * other * _free(fitted.matches, evidence.people))
    return Pairs(
        left=evidence.left.astype(np.int64),
        right=evidence.right.astype(np.int64),
        log_weight=fitted.log_weight,
        log_prior=float(np.log(max(fitted.expected, 0.5) / free)),
        missed=MISSED,
    )
