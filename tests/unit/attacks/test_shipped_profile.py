"""
What the shipped profile shows an attacker, on 2,000 simulated people: plain CLKs, and its own.

A sentinel for the release gate, which measures 4,000 people over several keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from linkage.evaluation.attacks.best_guess import View, best_guesses, seen_and_expected
from linkage.evaluation.attacks.crowds import Crowd, simulated
from linkage.evaluation.attacks.dictionary import dictionary_attack
from linkage.evaluation.attacks.graph_matching import match_graphs, score
from linkage.evaluation.attacks.registers import simulated_registers
from linkage.evaluation.attacks.similarity import (
    centred,
    correlation,
    encoded,
    expected,
    observed,
)
from linkage.evaluation.attacks.structure import unique_by_structure
from linkage.study import load_study
from tests.unit.attacks.attacked import fixed_key

PEOPLE, KNOWN = 2000, 100
SHIPPED = load_study(Path(__file__).parents[3] / "configs" / "three-commons" / "study.toml")
CLKS = [clk.id for clk in SHIPPED.clk]
Record = Callable[[str, object], None]
MOST = 0.01 + 3 * (0.01 * 0.99 / (PEOPLE - KNOWN)) ** 0.5
"""The gate's 1 %, and three standard errors of so few people."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One CLK under one key: similarities as seen, as expected, and under a second key."""

    observed: np.ndarray
    expected: np.ndarray
    again: np.ndarray
    present: np.ndarray
    bits: int


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    fields = sorted({field for party in SHIPPED.party for field in party.fields})
    return simulated(PEOPLE, seed=1, fields=fields)


@pytest.fixture(scope="module")
def hardened(crowd: Crowd) -> dict[str, Seen]:
    """All CLKs of the profile, with its own diffusion."""
    return {clk: seen(crowd, clk) for clk in CLKS}


def seen(crowd: Crowd, name: str, *, diffusion: int | None = None) -> Seen:
    clk = next(clk for clk in SHIPPED.clk if clk.id == name)
    clk = clk.model_copy(update={"diffusion": SHIPPED.diffusion_of(clk)} if diffusion is None
                         else {"diffusion": diffusion})  # fmt: skip
    first, second = (encoded(SHIPPED, clk, crowd, fixed_key(n)) for n in (1, 2))
    guessed = expected(SHIPPED, clk, crowd)
    return Seen(observed(first), guessed, observed(second), first.present, clk.length)


def view(one: Seen) -> View:
    return seen_and_expected(one.observed, one.expected, bits=one.bits, present=one.present)


@pytest.mark.long
@pytest.mark.threat("T01")
def test_plain_clks_fall(crowd: Crowd, record_property: Record) -> None:
    """The attack works, so that its failure means something."""
    plain = seen(crowd, CLKS[0], diffusion=0)
    found = score(match_graphs(plain.observed, plain.expected)).share
    record_property(f"plain CLKs, {PEOPLE:,} people, re-identified", f"{found:.1%}")
    assert found >= 0.95


@pytest.mark.long
@pytest.mark.threat("T01")
def test_nobody_is_found_blindly(hardened: dict[str, Seen], record_property: Record) -> None:
    """From the CLK that shows most."""
    one = max(
        hardened.values(),
        key=lambda one: correlation(
            *(centred(m, one.present) for m in (one.observed, one.expected))
        ),
    )
    found = score(match_graphs(one.observed, one.expected)).share
    record_property("hardened, knowing nobody", f"{found:.2%}")
    assert found <= 0.01


@pytest.mark.threat("T01")
def test_two_keys_do_not_correlate(hardened: dict[str, Seen], record_property: Record) -> None:
    found = {
        name: correlation(centred(one.observed, one.present), centred(one.again, one.present))
        for name, one in hardened.items()
    }
    record_property("correlation under two keys", f"{max(found.values()):.3f}")
    assert max(map(abs, found.values())) <= 0.15, found


@pytest.mark.threat("T02")
def test_known_people_give_nobody_away(hardened: dict[str, Seen], record_property: Record) -> None:
    """The attacker knows 5 % of the people with their records."""
    shares = {
        name: best_guesses([view(one)], known=KNOWN, seed=1).share for name, one in hardened.items()
    }
    record_property("hardened, 5 % known, worst CLK", f"{max(shares.values()):.2%}")
    assert max(shares.values()) <= MOST, shares


@pytest.mark.threat("T03")
def test_all_clks_of_a_record_together(hardened: dict[str, Seen], record_property: Record) -> None:
    """Noise of two CLKs averages out; each party sends at most as many as the profile says."""
    worst = 0.0
    for party in SHIPPED.party:
        views = [view(hardened[clk.id]) for clk in SHIPPED.clks_of(party)]
        if len(views) > 1:
            worst = max(worst, best_guesses(views, known=KNOWN, seed=1).share)
    record_property("all CLKs of a party's records together, 5 % known", f"{worst:.2%}")
    assert worst <= MOST


@pytest.mark.threat("T04")
def test_match_keys_make_few_records_unique(record_property: Record) -> None:
    """Two datasets seen together, 10,000 people with families, attacker with every typo."""
    registers = simulated_registers(SHIPPED, 10_000, seed=1)
    names, filled = list(registers), SHIPPED.study.fills_nulls
    worst = 0.0
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            pair = [registers[one], registers[other]]
            share = unique_by_structure(pair, fillers=filled, clk_fillers=filled).share
            worst = max(worst, share)
    record_property("match keys: unique by structure at 10,000, worst two datasets", f"{worst:.3%}")
    assert worst <= 0.001


@pytest.mark.threat("T06")
def test_who_holds_the_key_needs_no_attack(crowd: Crowd, record_property: Record) -> None:
    """Encodings cannot stop this; it is here so that nobody believes they could."""
    clk, key = SHIPPED.clk[0], fixed_key()
    listed = simulated(PEOPLE, seed=1, fields=list(crowd.columns), registered=None)
    made = dictionary_attack(SHIPPED, clk, crowd, listed, key, timer=time.perf_counter)
    record_property(
        "with the study key: named from a list without typing errors", f"{made.found.share:.1%}"
    )
    assert made.found.share > 0.9
    assert made.hours_for(10_000_000) < 24
