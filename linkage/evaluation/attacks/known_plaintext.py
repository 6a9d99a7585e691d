"""
Known plaintext: from people whose record is known, learn what each n-gram does to each bit.

    learned_attack(encoded(study, clk, crowd, key), listed_tokens(clk, crowd), known=200, seed=1)

Below similarities: each output bit is learnt on its own, as a naive Bayes reader would, from which
n-grams the known people have. A plain CLK gives way at once, for an n-gram sets its bits whoever
has it. Diffused, a bit is the parity of t others, and one n-gram moves its mean by no more than
(1 - 2 p)^(t - 1), p the density: learning parities with noise, for which no cheap way is known.

Relations between more than two records are the other thing to try: diffusion is linear, so of four
records A, B, C, D that share fields pairwise, A ^ B ^ C ^ D has few bits set and agrees on
(1 + (1 - 2 w)^t) / 2 of all bits, w its share of bits. `energies` says how much such triples of
known people would tell beside single ones. Source of the tie between linear relations and
bias: piling-up lemma, Matsui, EUROCRYPT 1993; diffusion: Armknecht, Heng and Schnell, PoPETs 2023;
learning: Christen, Ranbaduge, Vatsalan and Schnell, "Precise and fast cryptanalysis for Bloom
filter based privacy-preserving record linkage", TKDE 2019.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.records import FixedColumn

Mask2D = npt.NDArray[np.bool_]
Floats2D = npt.NDArray[np.float32]
Floats1D = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

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


def energies(
    plain: npt.NDArray[np.uint8], known: Ints, targets: Ints, *, depth: int
) -> tuple[Floats1D, Floats1D]:
    """
    Return what pairs and what triples of known people tell of each target, float64[T] both: sums
    of the squared z that one finds for the right candidate, of all known people and of all three
    of them. A sum below about 2 ln(candidates) names nobody.

    plain: uint8[N, l / 8], CLKs before diffusion under any key. The triples' sum is an upper bound:
    they overlap, so what they tell is not independent. Needs known^3 / 6 comparisons a target.
    """
    signs = 1 - 2 * np.unpackbits(plain, axis=1).astype(np.float32)
    length = signs.shape[1]
    others = signs[known]
    first, second = np.triu_indices(len(known), 1)
    single, triple = np.zeros(len(targets)), np.zeros(len(targets))
    for place, target in enumerate(targets.tolist()):
        turned = others * signs[target]
        agreement = turned.sum(axis=1, dtype=np.float64) / length
        single[place] = length * (np.clip(agreement, 0, None) ** (2 * depth)).sum()
        for third in range(2, len(known)):
            # Pairs of people before the third, so that each triple counts once.
            at = second < third
            products = (others[:third] * turned[third]) @ others[:third].T / length
            near = np.clip(products[first[at], second[at]], 0, None) ** (2 * depth)
            triple[place] += length * near.sum(dtype=np.float64)
    return single, triple
