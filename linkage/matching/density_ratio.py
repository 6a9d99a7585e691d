"""
How much likelier a pair is among the candidates than among certain non-matches.

A candidate is a match or a chance pair, so at evidence x the candidates are denser than the
weighted non-matches by the factor 1 + exp(x beta): one part chance, exp(x beta) parts matches.
`fit` finds beta by penalised maximum likelihood of telling candidates from non-matches,

    sum over candidates of log(r / (1 + r)) - sum over non-matches of w log(1 + r),
    r = 1 + exp(x beta),

with a ridge on beta and bounds on its signs, by L-BFGS-B. exp(x beta) is then the weight of the
pair's edge in the one-to-one model (propagation.py). No match needs to be known for any of it.

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
INTERCEPT = -5.0
INTERCEPT_RIDGE = 0.25
"""
Prior of the log weight of a pair at the floor, without a key: -5 with a spread of 1.4. There the
non-matches expect 0.4 partners for each record of the smaller party (evidence.py), and hardly one
true pair in a hundred lies that low. Without it, counting noise among a thousand chance pairs reads
as matches where there are none.
"""
ITERATIONS = 2000


def fit(evidence: Evidence, chance: float, start: Floats | None = None) -> Floats:
    """
    Return beta: float64[F].

    chance: factor on the weight of the non-matches, in (0, 1], for records that have a match
    cannot take part in a chance pair. start: where to begin, from an earlier fit.

    Raises MatchingFailed if the optimiser finds no finite solution.
    """
    features = evidence.x.shape[1]
    ridge = np.full(features, RIDGE)
    ridge[0] = INTERCEPT_RIDGE
    centre = np.zeros(features)
    centre[0] = INTERCEPT
    x, null_x = evidence.x, evidence.null_x
    weight = evidence.null_weight * chance
    first = centre if start is None else start

    def loss(beta: Floats) -> tuple[float, Floats]:
        eta, null_eta = x @ beta, null_x @ beta
        value = (
            -np.sum(np.logaddexp(0.0, eta) - np.logaddexp(np.log(2.0), eta))
            + np.sum(weight * np.logaddexp(np.log(2.0), null_eta))
            + np.sum(ridge * (beta - centre) ** 2)
        )
        slope = expit(eta) - expit(eta - np.log(2.0))
        null_slope = weight * expit(null_eta - np.log(2.0))
        gradient = -x.T @ slope + null_x.T @ null_slope + 2 * ridge * (beta - centre)
        return float(value), gradient

    found = minimize(
        loss,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(evidence.lower, evidence.upper, strict=True)),
        options={"maxiter": ITERATIONS},
    )
    if not np.isfinite(found.fun) or not np.all(np.isfinite(found.x)):
        raise MatchingFailed(
            f"no weights could be fitted between {' and '.join(evidence.parties)}",
            hint="look at the histogram of the candidates; the datasets may be empty or damaged",
        )
    return np.asarray(found.x, dtype=np.float64)
