"""The kernel at its edges: no rows, one row, its limit, its longest filters, odd bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from linkage.errors import EncodingRefused, TooManyCandidates
from linkage.matching import kernel
from linkage.matching.dataset import Words, popcounts
from linkage.matching.dice import (
    BLOCK,
    Bound,
    Intersections,
    dice,
    dice_bound,
    intersections,
    pair_blocks,
    pairs_reaching,
    similar_pairs,
)
from linkage.matching.planes import TILE

FULL = 2**64 - 1


def filters(n: int, words: int, density: float, seed: int) -> Words:
    drawn = np.random.default_rng(seed).random((n, words * 64)) < density
    return np.packbits(drawn, axis=1).view(np.uint64)


def flat(left: Words, right: Words, least: float) -> Bound:
    none, all_ = np.zeros(len(left)), np.ones(len(right))
    return Bound(np.full(len(left), least), all_, none, np.zeros(len(right)))


def triples(found: Intersections) -> list[tuple[int, int, int]]:
    return list(zip(found.left.tolist(), found.right.tolist(), found.ones.tolist(), strict=True))


@pytest.mark.parametrize("words", range(8, 65, 8))
def test_every_length_up_to_4096_bits(words: int) -> None:
    left, right = filters(7, words, 0.5, 1), filters(TILE + 3, words, 0.5, 2)
    right[5] = right[-1] = left[2]
    left[3], right[7] = FULL, FULL  # as many ones as there can be
    left[4], right[8] = 0, 0
    expected = intersections(left, right)
    for least in (0, 1, words * 16, words * 64 - 1, words * 64, words * 64 + 0.5, 1e6):
        i, j = np.nonzero(expected >= least)
        found = pairs_reaching(left, right, flat(left, right, least), threads=2)
        assert triples(found) == list(
            zip(i.tolist(), j.tolist(), expected[i, j].tolist(), strict=True)
        )
    pairs, value = similar_pairs(left, right, 1.0)
    assert triples(pairs) == [(i, j, int(expected[i, j])) for i, j in ((2, 5), (2, 258), (3, 7))]
    assert value.tolist() == [1.0] * 3


def test_longer_filters_are_refused() -> None:
    """The numbers of the kernel have sixteen planes: with 32,768 bits it would count wrongly."""
    long = np.full((2, 72), FULL, np.uint64)
    with pytest.raises(EncodingRefused, match="4,096 at most"):
        pairs_reaching(long, long, flat(long, long, 1))
    with pytest.raises(EncodingRefused, match="4,096 at most"):
        dice(long, long)
    assert 1 << (kernel.DEPTH - 2) > 64 * 64


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("m", [0, 1, 2])
@pytest.mark.parametrize("threads", [1, 8])
def test_few_rows(n: int, m: int, threads: int) -> None:
    left, right = np.full((n, 8), FULL, np.uint64), np.full((m, 8), FULL, np.uint64)
    every = [(i, j, 512) for i in range(n) for j in range(m)]
    assert triples(pairs_reaching(left, right, flat(left, right, 512), threads=threads)) == every
    assert not triples(pairs_reaching(left, right, flat(left, right, 513), threads=threads))
    pairs, value = similar_pairs(left, right, 1.0, threads=threads)
    assert (triples(pairs), value.tolist()) == (every, [1.0] * len(every))
    found = pairs_reaching(right, right, flat(right, right, 0), triangle=0, threads=threads)
    assert triples(found) == [(0, 1, 512)] * (m == 2)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_limit_is_inclusive(threads: int) -> None:
    rows = np.full((BLOCK + 10, 8), FULL, np.uint64)
    pairs = len(rows) * 4
    bound = flat(rows, rows[:4], 512)
    found = pairs_reaching(rows, rows[:4], bound, limit=pairs, threads=threads)
    assert len(found.left) == pairs
    for limit in (pairs - 1, 1, 0):
        with pytest.raises(
            TooManyCandidates, match=f"the limit is {limit}$|the limit is {limit}\\."
        ):
            pairs_reaching(rows, rows[:4], bound, limit=limit, threads=threads)
    none = pairs_reaching(rows, rows[:4], flat(rows, rows[:4], 513), limit=0, threads=threads)
    assert len(none.left) == 0


def test_what_is_dropped_counts_for_its_block_only() -> None:
    rows = np.full((4 * BLOCK, 8), FULL, np.uint64)
    bound = flat(rows, rows[:100], 512)

    def first(found: Intersections) -> Intersections:
        kept = found.right == 0
        return Intersections(found.left[kept], found.right[kept], found.ones[kept])

    blocks = list(pair_blocks(rows, rows[:100], bound, limit=100 * BLOCK, keep=first))
    assert sum(len(block.left) for block in blocks) == len(rows)
    with pytest.raises(TooManyCandidates):
        list(pair_blocks(rows, rows[:100], bound, limit=6_000, keep=first))
    with pytest.raises(TooManyCandidates):
        list(pair_blocks(rows, rows[:100], bound, limit=100 * BLOCK))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
@pytest.mark.parametrize("part", "abcd")
def test_no_sum_of_a_bound_may_overflow(value: float, part: str) -> None:
    rows = filters(3, 8, 0.5, 10)
    parts = {name: np.full(3, 1e150 if value == 1e200 else 1.0) for name in "abcd"}
    parts[part][1] = value
    with pytest.raises(EncodingRefused, match="finite"):
        pairs_reaching(rows, rows, Bound(**parts))


def test_bounds_below_zero_are_reached_by_all() -> None:
    rows = np.concatenate([filters(TILE + 1, 8, 0.3, 4), np.zeros((2, 8), np.uint64)])
    for least in (-1e9, -0.5, 0.0):
        assert len(pairs_reaching(rows, rows, flat(rows, rows, least)).left) == len(rows) ** 2
    signs = Bound(np.ones(len(rows)), np.full(len(rows), -5.0), *(np.ones(len(rows)),) * 2)
    assert len(pairs_reaching(rows, rows, signs).left) == len(rows) ** 2


def test_a_triangle_begins_at_a_row() -> None:
    rows = filters(3, 8, 0.5, 3)
    with pytest.raises(EncodingRefused, match="counted from 0"):
        pairs_reaching(rows, rows, flat(rows, rows, 0), triangle=-1)
    assert len(pairs_reaching(rows, rows, flat(rows, rows, 0), triangle=0).left) == 3
    assert len(pairs_reaching(rows[2:], rows, flat(rows[2:], rows, 0), triangle=2).left) == 0


def test_the_least_threshold_and_the_greatest() -> None:
    left = np.zeros((3, 64), np.uint64)
    left[0, 0], left[1] = 1, FULL
    exact = 2.0 / 4097  # one bit of 4,096 in common
    assert triples(similar_pairs(left, left, exact)[0]) == [
        (0, 0, 1),
        (0, 1, 1),
        (1, 0, 1),
        (1, 1, 4096),
    ]
    assert len(similar_pairs(left, left, math.nextafter(exact, 1))[1]) == 2
    assert len(similar_pairs(left, left, 5e-324)[1]) == 4  # not the empty filter
    assert similar_pairs(left, left, 1.0)[1].tolist() == [1.0, 1.0]
    assert len(similar_pairs(left[2:], left, 5e-324)[1]) == 0


def test_rows_that_are_read_only_or_strided_are_compared_as_they_are() -> None:
    rows = filters(40, 16, 0.5, 6)
    fixed = rows.copy()
    fixed.flags.writeable = False
    expected = triples(similar_pairs(rows, rows, 0.5)[0])
    assert triples(similar_pairs(fixed, fixed, 0.5)[0]) == expected
    strided = np.repeat(rows, 2, axis=0)[::2]
    assert triples(similar_pairs(strided, np.asfortranarray(rows), 0.5)[0]) == expected


@pytest.mark.long
def test_more_than_2_to_the_31_comparisons() -> None:
    n, m = 66_000, 33_000
    assert n * m > 2**31
    left, right = filters(n, 8, 0.5, 7), filters(m, 8, 0.5, 8)
    planted = [(0, m - 1), (n - 1, 0), (n - 1, m - 1), (40_000, 20_000)]
    for i, j in planted:
        right[j] = left[i]
    bound = dice_bound(popcounts(left), popcounts(right), 0.95)
    found = triples(pairs_reaching(left, right, bound, threads=2))
    last = [(i, j, int(popcounts(left[i : i + 1])[0])) for i, j in planted if (i, j) != (0, m - 1)]
    assert found == sorted(last)  # the last right row was planted twice
