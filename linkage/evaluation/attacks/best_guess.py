"""
The best guess an attacker can make, record by record, who knows some of the people.

    view = seen_and_expected(observed(column), expected(study, clk, crowd), bits=2048)
    best_guesses([view], known=200, seed=1)

What is seen between two records is what is expected between the two persons, times a slope, and
noise: bits that are unlike agree by chance, so its variance is one over their number. The guess
that is right most often is then the person of the largest posterior probability: over the people
known, the likelihood of what is seen. A score without the energy term of the likelihood, or one
that waits for mutual choice, finds less than half (docs/threat-model.md). Guesses that are sure
enough become known people in turn, so that a landslide is found if there is one.

Several CLKs of a record have noise of their own each, so their log likelihoods add up.
Sources: maximum a posteriori decision, any text on detection, e.g. Kay 1998; seeds: Narayanan and
Shmatikov, "De-anonymizing social networks", S&P 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.attacks.outcome import Reidentified

Floats2D = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SURE = 0.9
"""Posterior probability from which a guess is taken for known; inclusive."""

_ROUNDS = 20
_SLOPE_ERROR = 0.05  # standard error up to which a slope is measured


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """
    One CLK of N records, in units of its noise: seen and guessed, float32[N, N], 0 diagonals.

    seen is guessed plus noise of variance 1. guessed squared is the energy of a pair: how much it
    says about who its records are. scale: guessed is as many times what was expected.
    """

    seen: Floats2D
    guessed: Floats2D
    scale: float

    def rows(self, rows: Ints | slice) -> View:
        """Return the view of these records only, in this order."""
        if isinstance(rows, slice):
            return View(self.seen[rows, rows], self.guessed[rows, rows], self.scale)
        square = np.ix_(rows, rows)
        return View(self.seen[square], self.guessed[square], self.scale)


def seen_and_expected(
    observed: Floats2D, expected: Floats2D, *, bits: float, present: Mask | None = None
) -> View:
    """
    Return similarities, float32[N, N] both, in units of the noise of `bits` bits.

    Rows and columns are centred over the records `present`, bool[N], and 0 elsewhere. The slope is
    near 1; what own keys lose of it, an attacker finds on the people he knows. Where noise hides
    it, he takes 1.
    """
    seen, guessed = centred_both(observed, present), centred_both(expected, present)
    power = _dot(guessed, guessed)
    # Pairs count twice in `power`, but have noise once.
    clear = power * bits / 2 > 1 / _SLOPE_ERROR**2
    slope = min(max(_dot(seen, guessed) / power, 0.0), 1.0) if clear else 1.0
    seen *= np.float32(bits**0.5)
    guessed *= np.float32(slope * bits**0.5)
    return View(seen, guessed, slope * bits**0.5)


def best_guesses(views: Sequence[View], *, known: int, seed: int) -> Reidentified:
    """
    Return how many of the others an attacker names who knows `known` people, drawn by `seed`.

    views: of the same N records, row i of each being person i. A person guessed for sure is
    guessed for nobody else; otherwise each record has its own best guess, so that several may
    share one. Raises LinkageError unless at least two people are not known.
    """
    n = len(views[0].seen)
    if known > n - 2:
        raise LinkageError("an attack needs people to search for", hint="let him know fewer")
    draw = np.random.default_rng(seed)
    # The list is shuffled: ties, where nothing tells people apart, must not favour the truth.
    order = draw.permutation(n)
    rows = np.sort(order[:known])
    rest = np.sort(order[known:])
    listed = draw.permutation(rest)
    columns = rows.copy()
    scores = np.zeros((len(rest), len(rest)), np.float32)
    guess = np.full(len(rest), -1, np.int64)
    for _ in range(_ROUNDS):
        for view in views:
            near = view.guessed[np.ix_(listed, columns)]
            scores += view.seen[np.ix_(rest, rows)] @ near.T
            scores -= 0.5 * np.einsum("ij,ij->i", near, near)[None]
        open_rows = np.flatnonzero(guess < 0)
        best, sure = _posterior(scores[open_rows])
        found, place = open_rows[sure], best[sure]
        # One person for two sure rows: neither is.
        lone = np.bincount(place, minlength=len(rest))[place] == 1
        found, place = found[lone], place[lone]
        if not len(found):
            break
        guess[found] = place
        scores[:, place] = -np.inf
        rows, columns = rest[found], listed[place]
        if not (guess < 0).any():
            break
    unsure = guess < 0
    if unsure.any():
        guess[unsure] = scores[unsure].argmax(axis=1)
    return Reidentified(len(rest), int((listed[guess] == rest).sum()), known)


def _posterior(scores: Floats2D) -> tuple[Ints, Mask]:
    """Return each row's best column, and whether its posterior probability reaches SURE."""
    best = scores.argmax(axis=1)
    top = scores[np.arange(len(scores)), best]
    weight = np.exp(scores - top[:, None]).sum(axis=1)
    return best, np.isfinite(top) & (weight <= 1 / SURE)


def centred_both(similarity: Floats2D, present: Mask | None = None) -> Floats2D:
    """Return a copy with rows, then columns centred over the others present; diagonal 0."""
    made = similarity.astype(np.float32)
    absent = np.zeros(len(made), bool) if present is None else ~present
    others = max(int((~absent).sum()) - 1, 1)
    for axis in (1, 0):
        made -= (made.sum(axis=axis, keepdims=True, dtype=np.float64) / others).astype(np.float32)
        np.fill_diagonal(made, 0)
        made[absent] = 0
        made[:, absent] = 0
    return made


def _dot(one: Floats2D, other: Floats2D) -> float:
    return float(np.einsum("ij,ij->i", one, other).astype(np.float64).sum())
