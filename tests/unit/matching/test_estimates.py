"""Estimates: sums of probabilities, and a threshold that nobody has to guess."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from linkage.matching.estimates import LEAST_THRESHOLD, Estimate, estimate, one_to_one

P = arrays(np.float64, st.integers(0, 30), elements=st.floats(0, 1))


def test_precision_recall_and_threshold_by_hand() -> None:
    accepted = np.array([0.6, 1.0, 0.9, 0.2])
    made = estimate(accepted, accepted, 3.0)
    # F1 after each link: 2*1/4, 2*1.9/5, 2*2.5/6; the fourth is below one half.
    assert made.link_threshold == 0.6
    assert made.chosen.links == 3
    assert made.chosen.precision == pytest.approx(2.5 / 3)
    assert made.chosen.recall == pytest.approx(2.5 / 3.0)
    assert made.chosen.f1 == pytest.approx(5 / 6)


def test_the_threshold_is_inclusive() -> None:
    made = estimate(np.array([0.75, 0.5]), np.array([0.75, 0.5]), 1.25)
    assert [p.links for p in made.curve if p.threshold in (0.5, 0.51, 0.75, 0.76)] == [2, 1, 1, 0]


def test_without_matches_nothing_is_linked() -> None:
    for p in (np.zeros(0), np.array([0.49, 0.3])):
        made = estimate(p, p, float(p.sum()))
        assert made.link_threshold == 1.0
        assert made.chosen.links == 0


def test_the_histogram_holds_every_candidate() -> None:
    made = estimate(np.array([1.0]), np.array([0.0, 0.019, 0.02, 1.0]), 1.0)
    assert sum(made.histogram) == 4
    assert (made.histogram[0], made.histogram[1], made.histogram[-1]) == (2, 1, 1)


@given(p=P, more=st.floats(0, 10))
def test_the_threshold_is_the_best_of_all(p: np.ndarray, more: float) -> None:
    expected = float(p.sum()) + more
    made = estimate(p, p, expected)
    for t in p[p >= LEAST_THRESHOLD]:
        other = p[p >= t]
        assert made.chosen.f1 >= 2 * other.sum() / (len(other) + expected) - 1e-12
    assert made.link_threshold >= LEAST_THRESHOLD


@given(p=P)
def test_estimates_are_shares_and_survive_json(p: np.ndarray) -> None:
    made = estimate(p, p, float(p.sum()))
    for point in (made.chosen, *made.curve):
        for share in (point.precision, point.recall, point.precision_interval):
            assert 0 <= share <= 1 + 1e-12
    links = [point.links for point in made.curve]
    assert links == sorted(links, reverse=True)
    assert Estimate.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_one_to_one_takes_the_best_and_breaks_ties_by_row() -> None:
    left = np.array([0, 0, 1, 2, 2], np.uint32)
    right = np.array([0, 1, 1, 3, 2], np.uint32)
    p = np.array([0.9, 0.95, 0.5, 0.7, 0.7])
    assert one_to_one(left, right, p).tolist() == [1, 4]
