"""Estimates: sums of probabilities, and a threshold that nobody has to guess."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from linkage.errors import MatchingFailed
from linkage.matching.estimates import (
    CURVE,
    LEAST_THRESHOLD,
    Estimate,
    below,
    estimate,
    one_to_one,
    one_to_one_reference,
)

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


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.1, 0.5, 0.9])),
        max_size=60,
    )
)
def test_one_to_one_is_the_reference(pairs: list[tuple[int, int, float]]) -> None:
    left, right = (np.array([p[side] for p in pairs], np.uint32) for side in (0, 1))
    probability = np.array([p[2] for p in pairs], np.float64)
    taken = one_to_one(left, right, probability)
    assert taken.tolist() == one_to_one_reference(left, right, probability).tolist()


def test_a_wanted_precision_links_down_to_it() -> None:
    accepted = np.array([0.99, 0.97, 0.8, 0.6, 0.3])
    made = estimate(accepted, accepted, expected=5.0, precision=0.9)
    assert made.link_threshold == 0.8  # (.99 + .97 + .8) / 3 = .92; with .6 it is .84
    assert made.chosen.precision == pytest.approx(0.92)
    assert made.wanted_precision == 0.9
    assert estimate(accepted, accepted, 5.0, precision=0.97).link_threshold == 0.97
    none = estimate(accepted, accepted, 5.0, precision=0.995)
    assert none.link_threshold == 1.0
    assert none.chosen.links == 0
    assert estimate(accepted, accepted, 5.0, precision=0.5).link_threshold == 0.6


def test_equal_probabilities_are_linked_together_or_not_at_all() -> None:
    made = estimate(np.array([1.0, 0.8, 0.8, 0.8]), np.zeros(0), 4.0, precision=0.88)
    assert made.link_threshold == 1.0
    assert estimate(np.array([1.0, 0.8, 0.8]), np.zeros(0), 4.0, precision=0.86).chosen.links == 3


def test_nobody_need_look_below_the_review_threshold() -> None:
    candidates = np.array([0.95] * 100 + [0.4, 0.3, 0.3, 0.2, 0.1, 0.05])
    review = estimate(candidates[:100], candidates, expected=96.0, precision=0.99).review
    # .96 matches may lie below: .05 + .1 + .2 + .3 + .3 is .95, and with .4 it is too many.
    assert (review.threshold, review.pairs) == (0.4, 101)
    assert review.lost == pytest.approx(0.95 / 96)
    strict = estimate(candidates[:100], candidates, expected=96.0, precision=1.0).review
    assert (strict.threshold, strict.pairs, strict.lost) == (0.05, 106, 0.0)
    usual = estimate(candidates[:100], candidates, expected=96.0)
    assert usual.link_threshold == 0.95
    assert (usual.review.threshold, usual.review.pairs) == (0.4, 1)
    assert usual.review.matches == pytest.approx(0.4)
    assert usual.review.matches_interval == pytest.approx(1.96 * np.sqrt(0.4 * 0.6))


def test_what_was_never_proposed_widens_recall_only() -> None:
    accepted = np.full(100, 0.95)
    sure = estimate(accepted, accepted, 110.0).chosen
    less = estimate(accepted, accepted, 110.0, spread=10.0).chosen
    assert less.precision_interval == sure.precision_interval
    assert less.recall_interval > sure.recall_interval


@pytest.mark.parametrize("precision", [float("nan"), 0.4, 1.1, -1.0, float("inf")])
def test_a_wanted_precision_is_a_share(precision: float) -> None:
    with pytest.raises(MatchingFailed, match="wanted precision"):
        estimate(np.zeros(1), np.zeros(1), 1.0, precision=precision)


def test_what_lies_below_any_threshold_gives_back_the_review_threshold() -> None:
    candidates = np.array([0.95] * 100 + [0.4, 0.3, 0.3, 0.2, 0.1, 0.05])
    made = estimate(candidates[:100], candidates, expected=96.0)
    at = {one.threshold: one for one in below(candidates, made)}
    assert sorted(at) == list(at)
    assert set(CURVE) <= set(at)
    unseen, unlinked = at[made.review.threshold], at[made.link_threshold]
    assert unlinked.pairs - unseen.pairs == made.review.pairs == 1
    assert unlinked.matches - unseen.matches == pytest.approx(made.review.matches)
    assert unseen.matches / 96 == pytest.approx(made.review.lost)
    spread = unlinked.variance - unseen.variance
    assert 1.96 * np.sqrt(spread) == pytest.approx(made.review.matches_interval)
    assert (at[0.3].pairs, at[0.05].pairs) == (3, 0), "exclusive"


def test_thresholds_are_finer_where_people_want_them() -> None:
    assert sorted(set(CURVE)) == list(CURVE)
    assert {0.01, 0.5, 0.99, 0.995, 0.999} < set(CURVE)
