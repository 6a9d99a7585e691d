"""
The seeded attack: an attacker who knows some of the people searches for the others.

    seeded_attack(observed(column), expected(study, clk, crowd), known=200, seed=1)

Every other record is compared with every other person over the people known; guesses that are
sure enough become known people in turn, so that a landslide is found if there is one.
Sources: Narayanan and Shmatikov, "De-anonymizing social networks", S&P 2009; Kazemi, Hassani and
Grossglauser, "Growing a graph matching from a handful of seeds", VLDB 2015.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from linkage.evaluation.attacks.graph_matching import match_graphs, score
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
) -> Reidentified:
    """
    Return how many of the others an attacker names who knows `known` people, drawn by `seed`.

    observed: float32[N, N]; expected: float32[M, M]. truth: int64[N], the column of each row, -1
    where the person is not in the list; None: row i is column i.
    """
    draw = np.random.default_rng(seed)
    truth = np.arange(len(observed)) if truth is None else truth
    # The list is shuffled, so that no tie is broken towards the truth.
    order = draw.permutation(len(expected))
    place = np.full(len(expected) + 1, -1, np.int64)
    place[order] = np.arange(len(expected))
    hidden = place[truth]
    chosen = np.sort(draw.choice(np.flatnonzero(hidden >= 0), size=known, replace=False))
    guess = match_graphs(observed, expected[np.ix_(order, order)], seeds=(chosen, hidden[chosen]))
    return score(guess, hidden, known=chosen)
