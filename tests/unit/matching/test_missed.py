"""Matches without any key: capture-recapture against simulated pairs, and against plain loops."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from linkage.match_key_presets import PRESETS
from linkage.matching import missed
from linkage.matching.missed import share_without_key

STREET = (
    ("first_name", "middle_name:initial", "last_name"),
    ("street", "first_name"),
    ("street", "middle_name:initial", "last_name"),
)
DATE = (
    ("first_name", "last_name", "date_of_birth:month_day"),
    ("last_name", "date_of_birth"),
    ("first_name:3", "date_of_birth"),
)


def _street_pairs(n: int, seed: int) -> npt.NDArray[np.uint64]:
    """Return the agreeing rules of n true pairs; first name, last name, street err by chance."""
    draw = np.random.default_rng(seed)
    first, last, street = (draw.random((n, 3)) >= [0.08, 0.18, 0.18]).T
    agree = (first & last) * 1 + (street & first) * 2 + (street & last) * 4
    return np.asarray(agree, dtype=np.uint64)


def test_the_interval_covers_the_true_number_of_matches() -> None:
    """60 worlds of 2,000 pairs, of which 5.6 % have no key: about one in twenty may lie outside."""
    inside = 0
    for seed in range(60):
        agree = _street_pairs(2_000, seed)
        found = share_without_key(STREET, agree, np.ones(2_000), np.zeros(3), folds=10)
        assert found is not None
        expected = int((agree > 0).sum()) / (1 - found.share)
        spread = math.sqrt(expected * found.share + (found.spread * expected) ** 2)
        inside += abs(expected - 2_000) <= 1.96 * spread
    assert inside >= 51


def test_the_share_is_found_also_where_keys_are_left_out() -> None:
    draw = np.random.default_rng(70)
    agree = _street_pairs(50_000, 7)
    lost = draw.random((50_000, 3)) < [0.02, 0.1, 0.3]
    agree &= ~(lost * np.array([1, 2, 4])).sum(axis=1).astype(np.uint64)
    found = share_without_key(STREET, agree, np.ones(50_000), np.array([0.02, 0.1, 0.3]))
    assert found is not None
    assert found.share == pytest.approx(float((agree == 0).mean()), rel=0.1)
    assert found.spread == 0.0


def test_pairs_count_as_much_as_they_are_probable() -> None:
    agree = _street_pairs(3_000, 1)
    doubled = share_without_key(STREET, agree.repeat(2), np.full(6_000, 0.5), np.zeros(3))
    assert doubled is not None
    single = share_without_key(STREET, agree, np.ones(3_000), np.zeros(3))
    assert single is not None
    assert doubled.share == pytest.approx(single.share, abs=1e-9)


@pytest.mark.parametrize("rules", [STREET, DATE])
def test_as_plain_loops_say(rules: tuple[tuple[str, ...], ...]) -> None:
    draw = np.random.default_rng(3)
    agree = draw.integers(0, 1 << len(rules), 400).astype(np.uint64)
    weight = draw.random(400)
    left_out = np.array([0.01, 0.05, 0.2])
    found = share_without_key(rules, agree, weight, left_out)
    assert found is not None
    assert found.share == pytest.approx(_in_loops(rules, agree, weight, left_out), rel=1e-6)


def _in_loops(
    rules: tuple[tuple[str, ...], ...],
    agree: npt.NDArray[np.uint64],
    weight: npt.NDArray[np.float64],
    left_out: npt.NDArray[np.float64],
) -> float:
    """The reference: EM over every state of every field for every pattern, one at a time."""
    needs = [frozenset(missed._part(name) for name in rule) for rule in rules]
    fields = missed._fields(needs)
    choices = [list(missed._states(parts)) for parts in fields]
    states = list(product(*(range(len(c)) for c in choices)))
    can = {
        state: [
            all(
                need & parts <= choices[f][state[f]]
                for f, (parts, _) in enumerate(zip(fields, state, strict=True))
            )
            for need in needs
        ]
        for state in states
    }
    patterns: Counter[int] = Counter()
    for one, w in zip(agree.tolist(), weight.tolist(), strict=True):
        patterns[one] += w
    del patterns[0]
    error = missed.PRIOR_ERROR
    usual = [[1 - error] + [error / (len(c) - 1)] * (len(c) - 1) for c in choices]
    odds, missing, unseen = usual, left_out.tolist(), 0.0
    for _ in range(missed.ROUNDS):
        share = {s: math.prod(odds[f][n] for f, n in enumerate(s)) for s in states}
        counts = dict.fromkeys(states, 0.0)
        before, unseen = unseen, 0.0
        for pattern, w in (*patterns.items(), (0, None)):
            likely = {}
            for s in states:
                p = share[s]
                for rule, able in enumerate(can[s]):
                    agrees = bool(pattern >> rule & 1)
                    p *= (1 - missing[rule] if agrees else missing[rule]) if able else not agrees
                likely[s] = p
            total = sum(likely.values())
            if w is None:  # the pattern that nobody sees, last
                unseen = total
                w = sum(patterns.values()) * unseen / (1 - unseen)
            for s in states:
                counts[s] += w * likely[s] / total
        missing = [
            (
                sum(c for s, c in counts.items() if can[s][r])
                - sum(w for pattern, w in patterns.items() if pattern >> r & 1)
                + missed.PRIOR_PAIRS * left_out[r]
            )
            / (sum(c for s, c in counts.items() if can[s][r]) + missed.PRIOR_PAIRS)
            for r in range(len(rules))
        ]
        odds = []
        for f, prior in enumerate(usual):
            of = [
                sum(c for s, c in counts.items() if s[f] == n) + missed.PRIOR_PAIRS * prior[n]
                for n in range(len(prior))
            ]
            odds.append([n / sum(of) for n in of])
        shows = [any(not need & parts for need in needs) for parts in fields]
        right = float(np.mean([o[0] for o, shown in zip(odds, shows, strict=True) if shown]))
        odds = [
            o if shown else [right] + [(1 - right) / (len(o) - 1)] * (len(o) - 1)
            for o, shown in zip(odds, shows, strict=True)
        ]
        if abs(unseen - before) <= missed.SETTLED:
            break
    return unseen


@pytest.mark.parametrize(
    "rules", [(("ssn",),), (("last_name", "date_of_birth"), ("last_name:3", "date_of_birth:year"))]
)
def test_nothing_is_said_where_every_rule_needs_all_fields(
    rules: tuple[tuple[str, ...], ...],
) -> None:
    agree = np.ones(100, np.uint64)
    assert share_without_key(rules, agree, np.ones(100), np.zeros(len(rules))) is None


def test_nothing_is_said_without_pairs() -> None:
    assert share_without_key(STREET, np.zeros(5, np.uint64), np.ones(5), np.zeros(3)) is None
    assert share_without_key(STREET, np.ones(5, np.uint64), np.zeros(5), np.zeros(3)) is None
    assert share_without_key(STREET, np.zeros(0, np.uint64), np.zeros(0), np.zeros(3)) is None
    assert share_without_key((), np.zeros(0, np.uint64), np.zeros(0), np.zeros(0)) is None


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_can_be_gone_through(preset: str) -> None:
    lattice = missed._lattice(list(PRESETS[preset].values()))
    assert lattice is not None
    assert len(lattice.state) <= missed.MOST_STATES
