"""Distances and differences: right, honest about chance, and made of shown counts only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import binomtest

from sites.cohort.disclosure import HIDDEN, CellRule
from sites.cohort.report_numbers import (
    TOGETHER,
    difference,
    distance,
    js_distance,
    readable,
    standardized_difference,
    wilson,
)

SHARES = st.lists(st.integers(0, 50), min_size=2, max_size=6).filter(lambda n: sum(n) > 0)


@given(SHARES, SHARES)
def test_the_distance_is_scipy_s(one: list[int], other: list[int]) -> None:
    size = min(len(one), len(other))
    p, q = np.array(one[:size], float), np.array(other[:size], float)
    if p.sum() and q.sum():
        p, q = p / p.sum(), q / q.sum()
        assert js_distance(p, q) == pytest.approx(jensenshannon(p, q, 2), abs=1e-7)


def test_the_ends_of_the_distance() -> None:
    assert js_distance([1, 0], [0, 1]) == 1
    assert js_distance([0.3, 0.7], [0.3, 0.7]) == 0


def test_the_interval_holds_the_true_distance_mostly() -> None:
    """Of 200 samples of a population that differs, at least 85 % of the intervals hold it."""
    draw = np.random.default_rng(5)
    true, reference = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    apart = float(js_distance(true, reference))
    found = [distance(draw.multinomial(400, true).tolist(), reference.tolist()) for _ in range(200)]
    held = sum(one["low"] <= apart <= one["high"] for one in found)
    assert held >= 170
    assert all(one["distance"] > one["chance"] for one in found)


def test_a_sample_of_the_reference_is_as_close_as_chance() -> None:
    draw = np.random.default_rng(6)
    reference = [0.3, 0.3, 0.4]
    found = [distance(draw.multinomial(300, reference).tolist(), reference) for _ in range(200)]
    beyond = sum(one["distance"] > one["chance"] for one in found)
    assert 2 <= beyond <= 22  # 5 % of 200, and four standard errors


def test_the_same_counts_give_the_same_figures() -> None:
    assert distance([40, 60], [0.5, 0.5]) == distance([40, 60], [0.5, 0.5])


@pytest.mark.parametrize(
    ("shown", "total", "known"),
    [
        ({"a": 20, "b": 30}, 50, {"a": 20, "b": 30}),
        ({"a": 20, "b": HIDDEN, "c": HIDDEN}, 50, {"a": 20, TOGETHER: 30}),
        ({"a": HIDDEN, "b": HIDDEN}, "<11", {}),
        (None, 50, {}),
    ],
)
def test_what_a_reader_knows_of_a_table(shown: object, total: object, known: object) -> None:
    assert readable(shown, total) == known  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 40), min_size=3, max_size=5), st.integers(2, 12))
def test_no_figure_depends_on_how_hidden_counts_are_split(cells: list[int], minimum: int) -> None:
    """Moving people between hidden groups changes nothing that is computed."""
    rule = CellRule(minimum)
    names = "abcde"[: len(cells)]
    shown = rule.show_table(dict(zip(names, cells, strict=True)))
    known = readable(shown, rule.show(sum(cells)))
    if shown is None or TOGETHER not in known:
        return
    hidden = [name for name in names if shown[name] == HIDDEN]
    assert known[TOGETHER] == sum(cells[names.index(name)] for name in hidden)
    assert not set(hidden) & set(known)


def test_the_standardized_difference_of_two_groups_is_the_usual_one() -> None:
    p, q = 0.6, 0.45
    usual = (p - q) / np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    found = standardized_difference(np.array([p, 1 - p]), np.array([q, 1 - q]))
    assert found == pytest.approx(usual)
    assert standardized_difference(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0


def test_groups_that_differ_are_beyond_chance_and_others_are_not() -> None:
    apart = difference({"f": 150, "m": 50}, {"f": 40, "m": 60})
    alike = difference({"f": 100, "m": 100}, {"f": 49, "m": 51})
    assert apart is not None
    assert alike is not None
    assert apart["difference"] > apart["chance"]
    assert alike["difference"] < alike["chance"]


def test_categories_that_one_side_hides_are_taken_together() -> None:
    one = {"a": 40, "b": 30, TOGETHER: 30}
    other = {"a": 20, "b": 15, "c": 12, "d": 13}
    assert difference(one, other) == difference(one, {"a": 20, "b": 15, TOGETHER: 25})
    assert difference({"a": 40}, {"a": 20}) is None
    assert difference({}, {"a": 20, "b": 20}) is None


@given(st.integers(1, 200), st.data())
def test_wilson_is_scipy_s(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-9)
