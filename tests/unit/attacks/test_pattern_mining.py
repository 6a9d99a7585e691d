"""Frequent patterns name people of plain CLKs; diffused CLKs show none."""

from __future__ import annotations

import numpy as np
import pytest

from linkage.evaluation.attacks.listed_tokens import listed_tokens
from linkage.evaluation.attacks.pattern_mining import mined, named, pattern_attack
from linkage.evaluation.attacks.similarity import encoded
from tests.unit.attacks.attacked import STUDY, clk, fixed_key, halves, people


def test_plain_clks_show_their_n_grams() -> None:
    held, spec = people(500), clk(0)
    column = encoded(STUDY, spec, held, fixed_key())
    tokens = listed_tokens(spec, held)
    assert pattern_attack(column, tokens, seed=1).share >= 0.8
    patterns = mined(column.values)
    given = named(patterns, tokens)
    right = [(patterns.held[:, k] == tokens[:, g]).mean() for k, g in enumerate(given) if g >= 0]
    assert len(right) >= 30
    assert np.median(right) >= 0.97


def test_a_list_with_typing_errors_still_names_people() -> None:
    held, listed, truth = halves(700, 700, registered="enclave")
    column = encoded(STUDY, clk(0), held, fixed_key())
    found = pattern_attack(column, listed_tokens(clk(0), listed), seed=1, truth=truth)
    assert found.share >= 0.5


@pytest.mark.threat("T01")
def test_diffused_clks_show_nothing() -> None:
    held = people(500)
    column = encoded(STUDY, clk(10), held, fixed_key())
    assert pattern_attack(column, listed_tokens(clk(10), held), seed=1).share <= 0.01


def test_nothing_common_is_no_pattern() -> None:
    assert len(mined(np.zeros((0, 32), np.uint8))) == 0
    assert len(mined(np.zeros((50, 32), np.uint8))) == 0
    assert len(mined(np.full((50, 32), 255, np.uint8))) == 0
