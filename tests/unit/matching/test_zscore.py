"""The hypergeometric z: its formula, its calibration, and a bound that loses no pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from linkage.matching.dataset import popcounts
from linkage.matching.dice import intersections, pairs_reaching
from linkage.matching.zscore import Calibration, bound_for, calibrate, raw_z, seed_for, zscores
from tests.unit.matching.test_dice import filters


@settings(max_examples=50, deadline=None)
@given(a=st.integers(1, 511), b=st.integers(1, 511), ones=st.integers(0, 511))
def test_z_is_the_standard_score_of_the_hypergeometric_distribution(
    a: int, b: int, ones: int
) -> None:
    chance = hypergeom(512, a, b)
    z = raw_z(np.array([ones]), np.array([a]), np.array([b]), 512)
    assert z[0] == pytest.approx((ones - chance.mean()) / chance.std())


def test_calibration_takes_centre_and_spread_out() -> None:
    left, right = filters(400, 1024, 0.5, 1), filters(500, 1024, 0.3, 2)
    found = calibrate(left, right, seed=1, label="x")
    ones = intersections(left, right)
    expected = raw_z(ones, popcounts(left)[:, None], popcounts(right)[None, :], 1024)
    assert found.centre == np.median(expected)  # fewer than a million pairs: all are taken
    assert found.scale == pytest.approx(1.0, abs=0.02)
    z = zscores(ones, popcounts(left)[:, None], popcounts(right)[None, :], 1024, found)
    assert np.median(z) == pytest.approx(0.0, abs=0.01)


def test_calibration_depends_on_seed_and_label_only() -> None:
    left, right = filters(1001, 512, 0.5, 3), filters(1000, 512, 0.5, 4)
    once = calibrate(left, right, seed=1, label="x")
    assert calibrate(left.copy(), right.copy(), seed=1, label="x") == once
    assert calibrate(left, right, seed=2, label="x") != once
    assert seed_for(1, "x") != seed_for(1, "y")
    assert seed_for(11, "x") != seed_for(1, "1/x")


def test_within_a_dataset_no_row_meets_itself() -> None:
    rows = filters(20, 512, 0.5, 5)
    assert calibrate(rows, rows, seed=1, label="x").centre < 1
    # Were rows paired with themselves, a twentieth of all pairs would have z = 22.6.
    twice = np.concatenate([rows[:1]] * 20)
    assert calibrate(twice, twice, seed=1, label="x").centre == pytest.approx(22.6, abs=0.1)


def test_too_few_pairs_fall_back_to_theory() -> None:
    assert calibrate(
        filters(3, 512, 0.5, 6), filters(3, 512, 0.5, 7), seed=1, label="x"
    ) == Calibration(0.0, 1.0)


def test_equal_filters_cannot_blow_up_z() -> None:
    same = np.concatenate([filters(1, 512, 0.5, 8)] * 30)
    other = np.concatenate([filters(1, 512, 0.5, 9)] * 30)
    assert calibrate(same, other, seed=1, label="x").scale == 0.5


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    density=st.floats(0.1, 0.9),
    centre=st.floats(-0.5, 0.5),
    scale=st.floats(0.5, 2),
    floor=st.floats(-2, 4),
)
def test_the_bound_loses_no_pair(
    seed: int, density: float, centre: float, scale: float, floor: float
) -> None:
    left, right = filters(12, 512, density, seed), filters(12, 512, density, seed + 1)
    a, b = popcounts(left), popcounts(right)
    calibration = Calibration(centre, scale)
    z = zscores(intersections(left, right), a[:, None], b[None, :], 512, calibration)
    for least in (floor, float(z.flat[7])):  # an arbitrary floor, and one on an exact value
        found = pairs_reaching(left, right, bound_for(a, b, 512, calibration, least))
        reached = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
        assert {tuple(pair) for pair in np.argwhere(z >= least).tolist()} <= reached
        assert all(z[pair] >= least - 1e-6 for pair in reached)
