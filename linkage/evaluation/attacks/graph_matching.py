"""
Graph matching: who is who, from similarities alone, without the study key.

    guess = match_graphs(observed(column), expected(study, clk, listed))
    score(guess, truth)

The similarities of the encodings are a weighted graph, those that an attacker expects from his
list another. The two are laid upon each other roughly (attacks/alignment.py). Then, round after
round, each record is compared with each person over the pairs found so far, and surer pairs take
the place of the less sure ones: expectation maximisation, where a pair weighs as much as it is
believed.

Sources: Schaefer, Armknecht and Heng, "R+R: Revisiting Graph Matching Attacks on
Privacy-Preserving Record Linkage", ACSAC 2024; rounds: projected power iteration, Onaran and
Villar, 2017; likelihood: a similarity is what was expected and normal noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.evaluation.attacks.alignment import aligned, kernel
from linkage.evaluation.attacks.outcome import Reidentified

Floats1D = npt.NDArray[np.float32]
Floats2D = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ROUNDS = 40
_DOUBT = 0.2
"""Belief above which a guess becomes evidence for others, in that proportion."""
_GROWTH, _PATIENCE = 1.005, 4
"""Rounds end when the summed belief has not grown by that factor for so many."""
_SAMPLE = 1000
"""Pairs from which slope and noise are estimated."""
_EVIDENCE = 2000
"""Most pairs that others are compared over: the surest."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """K rows and columns held for the same people: int64[K] each; belief: float32[K] in [0, 1]."""

    rows: Ints
    columns: Ints
    belief: Floats1D

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, at: Ints | Mask) -> Pairs:
        """Return the pairs at these places."""
        return Pairs(self.rows[at], self.columns[at], self.belief[at])


@dataclass(frozen=True, slots=True, eq=False)
class Free:
    """Rows and columns that say something and that are not settled yet: bool[N], bool[M]."""

    rows: Mask
    columns: Mask

    @classmethod
    def of(cls, rows: Floats2D, columns: Floats2D) -> Free:
        """Return all of which anything is known."""
        return cls(np.asarray(rows.any(axis=1)), np.asarray(columns.any(axis=1)))

    def any(self) -> bool:
        """Tell whether both sides have one left."""
        return bool(self.rows.any() and self.columns.any())


def match_graphs(
    observed: Floats2D,
    expected: Floats2D,
    *,
    seeds: tuple[Ints, Ints] | None = None,
    rounds: int = ROUNDS,
    seed: int = 1,
) -> Ints:
    """
    Return each row's guessed column, int64[N]: the person in the list, -1 for none.

    observed: float32[N, N], similarities of the encodings; expected: float32[M, M], those of the
    list. 0 on the diagonals and where nothing is known. Several rows may get one column where
    all are doubtful: so the most guesses are right.
    seeds: rows and columns known to be the same people, who keep their places. seed: for the
    random draws of the alignment. Stops before `rounds` once nothing changes.
    """
    rows, columns = kernel(observed), kernel(expected)
    free = Free.of(rows, columns)
    known = _known(seeds)
    pairs = known
    if seeds is None and free.any():
        pairs = _known(aligned(rows, columns, seed=seed))
    np.fill_diagonal(rows, 0)
    np.fill_diagonal(columns, 0)
    free.rows[known.rows] = False
    free.columns[known.columns] = False
    guess = np.full(len(rows), -1, np.int64)
    guess[known.rows] = known.columns
    if not len(pairs) or not free.any():
        return guess
    at, on = np.flatnonzero(free.rows), np.flatnonzero(free.columns)
    most, waited = 0.0, 0
    for turn in range(max(rounds, 1)):
        shares = one_to_one(likelihoods(rows, columns, pairs)[at][:, on])
        left, right = np.nonzero(shares > _DOUBT)
        belief = shares[left, right]
        now = float(belief.sum())
        # A landslide may begin slowly: a single round without growth is no end.
        waited = 0 if now > most * _GROWTH else waited + 1
        most = max(most, now)
        if turn == rounds - 1 or waited >= _PATIENCE:
            break
        pairs = _joined(known, Pairs(at[left], on[right], belief))
    guess[at] = on[shares.argmax(axis=1)]
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


def likelihoods(rows: Floats2D, columns: Floats2D, pairs: Pairs) -> Floats2D:
    """
    Return how much likelier each row is to be each column than to be nobody listed, float32[N, M].

    In nats: rows are `slope` times columns plus normal noise, both estimated from the pairs. A
    pair says nothing of its own row and column.
    """
    slope, noise = _fit(rows, columns, pairs)
    basis = columns[pairs.columns] * (pairs.belief * np.float32(slope / noise))[:, None]
    made: Floats2D = rows[:, pairs.rows] @ basis
    weight = pairs.belief * np.float32(slope**2 / noise / 2)
    squares = columns[pairs.columns]
    squares *= squares
    squares *= weight[:, None]
    made -= squares.sum(axis=0)[None, :]
    made[pairs.rows] += squares
    return made


def one_to_one(scores: Floats2D, turns: int = 3) -> Floats2D:
    """
    Return how far to believe that each row is each column, float32[N, M]; rows sum to 1.

    scores: log likelihoods, changed in place. Rows and columns are scaled in turn, so that a
    column that one row is sure of is none for others. Sinkhorn and Knopp 1967.
    """
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    for _ in range(turns):
        scores /= np.maximum(scores.sum(axis=0, keepdims=True), 1e-20)
        scores /= np.maximum(scores.sum(axis=1, keepdims=True), 1e-20)
    return scores


def _fit(rows: Floats2D, columns: Floats2D, pairs: Pairs) -> tuple[float, float]:
    """Return slope in [.05, 1] and variance of the noise, from the surest pairs' similarities."""
    most = pairs.take(np.argsort(-pairs.belief, kind="stable")[:_SAMPLE])
    one = rows[np.ix_(most.rows, most.rows)].astype(np.float64)
    other = columns[np.ix_(most.columns, most.columns)].astype(np.float64)
    energy = float((other * other).sum())
    slope = float(np.clip((one * other).sum() / energy, 0.05, 1)) if energy else 1.0
    entries = max(len(most) * (len(most) - 1), 1)
    return slope, max(float(((one - slope * other) ** 2).sum()) / entries, 1e-6)


def _joined(known: Pairs, sure: Pairs) -> Pairs:
    """Return what is known and the surest of what is believed."""
    sure = sure.take(np.argsort(-sure.belief, kind="stable")[:_EVIDENCE])
    return Pairs(
        np.concatenate([known.rows, sure.rows]),
        np.concatenate([known.columns, sure.columns]),
        np.concatenate([known.belief, sure.belief]),
    )


def _known(pairs: tuple[Ints, Ints] | None) -> Pairs:
    rows, columns = pairs if pairs is not None else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Pairs(rows, columns, np.ones(len(rows), np.float32))
