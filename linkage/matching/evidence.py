"""
The evidence of one comparison, two parties, as matrices for the fit (density_ratio.py).

Each candidate pair is a row of numbers x, made of
    1                                   the intercept
    clip((z - a) / (b - a), 0, 1)       for each CLK and stretch a..b of z: never negative evidence
    any key agrees                      either sign
    key k agrees                        for each match-key rule, never negative evidence
    key k: both have it, it differs     for each rule, never positive evidence
Candidates of the cross comparison stand against a weighted sample of certain non-matches:
    visible pairs   candidates within one party. Each stands for nA nB / 2 / C(n, 2) cross pairs,
                    half of the weight from either party.
    attested pairs  the site nulled every key that two groups share, so no visible pair agrees on
                    a key. The attested collision counts bring that chance back: that many pairs
                    with that key alone agreeing, their z spread like that of the visible pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from linkage.errors import MatchingFailed
from linkage.matching.candidates import CandidateChunk, Mask
from linkage.matching.dataset import Rows, Shape
from linkage.matching.dice import Floats
from linkage.matching.grouping import grouped
from linkage.matching.planning import Comparison, comparisons_of

KNOTS = (3.5, 4.25, 5.0, 6.0, 7.5, 9.0, 11.0, 14.0, 18.0, 24.0, 32.0)
"""Ends of the stretches of z. Each has a rise of its own, so the log weight can climb steeply where
chance pairs thin out and level off among families; straight ramps could only steepen."""
CHANCE_PARTNERS = 0.4
"""Pairs without a key are dropped below the z where the null expects more than this many partners
for each record of the smaller party: they only add noise."""
AT_FLOOR = -5.0
"""
Prior mean of the log weight of a pair at the floor, without a key. There the non-matches expect 0.4
partners for each record of the smaller party, and hardly one true pair in a hundred lies that low.
Without it, counting noise among a thousand chance pairs reads as matches where there are none.
"""
RISE, ANY_KEY = 0.5, 1.0
"""
Prior means of what a stretch of z or a match key adds, and of what any key adds on top. A pair near
the top of z with several keys is then believed even among twenty records, where nothing can be
learned; twice as much made false links among 300 strangers (docs/matching.md).
"""
SPREAD = 40
"""Rows that stand for the attested collisions of one rule in one party."""
ROUNDING = 2.0
"""Attested counts are rounded up to a multiple of 5, by 2 on average."""
UNSEEN = 0.5
"""Non-matches assumed on top of those seen or attested, for each rule and party and each stretch of
z: none seen is not none possible (Jeffreys)."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Evidence:
    """
    One comparison, P candidates of K kinds against Q weighted kinds of non-matches, F features.

    parties, people: of both sides, in sorted order. left, right: uint32[P], record rows. kind:
    int64[P], row of x (grouping.py). x: float64[K, F]. count: float64[K], candidates of the kind.
    null_x: float64[Q, F]. null_weight: float64[Q], cross pairs each stands for.
    lower, upper: float64[F], bounds of the coefficients. centre: float64[F], what they are
    expected to be before any evidence.
    keyed: bool[K], null_keyed: bool[Q], whether any key agrees. keys: the rules that both hold.
    agree: uint64[P], bit k where the k-th of them agrees. left_out: float64[keys], about how often
    a rule's key is missing because two people of one side shared it.
    """

    parties: tuple[str, str]
    people: tuple[int, int]
    left: npt.NDArray[np.uint32]
    right: npt.NDArray[np.uint32]
    kind: Rows
    x: Floats
    count: Floats
    keyed: npt.NDArray[np.bool_]
    null_x: Floats
    null_weight: Floats
    null_keyed: npt.NDArray[np.bool_]
    lower: Floats
    upper: Floats
    centre: Floats
    keys: tuple[str, ...]
    agree: Mask
    left_out: Floats


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Rows:
    """Rows of evidence before they become features. z: float64[P, C]; masks: uint64[P]."""

    z: Floats
    agree: Mask
    disagree: Mask
    weight: Floats


def gather(
    shapes: Sequence[Shape], chunks: Sequence[CandidateChunk], *, first_phase: bool = False
) -> list[Evidence]:
    """
    Sort the chunks of a run into comparisons and build the evidence of each, in sorted order.

    first_phase: chunks of kind "cross" may be missing (planning.py).
    Raises MatchingFailed if another chunk is missing, one comes twice or is unknown.
    """
    comparisons = comparisons_of(shapes)
    parts: dict[tuple[str, str], list[CandidateChunk]] = {c.parties: [] for c in comparisons}
    for chunk in sorted(chunks, key=lambda c: c.chunk.name):
        if chunk.chunk.comparison not in parts:
            raise MatchingFailed("a candidate chunk belongs to no comparison of this run")
        parts[chunk.chunk.comparison].append(chunk)
    for c in comparisons:
        if any((p.chunk.clks, p.chunk.keys) != (c.clks, c.keys) for p in parts[c.parties]):
            raise MatchingFailed("a candidate chunk was found with other CLKs or keys")
    return [
        _evidence(
            c,
            parts[c.parties],
            *_crossing(c, parts[c.parties], first_phase),
            people=(c.one.people, c.other.people),
        )
        for c in comparisons
    ]


def gather_sample(
    comparison: Comparison, chunks: Sequence[CandidateChunk], sampled: Rows
) -> Evidence:
    """
    Build the evidence of the sampled people of one party, compared with all of the other.

    chunks: of a run whose `comparison` is made in two phases (planning.py). sampled: the rows of
    SAMPLE of its first party. Raises MatchingFailed if a chunk is missing.
    """
    parts = [c for c in chunks if c.chunk.comparison == comparison.parties]
    party, clks = comparison.one.party, len(comparison.clks)
    keyed, _ = _whole(parts, "keys", party, clks)
    alike, people = _whole(parts, "sample", party, clks)
    mine = np.isin(keyed.left, sampled)
    cross = _union([_Found(*(getattr(keyed, f)[mine] for f in _Found.__slots__)), alike])
    return _evidence(comparison, parts, cross, people[0] * people[1], people=people)


def _evidence(
    comparison: Comparison,
    parts: list[CandidateChunk],
    cross: _Found,
    alike: int,
    *,
    people: tuple[int, int],
) -> Evidence:
    """
    Put candidates beside non-matches. alike: pairs of people that were looked at for their CLKs, of
    all pairs between `people`.
    """
    one, other = comparison.one, comparison.other
    clks, keys = comparison.clks, comparison.keys
    pairs = people[0] * people[1]
    nulls: list[_Rows] = []
    sides = [s for s in (one, other) if s.people > 1]
    shares = []
    for side in sides:
        share = pairs / len(sides) / (side.people * (side.people - 1) / 2)
        visible = _Rows(*_columns([], len(clks)), weight=np.zeros(0))
        seen = side.people
        if clks:
            found, (seen, _) = _whole(parts, "within", side.party, len(clks))
            weight = alike / len(sides) / (seen * (seen - 1) / 2)
            visible = _Rows(
                found.z, found.agree, found.disagree, weight=np.full(len(found.left), weight)
            )
            shares.append(weight)
        nulls += [visible, _attested(visible, side, keys, len(clks), share)]
    nulls.append(_unseen(shares, len(clks), len(keys)))
    null = _stack(nulls, len(clks))
    z_least = _least_z(null, CHANCE_PARTNERS * min(people))
    kept = _worth(cross.z, cross.agree, z_least)
    null_kept = _worth(null.z, null.agree, z_least)
    ends = KNOTS[0], KNOTS[-1]
    one_kind = grouped(cross.z[kept], cross.agree[kept], cross.disagree[kept], ends)
    null_kind = grouped(null.z[null_kept], null.agree[null_kept], null.disagree[null_kept], ends)
    x, names = _features(one_kind.z, one_kind.agree, one_kind.disagree, clks, keys)
    null_x, _ = _features(null_kind.z, null_kind.agree, null_kind.disagree, clks, keys)
    lower, upper, centre = _priors(names)
    return Evidence(
        parties=(one.party, other.party),
        people=people,
        left=cross.left[kept],
        right=cross.right[kept],
        kind=one_kind.of,
        x=x,
        count=np.bincount(one_kind.of, minlength=len(x)).astype(np.float64),
        keyed=one_kind.agree > 0,
        null_x=null_x,
        null_weight=np.bincount(null_kind.of, null.weight[null_kept], len(null_x)).astype(
            np.float64
        ),
        null_keyed=null_kind.agree > 0,
        lower=lower,
        upper=upper,
        centre=centre,
        keys=keys,
        agree=cross.agree[kept],
        left_out=_left_out((one, other), keys),
    )


def _left_out(sides: tuple[Shape, Shape], keys: tuple[str, ...]) -> Floats:
    """Return about how often each rule's key was nulled on either side: float64[keys]."""
    share = np.zeros(len(keys))
    for side in sides:
        twice = np.array([_attested_count(side, key) for key in keys], dtype=np.float64)
        share += 2 * twice / max(1, side.people)
    return np.asarray(share)


def _attested_count(side: Shape, key: str) -> float:
    """Return how many values two people shared: the middle of what rounds up to the count."""
    return max(0.0, side.collisions.get(key, 0) - ROUNDING)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Found:
    left: npt.NDArray[np.uint32]
    right: npt.NDArray[np.uint32]
    z: Floats
    agree: Mask
    disagree: Mask


def _crossing(
    comparison: Comparison, parts: list[CandidateChunk], first_phase: bool
) -> tuple[_Found, int]:
    """
    Return the candidates between two parties, each once, ordered by left row, then right row, and
    how many pairs of people were looked at for their CLKs.
    """
    party, clks = comparison.one.party, len(comparison.clks)
    found, alike = [], 0
    if comparison.keys:
        found.append(_whole(parts, "keys", party, clks)[0])
    if clks and not (first_phase and all(p.chunk.kind != "cross" for p in parts)):
        alikes, people = _whole(parts, "cross", party, clks)
        found.append(alikes)
        alike = people[0] * people[1]
    return _union(found), alike


def _union(found: list[_Found]) -> _Found:
    """Return all pairs, each once, ordered by left row, then right row."""
    left, right = (np.concatenate([getattr(f, side) for f in found]) for side in ("left", "right"))
    # A pair that agrees on a key and is alike was handed on twice, with the same evidence.
    _, kept = np.unique(left.astype(np.uint64) << np.uint64(32) | right, return_index=True)
    z, agree, disagree = (
        np.concatenate([getattr(f, name) for f in found])[kept]
        for name in ("z", "agree", "disagree")
    )
    return _Found(left[kept], right[kept], z, agree, disagree)


def _whole(
    parts: list[CandidateChunk], kind: str, left: str, clks: int
) -> tuple[_Found, tuple[int, int]]:
    """
    Join the chunks of one kind that begin at party `left`; return also how many people of both
    sides they compare. Raises MatchingFailed unless they cover every row once.
    """
    parts = [p for p in parts if p.chunk.kind == kind and p.chunk.left == left]
    parts.sort(key=lambda p: p.chunk.start)
    covered = 0
    for part in parts:
        if part.chunk.start != covered:
            raise MatchingFailed("a candidate chunk is missing or came twice")
        covered = part.chunk.stop
    plans = {(p.chunk.of, p.chunk.people, p.chunk.left_rows, p.chunk.right_rows) for p in parts}
    if len(plans) != 1 or covered != parts[0].chunk.of:
        raise MatchingFailed("a candidate chunk is missing")
    z, agree, disagree = _columns(parts, clks)
    empty = [np.zeros(0, np.uint32)]
    found = _Found(
        left=np.concatenate([*empty, *(p.left for p in parts)]),
        right=np.concatenate([*empty, *(p.right for p in parts)]),
        z=z,
        agree=agree,
        disagree=disagree,
    )
    return found, parts[0].chunk.people


def _columns(parts: list[CandidateChunk], clks: int) -> tuple[Floats, Mask, Mask]:
    masks = [np.zeros(0, np.uint64)]
    return (
        np.concatenate([np.zeros((0, clks)), *(p.z for p in parts)]),
        np.concatenate([*masks, *(p.agree for p in parts)]),
        np.concatenate([*masks, *(p.disagree for p in parts)]),
    )


def _stack(rows: list[_Rows], clks: int) -> _Rows:
    masks = [np.zeros(0, np.uint64)]
    return _Rows(
        z=np.concatenate([np.zeros((0, clks)), *(r.z for r in rows)]),
        agree=np.concatenate([*masks, *(r.agree for r in rows)]),
        disagree=np.concatenate([*masks, *(r.disagree for r in rows)]),
        weight=np.concatenate([np.zeros(0), *(r.weight for r in rows)]),
    )


def _attested(visible: _Rows, side: Shape, keys: tuple[str, ...], clks: int, share: float) -> _Rows:
    """Return the pairs of different people that share one key, as the site attested them."""
    made: list[_Rows] = []
    count = len(visible.weight)
    order = np.argsort(_highest(visible.z), kind="stable") if count else np.zeros(0, np.int64)
    picked = (
        order[np.unique(np.linspace(0, count - 1, SPREAD).round().astype(np.int64))]
        if (count)
        else order
    )
    for number, key in enumerate(keys):
        bit = np.uint64(1 << number)
        total = (_attested_count(side, key) + UNSEEN) * share
        rows = max(1, len(picked))
        made.append(
            _Rows(
                z=visible.z[picked] if count else np.full((1, clks), np.nan),
                agree=np.full(rows, bit),
                disagree=(visible.disagree[picked] if count else np.zeros(1, np.uint64)) & ~bit,
                weight=np.full(rows, total / rows),
            )
        )
    return _stack(made, clks)


def _unseen(shares: list[float], clks: int, keys: int) -> _Rows:
    """
    Return half a visible pair for each stretch of z, with every key disagreeing.

    shares: for each side, the cross pairs that one of its visible pairs stands for.
    """
    middles = (np.array(KNOTS[1:]) + np.array(KNOTS[:-1])) / 2
    if not clks or not shares:
        middles = middles[:0]
    share = np.mean(shares or [0.0])
    return _Rows(
        z=np.repeat(middles[:, None], clks, axis=1),
        agree=np.zeros(len(middles), np.uint64),
        disagree=np.full(len(middles), (1 << keys) - 1, np.uint64),
        weight=np.full(len(middles), UNSEEN * share),
    )


def _highest(z: Floats) -> Floats:
    """Return the largest z of each row, -inf where the row has none: float64[P]."""
    filled = np.where(np.isnan(z), -np.inf, z)
    return np.asarray(filled.max(axis=1, initial=-np.inf), dtype=np.float64)


def _least_z(null: _Rows, partners: float) -> float:
    """Return the z above which visible non-matches stand for at most `partners` cross pairs."""
    free = null.agree == 0
    z, weight = _highest(null.z[free]), null.weight[free]
    order = np.argsort(-z, kind="stable")
    above = np.cumsum(weight[order]) > partners
    return float(z[order][np.argmax(above)]) if above.any() else -np.inf


def _worth(z: Floats, agree: Mask, z_least: float) -> npt.NDArray[np.bool_]:
    return np.asarray((agree > 0) | (_highest(z) > z_least))


def _features(
    z: Floats, agree: Mask, disagree: Mask, clks: tuple[str, ...], keys: tuple[str, ...]
) -> tuple[Floats, list[str]]:
    columns: list[Floats] = [np.ones(len(z))]
    names = ["one"]
    for c, clk in enumerate(clks):
        known = np.nan_to_num(z[:, c], nan=0.0)
        for low, high in pairwise(KNOTS):
            columns.append(np.clip((known - low) / (high - low), 0.0, 1.0))
            names.append(f"z:{clk}:{low}")
    columns.append((agree > 0).astype(np.float64))
    names.append("any")
    for number, key in enumerate(keys):
        bit = np.uint64(1 << number)
        columns += [((mask & bit) > 0).astype(np.float64) for mask in (agree, disagree)]
        names += [f"agree:{key}", f"disagree:{key}"]
    return np.stack(columns, axis=1), names


def _priors(names: list[str]) -> tuple[Floats, Floats, Floats]:
    """Return lower and upper bound and prior mean of each feature's coefficient."""
    rising = np.array([n.startswith(("z:", "agree:")) for n in names])
    falling = np.array([n.startswith("disagree:") for n in names])
    centre = np.where(rising, RISE, 0.0)
    centre[names.index("one")], centre[names.index("any")] = AT_FLOOR, ANY_KEY
    return np.where(rising, 0.0, -np.inf), np.where(falling, 0.0, np.inf), centre
