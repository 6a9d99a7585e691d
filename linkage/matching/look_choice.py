"""
Second looks: which pairs a run asks about.

    looks = choose(weights, forms, shared, limits, seed=seed, draw=secrets.token_bytes)

Three kinds, in this order, as far as limits and forms let them in:
    uncertain   pairs whose probability is in UNCERTAIN: their weight is what the look shall settle
    decoys      random pairs that are no doubt, so that a site cannot tell what is
    left over   the likeliest of the others whose records have no likely partner in the comparison.
                One in a hundred is one person, and fields show which. Decoys hide them, too
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.look_tables import NONCE_BYTES
from linkage.matching.look_cover import LINKED, Draw, Form, Parties, Room
from linkage.matching.second_look import UNCERTAIN, LookPairs, Looks, Reason
from linkage.matching.weights import Comparison, Weights

MOST_LEFT_OVER = 200
"""Pairs of left-over records that a comparison is asked about at most, besides those in doubt;
half as many find nearly as many true pairs (docs/second-look.md)."""
LEAST_DECOYS = 200
"""Decoys of a comparison, where it has as many: fewer teach too little about its fields."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Bounds of one run, as the signed study has them.

    most_per_run: pairs. decoys: least share of the pairs that are no doubt at all, in (0, 1).
    """

    most_per_run: int = 5_000
    decoys: float = 0.5


def choose(
    weights: Weights,
    forms: Mapping[str, Form],
    shared: Mapping[Parties, tuple[str, ...]],
    limits: Limits,
    *,
    seed: int,
    draw: Draw,
) -> Looks:
    """
    Choose the pairs to ask about within limits and forms: the uncertain ones first, then decoys,
    then the best of records that are left over.

    In every comparison decoys have at least their share; one where nothing is uncertain is not
    asked about.

    shared: by comparison, in sorted order, the fields that a look may compare; without any, a
    comparison is not asked about. draw: gives that many secret random bytes (nonces). seed: draws
    decoys; the same weights and seed choose the same pairs.
    """
    rng = np.random.default_rng([seed, 0x2D])
    compared = [c for c in weights.comparisons if shared.get(c.parties)]
    asked = Room(forms)
    doubts = _doubts(compared, int(limits.most_per_run * (1 - limits.decoys)), asked)
    compared = [c for c in compared if doubts[c.parties]]
    odds = limits.decoys / (1 - limits.decoys)
    decoys = _all_decoys(compared, doubts, limits.most_per_run, odds, asked, rng)
    for parties, rows in decoys.items():
        # Without decoys enough, a site could tell what is in doubt: the least doubtful stay out.
        del doubts[parties][int(len(rows) / odds) :]
    spare = limits.most_per_run - sum(len(doubts[p]) + len(rows) for p, rows in decoys.items())
    hidden = {p: int(len(rows) / odds) - len(doubts[p]) for p, rows in decoys.items()}
    more = _left_over(compared, hidden, spare, asked)
    return Looks(
        tuple(
            _look(
                c,
                shared[c.parties],
                doubts[c.parties],
                more[c.parties],
                decoys[c.parties],
                rng,
                draw,
            )
            for c in compared
            if doubts[c.parties]
        )
    )


def _reasons(comparison: Comparison) -> npt.NDArray[np.uint8]:
    """Return the Reason that each weighed pair would be asked for: uint8[P]."""
    low, high = UNCERTAIN
    p = comparison.probability
    reasons = np.select([p < low, p <= high], [Reason.UNLIKELY, Reason.UNCERTAIN], Reason.LIKELY)
    return reasons.astype(np.uint8)


def _doubts(compared: Sequence[Comparison], room: int, asked: Room) -> dict[Parties, list[int]]:
    """Return the most doubtful pairs of all comparisons that the limits allow: their rows."""
    order = sorted(
        (abs(float(c.probability[row]) - 0.5), c.parties, row, int(c.left[row]), int(c.right[row]))
        for c in compared
        for row in np.flatnonzero(_reasons(c) == Reason.UNCERTAIN).tolist()
    )
    kept: dict[Parties, list[int]] = {c.parties: [] for c in compared}
    for _, parties, row, left, right in order:
        if room and asked.take(parties, left, right):
            kept[parties].append(row)
            room -= 1
    return kept


def _all_decoys(
    compared: Sequence[Comparison],
    doubts: Mapping[Parties, Sequence[int]],
    most: int,
    odds: float,
    asked: Room,
    rng: np.random.Generator,
) -> dict[Parties, list[int]]:
    """
    Return the decoys of each comparison: enough for its doubts, and as far as there is room for
    LEAST_DECOYS, or for pairs of left-over records. odds: of decoys for each other pair.
    """
    spare = most - sum(len(doubts[c.parties]) for c in compared)
    least = {c.parties: math.ceil(len(doubts[c.parties]) * odds) for c in compared}
    more = max(0, spare - sum(least.values())) // max(1, len(compared))
    kept = {}
    for comparison in compared:
        needed = least[comparison.parties]
        hiding = min(MOST_LEFT_OVER, len(_of_left_over(comparison))) + len(
            doubts[comparison.parties]
        )
        wanted = min(max(LEAST_DECOYS, math.ceil(hiding * odds)), needed + more, spare)
        kept[comparison.parties] = _decoys(comparison, wanted, asked, rng)
        spare -= len(kept[comparison.parties])
    return kept


def _left_over(
    compared: Sequence[Comparison], hidden: Mapping[Parties, int], spare: int, asked: Room
) -> dict[Parties, list[int]]:
    """
    Return the likeliest pairs that are no doubt, of records without a likely partner: their rows.

    Who has a likely partner is left out for relatives' sake: there the pair would mostly be two of
    one household. hidden: how many pairs the decoys of each comparison can hide. spare: pairs that
    the run may still ask about.
    """
    order = sorted(
        (-float(c.probability[row]), c.parties, row, int(c.left[row]), int(c.right[row]))
        for c in compared
        for row in _of_left_over(c).tolist()
    )
    kept: dict[Parties, list[int]] = {c.parties: [] for c in compared}
    for _, parties, row, left, right in order:
        room = min(MOST_LEFT_OVER, hidden[parties]) - len(kept[parties])
        if spare > 0 and room > 0 and asked.take(parties, left, right):
            kept[parties].append(row)
            spare -= 1
    return kept


def _of_left_over(comparison: Comparison) -> npt.NDArray[np.int64]:
    """Return the unlikely pairs of which neither record has a likely partner there: their rows."""
    alone = _reasons(comparison) == Reason.UNLIKELY
    for rows in (comparison.left, comparison.right):
        alone &= ~np.isin(rows, rows[comparison.probability >= LINKED])
    return np.flatnonzero(alone)


def _decoys(comparison: Comparison, most: int, asked: Room, rng: np.random.Generator) -> list[int]:
    """Return at most that many pairs that are no doubt, likely and unlikely ones in turn."""
    reasons = _reasons(comparison)
    pools = [
        rng.permutation(np.flatnonzero(reasons == reason)).tolist()
        for reason in (Reason.LIKELY, Reason.UNLIKELY)
    ]
    kept: list[int] = []
    while any(pools) and len(kept) < most:
        for pool in pools:
            while pool and len(kept) < most:
                row = pool.pop()
                ends = int(comparison.left[row]), int(comparison.right[row])
                if asked.take(comparison.parties, *ends):
                    kept.append(row)
                    break
    return kept


def _look(
    comparison: Comparison,
    fields: tuple[str, ...],
    doubts: Sequence[int],
    left_over: Sequence[int],
    decoys: Sequence[int],
    rng: np.random.Generator,
    draw: Draw,
) -> LookPairs:
    """Ask about these rows of a comparison, in random order."""
    reasons = _reasons(comparison)
    reasons[np.array(left_over, dtype=np.int64)] = Reason.LEFT_OVER
    rows = rng.permutation(np.array([*doubts, *left_over, *decoys], dtype=np.int64))
    there = np.bincount(reasons, minlength=len(Reason))
    chosen = np.bincount(reasons[rows], minlength=len(Reason))
    drawn = draw(NONCE_BYTES * len(rows))
    return LookPairs(
        parties=comparison.parties,
        fields=fields,
        left=comparison.left[rows],
        right=comparison.right[rows],
        reason=reasons[rows],
        probability=comparison.probability[rows],
        stands_for=(there / np.maximum(1, chosen))[reasons[rows]],
        nonces=np.frombuffer(drawn, np.uint8).reshape(len(rows), NONCE_BYTES).copy(),
    )
