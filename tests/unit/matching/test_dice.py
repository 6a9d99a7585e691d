"""The kernel: equal to its reference and to anonlink, inclusive, bounded."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from linkage.errors import EncodingRefused, TooManyCandidates
from linkage.matching.dataset import Words, popcounts
from linkage.matching.dice import (
    Bound,
    Intersections,
    dice,
    dice_bound,
    intersections,
    ones_between,
    pairs_reaching,
    similar_pairs,
)
from linkage.matching.kernel import SORTED
from linkage.matching.planes import TILE

WORDS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**64 - 1])


def filters(n: int, bits: int, density: float, seed: int) -> Words:
    drawn = np.random.default_rng(seed).random((n, bits)) < density
    return np.packbits(drawn, axis=1).view(np.uint64)


def reference(
    left: Words, right: Words, bound: Bound, triangle: int | None = None
) -> list[list[int]]:
    """The answer of `pairs_reaching`, by `intersections`: left rows, right rows, ones."""
    parts = [np.empty((3, 0), np.int64)]
    for start in range(0, len(left), 64):
        part = slice(start, start + 64)
        ones = intersections(left[part], right)
        least = bound.a[part, None] * bound.b + bound.c[part, None] * bound.d
        i, j = np.nonzero(ones >= least)
        later = slice(None) if triangle is None else j > i + start + triangle
        parts.append(np.stack([i + start, j, ones[i, j]])[:, later])
    return np.concatenate(parts, axis=1).tolist()


def answered(found: Intersections) -> list[list[int]]:
    return [found.left.tolist(), found.right.tolist(), found.ones.tolist()]


def flat(left: Words, right: Words, least: float) -> Bound:
    """The same least intersection for every pair."""
    return Bound(
        np.full(len(left), least), np.ones(len(right)), np.zeros(len(left)), np.zeros(len(right))
    )


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    n=st.integers(0, 5),
    m=st.integers(0, 5),
    words=st.sampled_from([8, 16, 32]),
    least=st.floats(0, 600),
)
def test_kernel_equals_reference(
    data: st.DataObject, n: int, m: int, words: int, least: float
) -> None:
    left = data.draw(arrays(np.uint64, (n, words), elements=WORDS))
    right = data.draw(arrays(np.uint64, (m, words), elements=WORDS))
    expected = intersections(left, right)
    found = pairs_reaching(left, right, flat(left, right, least))
    i, j = np.nonzero(expected >= least)
    assert found.left.tolist() == i.tolist()
    assert found.right.tolist() == j.tolist()
    assert found.ones.tolist() == expected[i, j].tolist()


@pytest.mark.parametrize("m", [TILE - 1, TILE, TILE + 1, 3 * TILE + 7])
def test_kernel_equals_reference_around_the_size_of_a_tile(m: int) -> None:
    left, right = filters(33, 1024, 0.5, 1), filters(m, 1024, 0.5, 2)
    expected = intersections(left, right)
    found = pairs_reaching(left, right, flat(left, right, 270))
    assert list(zip(found.left, found.right, found.ones, strict=True)) == [
        (i, j, expected[i, j]) for i, j in np.argwhere(expected >= 270)
    ]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 150),
    words=st.sampled_from([8, 16, 32, 64]),
    density=st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.9, 1.0]),
    least=st.floats(0.3, 1.0),
    start=st.none() | st.integers(0, 20),
    threads=st.integers(1, 3),
)
def test_kernel_equals_reference_at_every_density_and_bound(
    seed: int,
    n: int,
    words: int,
    density: float,
    least: float,
    start: int | None,
    threads: int,
) -> None:
    draw = np.random.default_rng(seed)
    right = filters(n, words * 64, density, seed)
    right[n // 2 :] ^= filters(n - n // 2, words * 64, 0.05, seed + 1)
    left = right[start : start + 40] if start is not None else right[draw.permutation(n)[:50]]
    ones = popcounts(right).mean() * least
    bound = Bound(
        draw.normal(1, 0.2, len(left)),
        draw.normal(ones, ones / 20, n),
        draw.normal(0, 1, len(left)),
        draw.normal(0, 5, n),
    )
    found = pairs_reaching(left, right, bound, triangle=start, threads=threads)
    assert answered(found) == reference(left, right, bound, start)


@pytest.mark.parametrize("triangle", [None, 0])
def test_kernel_equals_reference_in_large_datasets(triangle: int | None) -> None:
    right = filters(SORTED + 300, 512, 0.3, 12)
    right[-200:] = right[:200] ^ filters(200, 512, 0.02, 13)
    left = right[:700]
    for least in (0.8, 0.55):
        bound = dice_bound(popcounts(left), popcounts(right), least)
        found = pairs_reaching(left, right, bound, triangle=triangle, threads=2)
        assert len(found.left) >= 200
        assert answered(found) == reference(left, right, bound, triangle)


def test_triangle_sees_each_pair_within_a_dataset_once() -> None:
    rows = filters(2 * TILE + 5, 512, 0.5, 3)
    every = intersections(rows, rows)
    for start, stop in ((0, len(rows)), (40, 90), (TILE, TILE + 3)):
        part = rows[start:stop]
        found = pairs_reaching(part, rows, flat(part, rows, 140), triangle=start)
        expected = [
            (i, j) for i in range(stop - start) for j in range(start + i + 1, len(rows))
            if every[start + i, j] >= 140
        ]  # fmt: skip
        assert list(zip(found.left, found.right, strict=True)) == expected


def test_dice_is_that_of_anonlink() -> None:
    similarities = pytest.importorskip("anonlink.similarities", reason="no wheel for this Python")
    left, right = filters(20, 1024, 0.4, 4), filters(20, 1024, 0.4, 5)
    right[:7] = left[:7]
    right[:7, :3] ^= np.uint64(0b1011)
    sides = [[_bitarray(row) for row in side] for side in (left, right)]
    theirs, (i, j) = similarities.dice_coefficient_python(sides, 0.41, k=None)
    pairs, value = similar_pairs(left, right, 0.41)
    ours = dict(zip(zip(pairs.left, pairs.right, strict=True), value, strict=True))
    assert len(ours) > 7
    assert ours == dict(zip(zip(i, j, strict=True), theirs, strict=True))


def _bitarray(row: Words) -> Any:
    bits = importlib.import_module("bitarray").bitarray(endian="big")
    bits.frombytes(row.tobytes())
    return bits


@settings(max_examples=50, deadline=None)
@given(a=st.integers(1, 60), b=st.integers(1, 60), common=st.integers(0, 60))
def test_the_threshold_is_inclusive_on_the_exact_value(a: int, b: int, common: int) -> None:
    common = min(a, b, common)
    left, right = np.zeros((1, 512), bool), np.zeros((1, 512), bool)
    left[0, :a], right[0, a - common : a - common + b] = True, True
    one, other = (np.packbits(side, axis=1).view(np.uint64) for side in (left, right))
    exact = 2.0 * common / (a + b)
    assert dice(one, other).tolist() == [exact]
    if common:
        assert similar_pairs(one, other, exact)[1].tolist() == [exact]
    if exact < 1:
        above = math.nextafter(exact, 2.0)
        assert not len(similar_pairs(one, other, above)[1])


@settings(max_examples=30, deadline=None)
@given(rows=arrays(np.uint64, (2, 8), elements=WORDS))
def test_dice_is_symmetric_bounded_and_one_for_itself(rows: Words) -> None:
    one, other = rows[:1], rows[1:]
    assert dice(one, other) == dice(other, one)
    assert 0 <= dice(one, other)[0] <= 1
    assert dice(one, one)[0] == (1.0 if one.any() else 0.0)


def test_listed_intersections_equal_reference() -> None:
    left, right = filters(9, 512, 0.5, 6), filters(5, 512, 0.5, 7)
    i, j = np.array([0, 8, 3, 3]), np.array([4, 0, 2, 2])
    assert ones_between(left, right, i, j).tolist() == intersections(left, right)[i, j].tolist()


def test_more_pairs_than_the_first_buffer_holds_are_all_found() -> None:
    full = np.full((300, 8), 2**64 - 1, np.uint64)
    found = pairs_reaching(full, full, flat(full, full, 512))
    assert len(found.left) == 90_000
    assert (found.left[300], found.right[300]) == (1, 0)


def test_a_flood_of_pairs_is_refused() -> None:
    full = np.full((100, 8), 2**64 - 1, np.uint64)
    with pytest.raises(TooManyCandidates, match="the limit is 9999"):
        pairs_reaching(full, full, flat(full, full, 1), limit=9999)


@pytest.mark.threat("P07")
@pytest.mark.parametrize("at_least", [0.0, -0.1, 1.1, math.nan])
def test_impossible_thresholds_are_refused(at_least: float) -> None:
    rows = filters(2, 512, 0.5, 8)
    with pytest.raises(EncodingRefused, match="Dice threshold"):
        similar_pairs(rows, rows, at_least)


def test_malformed_filters_are_refused() -> None:
    good = filters(2, 512, 0.5, 9)
    with pytest.raises(EncodingRefused, match="different lengths"):
        intersections(good, filters(2, 1024, 0.5, 9))
    with pytest.raises(EncodingRefused, match="multiple of 512"):
        intersections(good[:, :5], good[:, :5])
    with pytest.raises(EncodingRefused, match="64-bit words"):
        intersections(good.view(np.uint8), good)  # type: ignore[arg-type]
    with pytest.raises(EncodingRefused, match="differ in number"):
        dice(good, good[:1])


def test_a_bound_must_fit_and_be_finite() -> None:
    rows = filters(3, 512, 0.5, 10)
    with pytest.raises(EncodingRefused, match="does not fit"):
        pairs_reaching(rows, rows, flat(rows[:2], rows, 1))
    with pytest.raises(EncodingRefused, match="finite"):
        pairs_reaching(rows, rows, flat(rows, rows, math.nan))


def test_empty_sides_have_no_pairs() -> None:
    rows, none = filters(3, 512, 0.5, 11), np.zeros((0, 8), np.uint64)
    assert len(pairs_reaching(rows, none, flat(rows, none, 0)).left) == 0
    assert len(similar_pairs(none, rows, 0.5)[1]) == 0
    assert dice_bound(popcounts(none), popcounts(rows), 0.5).a.shape == (0,)
