"""
How many true pairs agree on no match key at all: capture-recapture over the rules.

A rule misses a pair for a reason: a field that it needs differs, or the key was left out because
two people shared it. Rules that need different fields catch each other's misses, so the patterns
of agreeing rules among the matches tell how often each field differs; and that tells how often so
many differ at once that no rule is left:

    every field is in one state, each with a probability: it agrees; only some of its transforms
    agree (the first three letters, the month and day); nothing of it agrees
    a rule can agree if all that it needs agrees, and does so but for its share of left-out keys
    a pair without any agreeing rule is seen by nobody

Fitted by EM over the patterns seen, with the expected number of unseen pairs filled in
(Dempster, Laird and Rubin 1977; the unseen cell: Sanathanan 1972, doi:10.1214/aoms/1177692709).
Fields are taken to err independently. Errors that cluster in some records make the true share
larger, so it is rather too low than too high; docs/matching.md measures it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np
import numpy.typing as npt

from linkage.matching.dice import Floats

Rules = Mapping[str, Sequence[str]]
"""Of every match-key rule its fields, as the study file names them: `last_name`, `first_name:3`."""

PRIOR_PAIRS = 20.0
PRIOR_ERROR = 0.05
"""A field is taken to differ in one of twenty pairs, before twenty are seen."""
LEFT_OUT = (1e-4, 0.5)
"""Bounds of the share of pairs for which a rule's key was left out."""
MOST_STATES = 50_000
"""Joint states of the fields that are gone through; the preset of fourteen rules has 8,640."""
MOST_SUBSETS = 16
"""Sets of a field's transforms that are told apart; with more, one at a time."""
MOST_UNSEEN = 0.99
ROUNDS = 500
SETTLED = 1e-7
TINY = 1e-300
COARSER = {
    "year_month": ("year", "month"),
    "month_day": ("month", "day"),
}

_Part = tuple[str, str]
"""A field and its transform, "" for the whole field."""


@dataclass(frozen=True, slots=True)
class Keyless:
    """share: of all matches, those on which no rule agrees. spread: its standard error."""

    share: float
    spread: float


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """
    All joint states of the fields, S of them, in G groups in which the same rules can agree.

    state: int64[S, fields], the state of each field, 0 where all of it agrees. sizes: how many
    states each field has. group: int64[S]. eligible: uint64[G], one bit a rule. seen: bool[fields],
    whether some rule can do without the field, so that its errors show.
    """

    state: npt.NDArray[np.int64]
    sizes: tuple[int, ...]
    group: npt.NDArray[np.int64]
    eligible: npt.NDArray[np.uint64]
    seen: npt.NDArray[np.bool_]


def share_without_key(
    rules: Sequence[Sequence[str]],
    agree: npt.NDArray[np.uint64],
    probability: Floats,
    left_out: Floats,
    *,
    folds: int = 0,
) -> Keyless | None:
    """
    Return the share of matches on which no rule agrees, of all matches; None if it cannot be told.

    rules: fields of each rule, R of them. agree: uint64[P], bit r where rule r agrees; pairs
    without any are ignored. probability: float64[P], that the pair is a match. left_out:
    float64[R], about how often each rule's key was left out because people shared it, on either
    side. folds: parts for the standard error, two or more, by the jackknife that leaves out one
    part at a time; 0 for none. None if no field can be done without, or there are too many states.
    """
    lattice = _lattice(rules)
    if lattice is None or not lattice.seen.any():
        return None
    keyed = np.flatnonzero((agree > 0) & (probability > 0))
    if not len(keyed):
        return None
    patterns, which = np.unique(agree[keyed], return_inverse=True)
    parts = max(1, folds)
    cells = which.ravel() * parts + np.arange(len(keyed)) % parts
    weight = np.bincount(cells, probability[keyed], len(patterns) * parts).reshape(-1, parts)
    bounded = np.clip(left_out, *LEFT_OUT)
    whole = _fit(lattice, patterns, weight.sum(axis=1), bounded)
    shares = np.array(
        [
            _fit(lattice, patterns, weight.sum(axis=1) - weight[:, part], bounded, whole).unseen
            for part in range(folds)
        ]
    )
    away = shares - shares.mean() if folds else shares
    spread = float(np.sqrt((parts - 1) / parts * np.sum(away**2)))
    return Keyless(share=whole.unseen, spread=spread)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """odds: by field, the share of each of its states. missing: float64[R]. unseen: the share."""

    odds: list[Floats]
    missing: Floats
    unseen: float


def _fit(
    lattice: _Lattice,
    patterns: npt.NDArray[np.uint64],
    weight: Floats,
    left_out: Floats,
    start: _Fit | None = None,
) -> _Fit:
    """EM over the patterns, from `start` if there is one. weight: matches of each pattern."""
    bits = np.left_shift(np.uint64(1), np.arange(len(left_out), dtype=np.uint64))
    has = ((patterns[:, None] & bits) > 0).astype(np.float64)
    can = ((lattice.eligible[:, None] & bits) > 0).astype(np.float64)
    possible = (patterns[:, None] & ~lattice.eligible[None, :]) == 0
    known = _sums(weight, has)
    usual = [np.r_[1 - PRIOR_ERROR, np.full(n - 1, PRIOR_ERROR / (n - 1))] for n in lattice.sizes]
    prior = [PRIOR_PAIRS * one for one in usual]
    now = start or _Fit(usual, left_out, 0.0)
    for turn in range(ROUNDS):
        share = np.ones(len(lattice.state))
        for field, one in enumerate(now.odds):
            share *= one[lattice.state[:, field]]
        of_group = np.bincount(lattice.group, share, len(lattice.eligible))
        log_missing, log_there = np.log(now.missing), np.log1p(-now.missing)
        silent = np.exp(_sums(log_missing, can.T)) * of_group
        given = np.exp(_sums(log_there - log_missing, has.T))[:, None] * silent[None, :] * possible
        of_pattern = weight / np.maximum(given.sum(axis=1), TINY)
        unseen = min(float(silent.sum()), MOST_UNSEEN)
        filled = _sums(of_pattern, given) + weight.sum() * silent / (1 - unseen)
        counts = share * (filled / np.maximum(of_group, TINY))[lattice.group]
        odds = [
            _share(np.bincount(lattice.state[:, f], counts, n) + prior[f])
            for f, n in enumerate(lattice.sizes)
        ]
        # The errors of a field that every rule needs show nowhere: it errs like the others.
        right = float(np.mean([o[0] for o, seen in zip(odds, lattice.seen, strict=True) if seen]))
        odds = [
            o if seen else np.r_[right, np.full(len(o) - 1, (1 - right) / (len(o) - 1))]
            for o, seen in zip(odds, lattice.seen, strict=True)
        ]
        tried = _sums(filled, can)
        missing = (tried - known + PRIOR_PAIRS * left_out) / (tried + PRIOR_PAIRS)
        before, now = now.unseen, _Fit(odds, np.clip(missing, 1e-6, 1 - 1e-6), unseen)
        if turn and abs(unseen - before) <= SETTLED:  # the first turn only repeats `start`
            break
    return now


def _sums(weight: Floats, matrix: Floats) -> Floats:
    """Return weight @ matrix, not by BLAS: there the order of a sum depends on its threads."""
    return np.asarray(np.einsum("i,ij->j", weight, matrix), dtype=np.float64)


def _share(counts: Floats) -> Floats:
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def _lattice(rules: Sequence[Sequence[str]]) -> _Lattice | None:
    """Return all states of the fields, or None if they are too many to go through."""
    needs = [frozenset(_part(name) for name in fields) for fields in rules]
    fields = _fields(needs)
    states = [list(_states(parts)) for parts in fields]
    sizes = tuple(len(s) for s in states)
    if not sizes or np.prod(np.array(sizes, dtype=np.float64)) > MOST_STATES or min(sizes) < 2:
        return None
    numbers = np.array(list(product(*(range(n) for n in sizes))), dtype=np.int64)
    eligible = np.zeros(len(numbers), np.uint64)
    for rule, need in enumerate(needs):
        holds = np.ones(len(numbers), np.bool_)
        for field, (parts, of_field) in enumerate(zip(fields, states, strict=True)):
            fine = np.array([need & parts <= agreeing for agreeing in of_field])
            holds &= fine[numbers[:, field]]
        eligible[holds] |= np.uint64(1 << rule)
    groups, group = np.unique(eligible, return_inverse=True)
    seen = np.array([any(not need & parts for need in needs) for parts in fields])
    return _Lattice(numbers, sizes, group.ravel(), groups, seen)


def _part(name: str) -> _Part:
    field, _, transform = name.partition(":")
    return field, transform


def _fields(needs: Sequence[frozenset[_Part]]) -> list[frozenset[_Part]]:
    """Return what is used of each field; fields that always come together count as one."""
    parts: dict[str, set[_Part]] = {}
    for part in sorted(frozenset(chain.from_iterable(needs))):
        parts.setdefault(part[0], set()).add(part)
    together: dict[object, set[_Part]] = {}
    for field, used in parts.items():
        where = tuple(bool(need & used) for need in needs)
        together.setdefault(where if len(used) == 1 else field, set()).update(used)
    return [frozenset(one) for one in together.values()]


def _states(parts: frozenset[_Part]) -> Iterator[frozenset[_Part]]:
    """Yield what may agree of a field: all of it first, then every sensible rest."""
    yield parts
    loose = sorted(part for part in parts if part[1])
    if len({field for field, _ in parts}) > 1 or 2 ** len(loose) > MOST_SUBSETS:
        loose = loose if len({field for field, _ in parts}) == 1 else []
        subsets: Iterator[tuple[_Part, ...]] = chain([()], ((one,) for one in loose))
    else:
        subsets = chain.from_iterable(combinations(loose, n) for n in range(len(loose) + 1))
    for subset in subsets:
        whole = frozenset(subset)
        # What is coarser agrees as well: who shares three letters shares the first.
        closed = all(
            other in whole for one in whole for other in loose if _coarser(other[1], one[1])
        )
        if whole != parts and closed:
            yield whole


def _coarser(one: str, than: str) -> bool:
    """Return whether transform `one` follows from `than`."""
    if one == than:
        return False
    if than.isdigit():
        return one == "initial" or (one.isdigit() and int(one) < int(than))
    return one in COARSER.get(than, ())
