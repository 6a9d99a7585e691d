"""
All evidence of a record together: several CLKs, and the structure of its match keys.

    (seen,), guessed, present = party_similarity(study, party, crowd, [key])
    correlation(seen, guessed)

Each CLK of a record is diffused under taps of its own, so several average out the noise that
protects each alone. What one CLK shows, O_k, is what the attacker expects of it, E_k, and
noise; he weighs each CLK so that expectation stands out of noise as far as it can: the weights
are the first eigenvector of the Gram matrix of the E_k, each over its noise (the best linear
combination, as in Fisher's discriminant). He needs no key for that, only his list.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from linkage.encoding.keys import StudyKey
from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.attacks.similarity import Floats2D, centred, encoded, expected, observed
from linkage.study import Party, StudyConfig

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def party_similarity(
    study: StudyConfig, party: Party, crowd: Crowd, keys: Sequence[StudyKey], *, own_keys: int = 2
) -> tuple[list[Floats2D], Floats2D, Mask]:
    """
    Return what a party's CLKs of `crowd` show together under each of `keys`, float32[N, N]
    each; what an attacker expects of them from names alone, float32[N, N]; and bool[N], which
    records have any CLK.

    Similarities are row-centred sums over the CLKs, weighted as the attacker would. own_keys:
    how many keys of his own he spends. Needs about N * N * 4 bytes a key and CLK of memory.
    """
    guessed: list[Floats2D] = []
    seen: list[list[Floats2D]] = []
    anyone = np.zeros(len(crowd), bool)
    for clk in study.clks_of(party):
        columns = [encoded(study, clk, crowd, key) for key in keys]
        present = columns[0].present
        guessed.append(centred(expected(study, clk, crowd, keys=own_keys), present))
        seen.append([centred(observed(column), present) for column in columns])
        anyone |= present
    weights = best_weights(guessed, [1 / clk.length for clk in study.clks_of(party)])
    shown = [weighted([of[k] for of in seen], weights) for k in range(len(keys))]
    return shown, weighted(guessed, weights), anyone


def best_weights(guessed: Sequence[Floats2D], noise: Sequence[float]) -> Floats:
    """
    Return the weights, float64[K] of length 1, that make sum(w_k O_k) correlate most with
    sum(w_k E_k), where O_k = E_k + noise.

    guessed: E_k, row-centred. noise: variance of an entry of O_k; an unrelated pair's l bits
    give 1 / l. 0 for a CLK that says nothing.
    """
    scale = np.sqrt(np.asarray(noise, np.float64))
    gram = np.array([[float(np.vdot(one, other)) for other in guessed] for one in guessed])
    _, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    weights: Floats = np.abs(vectors[:, -1]) / scale
    return weights / np.linalg.norm(weights)


def weighted(matrices: Sequence[Floats2D], weights: Floats) -> Floats2D:
    """Return the weighted sum of K matrices, float32[N, N]."""
    made = np.zeros_like(matrices[0])
    for matrix, weight in zip(matrices, weights, strict=True):
        made += np.float32(weight) * matrix
    return made
