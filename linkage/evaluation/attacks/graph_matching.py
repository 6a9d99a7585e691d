"""
Graph matching: who is who, from similarities alone, without the study key.

    guess = match_graphs(observed(column), expected(study, clk, listed))
    score(guess, truth)

The similarities of the encodings are a weighted graph, those that an attacker expects from his
list another. Records that are the same person have like surroundings in both. First each record is
laid beside the list's people by the profile of its similarities (their quantiles, which no order
changes); then, round after round, every record is compared with every person over the pairs found
so far, and the surest pairs are kept.

Sources: Schaefer, Armknecht and Heng, "R+R: Revisiting Graph Matching Attacks on
Privacy-Preserving Record Linkage", ACSAC 2024; profiles: Ding, Ma, Wu and Xu, "Efficient random
graph matching via degree profiles", PTRF 2021; rounds: projected power iteration, Onaran and
Villar 2017.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from linkage.evaluation.attacks.outcome import Reidentified

Floats2D = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

ROUNDS = 30


def match_graphs(
    observed: Floats2D,
    expected: Floats2D,
    *,
    seeds: tuple[Ints, Ints] | None = None,
    rounds: int = ROUNDS,
) -> Ints:
    """
    Return each row's guessed column, int64[N]: the person in the list, -1 for none.

    observed: float32[N, N], similarities of the encodings; expected: float32[M, M], those of the
    list. 0 on the diagonals and where nothing is known. No column is guessed twice.
    seeds: rows and columns known to be the same people; they keep their places.
    """
    rows, columns = prepared(observed), prepared(expected)
    pairs = seeds if seeds is not None else _mutual_best(_profile_scores(rows, columns))[:2]
    fixed = seeds if seeds is not None else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    guess = np.full(len(rows), -1, np.int64)
    for _ in range(rounds):
        scores = rows[:, pairs[0]] @ columns[pairs[1]]
        scores[fixed[0]] = -np.inf
        scores[:, fixed[1]] = -np.inf
        left, right, _sure = _mutual_best(scores)
        guess = np.full(len(rows), -1, np.int64)
        guess[left] = right
        guess[fixed[0]] = fixed[1]
        found = np.flatnonzero(guess >= 0)
        if np.array_equal(found, np.sort(pairs[0])) and np.array_equal(guess[pairs[0]], pairs[1]):
            break
        pairs = (found, guess[found])
    return guess


def score(guess: Ints, truth: Ints | None = None, *, known: Ints | None = None) -> Reidentified:
    """
    Return how many guesses are right.

    truth: int64[N], each row's true column, -1 where the person is not in the list; None: its own
    number. known: rows known beforehand, which do not count.
    """
    truth = np.arange(len(guess)) if truth is None else truth
    searched = truth >= 0
    if known is not None:
        searched[known] = False
    right = int((guess[searched] == truth[searched]).sum())
    return Reidentified(int(searched.sum()), right, 0 if known is None else len(known))


def prepared(similarity: Floats2D) -> Floats2D:
    """Return similarities with rows and columns centred and rows scaled to length 1."""
    made = similarity.astype(np.float32)
    present = made.any(axis=1)
    others = max(int(present.sum()) - 1, 1)
    for axis in (1, 0):
        made -= (made.sum(axis=axis, keepdims=True) / others).astype(np.float32)
        np.fill_diagonal(made, 0)
        made[~present] = 0
        made[:, ~present] = 0
    return made


def _profile_scores(rows: Floats2D, columns: Floats2D, quantiles: int = 200) -> Floats2D:
    """Return likeness of sorted similarities, float32[N, M]: minus the squared distance."""
    at = (np.arange(quantiles) + 0.5) / quantiles
    one, other = (
        np.sort(side, axis=1)[:, (at * side.shape[1]).astype(np.int64)] for side in (rows, columns)
    )
    one, other = one / max(one.std(), 1e-9), other / max(other.std(), 1e-9)
    made: Floats2D = 2 * one @ other.T - (one**2).sum(1)[:, None] - (other**2).sum(1)[None]
    return made


def _mutual_best(scores: Floats2D) -> tuple[Ints, Ints, npt.NDArray[np.float32]]:
    """Return rows and columns that choose each other, and by how much; ties: least number."""
    best = scores.argmax(axis=1)
    back = scores.argmax(axis=0)
    rows = np.flatnonzero((back[best] == np.arange(len(best))))
    rows = rows[np.isfinite(scores[rows, best[rows]])]
    return rows, best[rows], scores[rows, best[rows]]
