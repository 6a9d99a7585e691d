"""
The seeded attack: an attacker who knows some of the people searches for the others.

    seeded_attack(observed(column), expected(study, clk, crowd), known=200, seed=1)

Every other record is compared with every other person over the people known; guesses count as
evidence as far as they are believed, so that a landslide is found if there is one. Near its edge
the landslide needs many rounds: an attack of one round, or one that waits for certainty, stops
early and flatters the encoding.

Sources: Narayanan and Shmatikov, "De-anonymizing social networks", S&P 2009; Kazemi, Hassani and
Grossglauser, "Growing a graph matching from a handful of seeds", VLDB 2015; the rounds are those
of linkage.evaluation.attacks.graph_matching.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.attacks.graph_matching import ROUNDS, match_graphs, score
from linkage.evaluation.attacks.outcome import Reidentified

Floats2D = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def seeded_attack(
    observed: Floats2D,
    expected: Floats2D,
    *,
    known: int,
    seed: int,
    truth: Ints | None = None,
    rounds: int = ROUNDS,
) -> Reidentified:
    """
    Return how many of the others an attacker names who knows `known` people, drawn by `seed`.

    observed: float32[N, N]; expected: float32[M, M]. truth: int64[N], the column of each row, -1
    where the person is not in the list; None: row i is column i. rounds: 1 lets no guess become
    evidence. Raises LinkageError where fewer than `known` people are in both.
    """
    draw = np.random.default_rng(seed)
    truth = np.arange(len(observed)) if truth is None else truth
    # The list is shuffled, so that no tie is broken towards the truth.
    order = draw.permutation(len(expected))
    place = np.full(len(expected) + 1, -1, np.int64)
    place[order] = np.arange(len(expected))
    hidden = place[truth]
    both = np.flatnonzero(hidden >= 0)
    if not 0 <= known <= len(both):
        raise LinkageError(
            f"{known} people to know beforehand, of {len(both)}", hint="let fewer be known"
        )
    chosen = np.sort(draw.choice(both, size=known, replace=False))
    guess = match_graphs(
        observed,
        expected[np.ix_(order, order)],
        seeds=(chosen, hidden[chosen]),
        rounds=rounds,
    )
    return score(guess, hidden, known=chosen)
