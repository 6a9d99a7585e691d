"""
How much likelier a pair is among the candidates than among certain non-matches.

A candidate is a match or a chance pair, so at evidence x the candidates are denser than the
weighted non-matches by the factor 1 + exp(x beta): one part chance, exp(x beta) parts matches.
`fit` finds beta by penalised maximum likelihood of telling candidates from non-matches,

    sum over candidates of log(r / (1 + r)) - sum over non-matches of w log(1 + r),
    r = exp(s) (1 + exp(x beta)) for pairs without a key,  r = 1 + exp(x beta) for the others,

with normal priors on beta and s and bounds on the signs of beta, by L-BFGS-B. exp(s) is near 1: the
visible non-matches are a sample, and z is calibrated on one, so their weight is uncertain by some
per cent. The result is the weight of each pair's edge in the one-to-one model (propagation.py).
No match needs to be known for any of it.

Source of the idea: density-ratio estimation by probabilistic classification, Sugiyama, Suzuki and
Kanamori 2012, doi:10.1017/CBO9781139035613.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from linkage.errors import MatchingFailed
from linkage.matching.dice import Floats
from linkage.matching.evidence import Evidence

RIDGE = 0.15
INTERCEPT_RIDGE = 0.25
"""Weights of the priors: a spread of 1.8 for each coefficient, 1.4 for the intercept."""
SCALE_RIDGE = 50.0
"""Prior of s: 0 with a spread of 0.1."""
ITERATIONS = 2000


def fit(evidence: Evidence, free: float, start: Floats | None = None) -> Floats:
    """
    Return the coefficients: float64[F + 1], beta and then s.

    free: share of cross pairs whose records both have no match, in (0, 1]. A record that shares a
    key with its match cannot share it by chance as well, or the key would have been null: so
    attested collisions count for that share only. start: where to begin, from an earlier fit.

    Raises MatchingFailed if the optimiser finds no finite solution.
    """
    loss = _Loss(evidence, free)
    if not all(np.isfinite(a).all() for a in (evidence.x, evidence.null_x, loss.weight)):
        raise _no_weights(evidence)
    found = minimize(
        loss,
        loss.centre if start is None else start,
        jac=True,
        method="L-BFGS-B",
        bounds=[*zip(evidence.lower, evidence.upper, strict=True), (None, None)],
        options={"maxiter": ITERATIONS},
    )
    if not np.isfinite(found.fun) or not np.all(np.isfinite(found.x)):
        raise _no_weights(evidence)
    return np.asarray(found.x, dtype=np.float64)


def _no_weights(evidence: Evidence) -> MatchingFailed:
    return MatchingFailed(
        f"no weights could be fitted between {' and '.join(evidence.parties)}",
        hint="the candidates of this run are damaged; start the run again",
    )


def log_weights(evidence: Evidence, free: float, coefficients: Floats) -> Floats:
    """
    Return the log weight of each candidate's edge: float64[P].

    Chance pairs without a key are seen for all records, matched or not; an edge competes among the
    free ones only, where it weighs 1 / free as much.
    """
    eta = _times(evidence.x, coefficients[:-1])
    of_kind = eta - np.where(evidence.keyed, 0.0, np.log(free))
    return np.asarray(of_kind[evidence.kind], dtype=np.float64)


def _times(matrix: Floats, vector: Floats) -> Floats:
    """Return matrix @ vector, not by BLAS: there the order of a sum depends on its threads."""
    return np.asarray(np.einsum("ij,j->i", matrix, vector), dtype=np.float64)


class _Loss:
    """The penalised negative log likelihood and its gradient, for scipy's `minimize`."""

    def __init__(self, evidence: Evidence, free: float) -> None:
        self.evidence = evidence
        self.weight = evidence.null_weight * np.where(evidence.null_keyed, free, 1.0)
        features = evidence.x.shape[1]
        self.ridge = np.full(features + 1, RIDGE)
        self.ridge[0], self.ridge[-1] = INTERCEPT_RIDGE, SCALE_RIDGE
        self.centre = np.append(evidence.centre, 0.0)

    def __call__(self, coefficients: Floats) -> tuple[float, Floats]:
        e = self.evidence
        beta, scale = coefficients[:-1], coefficients[-1]
        eta, null_eta = _times(e.x, beta), _times(e.null_x, beta)
        odds = np.logaddexp(0.0, eta) + np.where(e.keyed, 0.0, scale)
        null_odds = np.logaddexp(0.0, null_eta) + np.where(e.null_keyed, 0.0, scale)
        away = coefficients - self.centre
        value = (
            np.sum(e.count * np.logaddexp(0.0, -odds))
            + np.sum(self.weight * np.logaddexp(0.0, null_odds))
            + np.sum(self.ridge * away**2)
        )
        pull, push = -e.count * expit(-odds), self.weight * expit(null_odds)
        slope = _times(e.x.T, pull * expit(eta)) + _times(e.null_x.T, push * expit(null_eta))
        slope_scale = np.sum(pull[~e.keyed]) + np.sum(push[~e.null_keyed])
        return float(value), np.append(slope, slope_scale) + 2 * self.ridge * away
