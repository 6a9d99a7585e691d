"""
Known plaintext below similarities: from people whose record is known, learn more than likeness.

    learned_attack(encoded(study, clk, crowd, key), listed_tokens(clk, crowd), known=200, seed=1)
    relations_attack(study, clk, crowd, key, known=100, targets=60, seed=1)

Bit by bit: each output bit is learnt on its own, from which n-grams the known people have. A plain
CLK gives way at once, for an n-gram sets its bits whoever has it. Diffused, a bit is the parity of
t others, and one n-gram moves its mean by no more than (1 - 2 p)^(t - 1), p the density.

Relations of four: diffusion is linear, so A ^ B ^ C ^ D of four records agrees on
(1 + (1 - 2 w)^t) / 2 of all output bits, w the share of bits set in the XOR of the plain CLKs. A
single triple of known people tells less of a fourth than his nearest relative does, but there are
known^3 / 6 of them: their evidence grows with the cube of the people known, that of likeness only
with their number. Deeper diffusion weakens both, this one sooner. Attacks that look at similarities
alone therefore flatter an encoding of which many people are known (docs/threat-model.md).

Sources: linear relations and bias: piling-up lemma, Matsui, EUROCRYPT 1993; diffusion: Armknecht,
Heng and Schnell, PoPETs 2023; learning: Christen, Ranbaduge, Vatsalan and Schnell, "Precise and
fast cryptanalysis for Bloom filter based privacy-preserving record linkage", TKDE 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.attacks.similarity import Floats2D, encoded, signs, undiffused
from linkage.records import FixedColumn
from linkage.study import ClkSpec, StudyConfig

Mask2D = npt.NDArray[np.bool_]

_RIDGE = 1.0


def learned_attack(column: FixedColumn, tokens: Mask2D, *, known: int, seed: int) -> Reidentified:
    """
    Return how many of the others are named who learns from `known` records, drawn by `seed`.

    column: CLKs of N records; tokens: bool[N, G], as `listed_tokens` makes them, row i being
    record i's person. Each bit's log odds are a sum over n-grams, fitted with a ridge (the dual of
    kernel regression, so cost grows with `known`, not with G). Raises LinkageError where fewer
    than known + 2 records have a CLK.
    """
    draw = np.random.default_rng(seed)
    usable = draw.permutation(np.flatnonzero(column.present))
    if not 1 <= known <= len(usable) - 2:
        raise LinkageError("an attack needs people to learn from, and others to search for")
    learn, rest = np.sort(usable[:known]), np.sort(usable[known:])
    listed = draw.permutation(rest)
    bits = np.unpackbits(column.values, axis=1).astype(np.float32)
    shown = bits[learn]
    mean = shown.mean(axis=0)
    held = tokens.astype(np.float32)
    held = held - held[learn].mean(axis=0)
    inner = held[learn] @ held[learn].T
    inner[np.arange(known), np.arange(known)] += np.float32(_RIDGE)
    weights = np.linalg.solve(inner, shown - mean)
    wanted = np.clip(mean + (held[listed] @ held[learn].T) @ weights, 0.01, 0.99)
    odds = np.log(wanted) - np.log(1 - wanted)
    scores = bits[rest] @ odds.T + np.log(1 - wanted).sum(axis=1)
    guess = listed[scores.argmax(axis=1)]
    return Reidentified(len(rest), int((guess == rest).sum()), known)


@dataclass(frozen=True, slots=True)
class Relations:
    """Targets named from likeness to known people, from relations of four, and from both."""

    likeness: Reidentified
    triples: Reidentified
    both: Reidentified


def relations_attack(
    study: StudyConfig,
    clk: ClkSpec,
    crowd: Crowd,
    key: StudyKey,
    *,
    known: int,
    targets: int,
    seed: int,
    keys: int = 2,
) -> Relations:
    """
    Return how many of `targets` people are named among themselves by who knows `known` others.

    Both drawn by `seed` from the crowd; the attacker expects what `keys` keys of his own show.
    Costs (keys + 1) * targets * known^3 / 6 comparisons, and 4 * targets * known^3 / 3 bytes.
    Raises LinkageError where fewer than known + targets people have a CLK, or known is below 3.
    """
    draw = np.random.default_rng(seed)
    column = encoded(study, clk, crowd, key)
    usable = draw.permutation(np.flatnonzero(column.present))
    if known < 3 or targets < 1 or len(usable) < known + targets:
        raise LinkageError(f"{known} known people and {targets} others cannot be had")
    few, chosen = usable[:known], usable[known : known + targets]
    shown = signs(column.values)
    seen = [_pairs(shown[few], shown[chosen]), _triples(shown[few], shown[chosen])]
    wanted = [np.zeros_like(one) for one in seen]
    for _ in range(keys):
        own = signs(encoded(study, undiffused(clk), crowd, StudyKey.generate()).values)
        wanted[0] += _pairs(own[few], own[chosen]) / np.float32(keys)
        wanted[1] += _triples(own[few], own[chosen]) / np.float32(keys)
    # Candidates in another order than records: ties must not favour the truth.
    order = draw.permutation(targets)
    scores = [
        _scores(one, other[order], clk.length, max(study.diffusion_of(clk), 1))
        for one, other in zip(seen, wanted, strict=True)
    ]
    found = [
        Reidentified(targets, int((order[one.argmax(axis=1)] == np.arange(targets)).sum()), known)
        for one in (*scores, scores[0] + scores[1])
    ]
    return Relations(*found)


def _pairs(known: Floats2D, targets: Floats2D) -> Floats2D:
    made: Floats2D = targets @ known.T / np.float32(known.shape[1])
    return made


def _triples(known: Floats2D, targets: Floats2D) -> Floats2D:
    """Return the agreement of each target with each product of three, float32[T, K^3 / 6]."""
    made = np.empty((len(targets), comb(len(known), 3)), np.float32)
    for row, target in enumerate(targets):
        start = 0
        for third in range(2, len(known)):
            products = (known[:third] * (known[third] * target)) @ known[:third].T
            near = products[np.triu_indices(third, 1)]
            made[row, start : start + len(near)] = near
            start += len(near)
    made /= np.float32(known.shape[1])
    return made


def _scores(seen: Floats2D, plain: Floats2D, length: int, depth: int) -> Floats2D:
    """Return log likelihoods, float32[T, T], of each candidate for each record, but for a shift."""
    wanted = np.clip(plain, 0, None) ** depth
    wanted -= wanted.mean(axis=0)
    made: Floats2D = (seen - seen.mean(axis=0)) @ wanted.T
    made -= np.einsum("ij,ij->i", wanted, wanted) / 2
    return made * np.float32(length)
