"""
Pattern mining: bits that occur together often are what a frequent n-gram sets.

    found = mined(encoded(study, clk, held, key).values)
    pattern_attack(column, listed_tokens(clk, listed), seed=1)

An n-gram sets its bits in every record that has it. In plain CLKs such a set of positions, all one
in many records, stands out of chance: the patterns are mined without key or list. Each is then
given the n-grams whose frequency, alone and together with the patterns already named, fits best;
a record's patterns say which n-grams it has, and the list who has just those. Diffused bits are
parities, which no longer occur together.

Source: Christen, Vatsalan, Schnell and others, "Pattern-mining based cryptanalysis of Bloom filters
for privacy-preserving record linkage", PAKDD 2018. Here patterns grow from single positions
(biclusters) in place of a frequent-itemset miner, and names are given by pairs of frequencies, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.evaluation.attacks.outcome import Reidentified
from linkage.records import FixedColumn

Mask2D = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEAST_BITS = 8
"""Positions of a pattern: by chance 8 bits at density .3 occur together in 1 record of 15,000."""
_CORE = 6
_ROUNDS = 4
_ALWAYS = 0.97
"""Share of a pattern's records in which a position of it is set, inclusive."""
_STARTS = 10
"""First names that are tried."""
_SAME = 0.9
"""Overlap (Jaccard) of records from which two patterns count as one."""


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """K patterns, commonest first. held: bool[N, K], which record has which; bits: int64[K]."""

    held: Mask2D
    bits: Ints

    def __len__(self) -> int:
        return len(self.bits)


def mined(
    values: npt.NDArray[np.uint8], *, least: float = 0.02, most: float = 0.9, limit: int = 100
) -> Patterns:
    """
    Return the patterns of N CLKs, uint8[N, l / 8], that between `least` and `most` of them hold.

    limit: most patterns returned. Grown from each position: the positions that occur with it more
    than usual, the records that have them all, and again.
    """
    bits = np.unpackbits(values, axis=1).astype(np.float32)
    n = max(len(bits), 1)
    usual = bits.sum(axis=0) / np.float32(n)
    together = bits.T @ bits
    alike: list[npt.NDArray[np.bool_]] = []
    sizes: list[int] = []
    spread = np.sqrt(np.maximum(usual * (1 - usual), 1e-9))
    for start in np.flatnonzero((usual * n >= max(least * n, 8)) & (usual < _ALWAYS)).tolist():
        count = together[start, start]
        lift = (together[start] / count - usual) / spread
        # The position itself is no evidence.
        lift[start] = np.inf
        core = np.argsort(-lift, kind="stable")[:_CORE]
        rows = bits[:, core].sum(axis=1) >= _CORE
        for _ in range(_ROUNDS):
            if rows.sum() < max(least * n, 8):
                break
            share = bits[rows].mean(axis=0)
            always = np.flatnonzero((share >= _ALWAYS) & (usual < _ALWAYS))
            if len(always) < _LEAST_BITS:
                break
            now = bits[:, always].mean(axis=1) >= 1 - 1.0 / len(always)
            if np.array_equal(now, rows):
                break
            rows = now
        else:
            always = np.flatnonzero((bits[rows].mean(axis=0) >= _ALWAYS) & (usual < _ALWAYS))
        support = rows.sum()
        if not least * n <= support <= most * n or support < 8 or len(always) < _LEAST_BITS:
            continue
        if any(_overlap(rows, other) >= _SAME for other in alike):
            continue
        alike.append(rows)
        sizes.append(len(always))
    order = sorted(range(len(alike)), key=lambda i: (-int(alike[i].sum()), i))[:limit]
    held = np.stack([alike[i] for i in order], axis=1) if order else np.zeros((n, 0), bool)
    return Patterns(held, np.array([sizes[i] for i in order], np.int64))


def named(patterns: Patterns, tokens: Mask2D) -> Ints:
    """
    Return the n-gram of each pattern, int64[K], a column of tokens; -1 for none.

    tokens: bool[M, G], who of the list has which n-gram. Greedy: the pattern and n-gram that fit
    best in frequency, alone and with each pattern already named, in standard errors; nothing that
    is more than 3 of them off on average. Of several first names the one that lets most others fit.
    """
    seen, listed = patterns.held.astype(np.float32), tokens.astype(np.float32)
    n, m = max(len(seen), 1), max(len(listed), 1)
    one = ((seen.T @ seen) / n).astype(np.float64)
    other = ((listed.T @ listed) / m).astype(np.float64)
    scale = 1 / n + 1 / m
    gap = _misfit(np.diagonal(one)[:, None], np.diagonal(other)[None, :], scale)
    best, least = np.full(len(patterns), -1, np.int64), (0, 0.0)
    # One wrong name at the start, such as a sex for the other, makes all others wrong.
    for first in np.argsort(gap, axis=None, kind="stable")[:_STARTS].tolist():
        given, misfit = _named_from(first, gap, one, other, scale)
        rank = (-int((given >= 0).sum()), misfit)
        if rank < least:
            best, least = given, rank
    return best


def _named_from(
    first: int, gap: Floats, one: Floats, other: Floats, scale: float
) -> tuple[Ints, float]:
    """Return names when the cell `first` of gap is named first, and their mean misfits' sum."""
    open_gap, given = gap.copy(), np.full(len(gap), -1, np.int64)
    total = 0.0
    for turn in range(len(gap)):
        k, g = divmod(int(open_gap.argmin()) if turn else first, gap.shape[1])
        misfit = float(open_gap[k, g]) / (turn + 1)
        if not misfit <= 9:
            break
        total += misfit
        given[k] = g
        open_gap[k] = np.inf
        open_gap[:, g] = np.inf
        open_gap += _misfit(one[:, k][:, None], other[:, g][None, :], scale)
    return given, total


def pattern_attack(
    column: FixedColumn,
    tokens: Mask2D,
    *,
    seed: int,
    truth: Ints | None = None,
    least: float = 0.02,
) -> Reidentified:
    """
    Return how many of N records are named rightly: whose person alone fits their patterns best.

    tokens: bool[M, G] of the list. truth: int64[N], each row's person, -1 for none; None: its own
    number. seed: shuffles the list, so that ties do not favour the truth.
    """
    order = np.random.default_rng(seed).permutation(len(tokens))
    place = np.full(len(tokens) + 1, -1, np.int64)
    place[order] = np.arange(len(tokens))
    wanted = place[np.arange(len(column.values)) if truth is None else truth]
    wanted = np.where(column.present, wanted, -1)
    listed = tokens[order]
    patterns = mined(column.values, least=least)
    given = named(patterns, listed)
    used = np.flatnonzero(given >= 0)
    searched = wanted >= 0
    if not len(used):
        return Reidentified(int(searched.sum()), 0)
    signs = 2 * patterns.held[:, used].astype(np.float32) - 1
    agreement = signs @ (2 * listed[:, given[used]].astype(np.float32) - 1).T
    best = agreement.max(axis=1, keepdims=True)
    guess = np.where((agreement == best).sum(axis=1) == 1, agreement.argmax(axis=1), -1)
    right = int((guess[searched] == wanted[searched]).sum())
    return Reidentified(int(searched.sum()), right)


def _overlap(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def _misfit(one: Floats, other: Floats, scale: float) -> Floats:
    """Return squared differences of two shares in standard errors, and .3 % for mistakes."""
    middle = (one + other) / 2
    made: Floats = (one - other) ** 2 / (middle * (1 - middle) * scale + 1e-5)
    return made
