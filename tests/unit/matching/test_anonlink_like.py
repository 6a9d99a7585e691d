"""anonlink's interface: the answers of anonlink itself, of the reference, and refusals."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.errors import EncodingRefused, TooManyCandidates
from linkage.matching import anonlink_like, dice
from linkage.matching.anonlink_like import dice_coefficient, dice_coefficient_reference

Bytes = npt.NDArray[np.uint8]
THRESHOLDS = st.sampled_from([-1.0, 0.0, 1e-6, 0.3, 0.5, 0.75, 0.8, 1.0, 1.5]) | st.floats(0.05, 1)


def matrix(n: int, bits: int, density: float, seed: int) -> Bytes:
    return np.packbits(np.random.default_rng(seed).random((n, bits)) < density, axis=1)


def world(n: int, m: int, bits: int, density: float, seed: int) -> tuple[Bytes, Bytes]:
    """Filters with copies, near copies, repeats (ties), empty and saturated ones."""
    left, right = matrix(n, bits, density, seed), matrix(m, bits, density, seed + 1)
    shared = min(n, m) // 2
    right[:shared] = left[:shared] ^ matrix(shared, bits, 0.05, seed + 2)
    if n:
        right[shared : shared + 2] = left[:1]
    draw = np.random.default_rng(seed)
    for side in (left, right):
        for value in (0, 255):
            side[draw.random(len(side)) < 0.1] = value
    return left, right


def answer(found: anonlink_like.Found) -> list[tuple[float, int, int]]:
    """The pairs in their order; the types are those of anonlink."""
    scores, (i, j) = found
    assert (scores.typecode, i.typecode, j.typecode) == ("d", "I", "I")
    return list(zip(scores, i, j, strict=True))


def test_a_small_example() -> None:
    found = dice_coefficient(([b"\x0f", b"\xff"], [b"\xff", b"\x00", b"\x0f"]), 0.5, k=1)
    assert found == (array("d", [1.0, 1.0]), (array("I", [0, 1]), array("I", [2, 0])))
    # Both empty: 0, which a threshold of 0 lets through.
    assert answer(dice_coefficient(([b"\x00"], [b"\x00"]), 0)) == [(0.0, 0, 0)]
    assert answer(dice_coefficient(([b"\x00"], [b"\x00"]), math.nextafter(0, 1))) == []


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(0, 40),
    m=st.integers(0, 40),
    bits=st.sampled_from([8, 64, 72, 504, 512, 1024, 2048, 4096]),
    density=st.sampled_from([0.01, 0.3, 0.5, 0.95]),
    threshold=THRESHOLDS,
    k=st.none() | st.integers(0, 6) | st.just(10**30),
    threads=st.integers(1, 3),
)
def test_it_equals_its_reference(
    seed: int, n: int, m: int, bits: int, density: float, threshold: float, k: Any, threads: int
) -> None:
    sides = world(n, m, bits, density, seed)
    expected = dice_coefficient_reference(sides, threshold, k)
    assert dice_coefficient(sides, threshold, k, threads=threads) == expected


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(0, 30),
    m=st.integers(0, 30),
    bits=st.sampled_from([72, 512, 1024, 2048, 4096]),
    density=st.sampled_from([0.01, 0.3, 0.5, 0.95]),
    threshold=THRESHOLDS,
    k=st.none() | st.integers(0, 6),
)
def test_it_equals_anonlink(
    seed: int, n: int, m: int, bits: int, density: float, threshold: float, k: int | None
) -> None:
    similarities = pytest.importorskip("anonlink.similarities", reason="no wheel for this Python")
    sides = [bitarrays(side) for side in world(n, m, bits, density, seed)]
    found = dice_coefficient(sides, threshold, k)
    assert found == similarities.dice_coefficient_python(sides, threshold, k)
    fast = similarities.dice_coefficient_accelerated(sides, threshold, k)
    if found != fast and k is None:
        # The fast version drops pairs that have exactly the threshold, where its bound is rounded.
        lost = set(answer(found)) - set(answer(fast))
        assert {score for score, _, _ in lost} == {threshold}
        assert [pair for pair in answer(found) if pair not in lost] == answer(fast)
    elif threshold not in (0.3, 0.75, 0.8):  # with k, a lost pair makes room for another one
        assert found == fast


@pytest.mark.parametrize("bits", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("k", [None, 1, 3])
def test_it_equals_fast_anonlink_on_hundreds_of_filters(bits: int, k: int | None) -> None:
    similarities = pytest.importorskip("anonlink.similarities", reason="no wheel for this Python")
    sides = [bitarrays(side) for side in world(600, 500, bits, 0.3, 7)]
    for threshold in (0.28, 0.6, 0.81):
        found = dice_coefficient(sides, threshold, k)
        assert len(found[0]) > 200
        assert found == similarities.dice_coefficient_accelerated(sides, threshold, k)


def test_a_pair_exactly_at_the_threshold_is_kept_where_fast_anonlink_loses_it() -> None:
    similarities = pytest.importorskip("anonlink.similarities", reason="no wheel for this Python")
    lost = 0
    for small in range(1, 40):
        one, other = (np.packbits(np.arange(512) < n)[None] for n in (small, 40))
        sides = [bitarrays(one), bitarrays(other)]
        exact = 2 * small / (small + 40)
        expected = (array("d", [exact]), (array("I", [0]), array("I", [0])))
        assert dice_coefficient(sides, exact) == expected
        assert similarities.dice_coefficient_python(sides, exact) == expected
        lost += similarities.dice_coefficient_accelerated(sides, exact) != expected
    assert lost  # else the note in the module's docstring is out of date


@pytest.mark.parametrize("k", [None, 2])
def test_anonlink_finds_candidates_with_it(k: int | None) -> None:
    anonlink = pytest.importorskip("anonlink.candidate_generation", reason="no wheel for it")
    similarities = pytest.importorskip("anonlink.similarities")
    parts = [*world(40, 50, 1024, 0.4, 3), matrix(30, 1024, 0.4, 3)]
    sides = [bitarrays(part) for part in parts]

    def block(dataset: int, record: int, clk: Any) -> Sequence[int]:
        return (clk.count() % 3, 7)  # every record in two blocks

    for blocking in (None, block):
        ours, theirs = (
            anonlink.find_candidate_pairs(sides, f, 0.55, k=k, blocking_f=blocking)
            for f in (dice_coefficient, similarities.dice_coefficient_accelerated)
        )
        assert len(ours[0]) > 30
        assert ours == theirs
    rows = anonlink.find_candidate_pairs(parts, dice_coefficient, 0.55, k=k)
    assert rows == anonlink.find_candidate_pairs(sides, dice_coefficient, 0.55, k=k)


def test_every_form_of_a_filter_gives_the_same_answer() -> None:
    left, right = world(9, 11, 1024, 0.4, 5)
    expected = answer(dice_coefficient((left, right), 0.5))
    assert expected
    for form in (
        lambda side: side.view(np.uint64),
        lambda side: np.asfortranarray(side),
        lambda side: [row.tobytes() for row in side],
        lambda side: tuple(side),
        lambda side: [bytearray(row) for row in side],
        lambda side: [row.tolist() for row in side],
        lambda side: [memoryview(row) for row in side],
    ):
        assert answer(dice_coefficient((form(left), form(right)), 0.5)) == expected


@pytest.mark.threat("P07")
@pytest.mark.parametrize("threshold", [math.nan, np.nan, "0.8", None, 1j])
def test_a_threshold_must_be_a_number(threshold: Any) -> None:
    rows = matrix(2, 512, 0.5, 1)
    for function in (dice_coefficient, dice_coefficient_reference):
        with pytest.raises(EncodingRefused, match="must be a number"):
            function((rows, rows), threshold)


@pytest.mark.parametrize("threshold", [-math.inf, math.inf, np.float32(0.5), 1, True, 5e-324])
def test_odd_numbers_are_thresholds_too(threshold: Any) -> None:
    sides = world(9, 9, 512, 0.3, 6)
    expected = dice_coefficient_reference(sides, threshold)
    assert dice_coefficient(sides, threshold) == expected


@pytest.mark.parametrize("k", [-1, 2.5, "1", math.nan])
def test_k_must_be_a_count(k: Any) -> None:
    rows = matrix(2, 512, 0.5, 1)
    with pytest.raises(EncodingRefused, match="whole number from 0"):
        dice_coefficient((rows, rows), 0.5, k)


@pytest.mark.parametrize(
    ("datasets", "rule"),
    [
        (([b"ab"],), "two datasets can be compared, not 1"),
        (([b"ab"], [b"ab"], [b"ab"]), "two datasets can be compared, not 3"),
        (([b"ab", b"abc"], [b"ab"]), "different lengths"),
        (([b"ab"], [b"abc"]), "different lengths"),
        (([b""], [b""]), "filters of 0 bits"),
        (([b"a" * 513], [b"a" * 513]), "filters of 4104 bits"),
        ((["ab"], [b"ab"]), "cannot be a str"),
        (([2], [b"ab"]), "cannot be a int"),
        (([None], [b"ab"]), "cannot be a NoneType"),
        (([[300, 1]], [b"ab"]), "cannot be a list"),
        ((np.ones((2, 8), bool), [b"a"]), "uint8"),
        ((np.ones(8, np.uint8), [b"a"]), "uint8"),
    ],
)
def test_filters_that_cannot_be_compared_are_refused(datasets: Any, rule: str) -> None:
    with pytest.raises(EncodingRefused, match=rule):
        dice_coefficient(datasets, 0.5)


def test_bitarrays_that_cannot_be_compared_are_refused() -> None:
    bitarray = pytest.importorskip("bitarray").bitarray
    with pytest.raises(EncodingRefused, match="has 3 bits"):
        dice_coefficient(([bitarray("101")], [bitarray("101")]), 0.5)
    first, last = (bitarray("10000000", endian=endian) for endian in ("big", "little"))
    with pytest.raises(EncodingRefused, match="others little-endian"):
        dice_coefficient(([first], [last]), 0.5)
    with pytest.raises(EncodingRefused, match="others little-endian"):
        dice_coefficient(([first, last], [b"a"]), 0.5)


def test_empty_datasets_have_no_pairs() -> None:
    nothing = (array("d"), (array("I"), array("I")))
    rows = matrix(2, 512, 0.5, 1)
    empty: tuple[Any, ...] = ([], (), rows[:0], np.zeros((0, 0), np.uint8))
    for none in empty:
        for sides in ((none, rows), (rows, none), (none, none)):
            assert dice_coefficient(sides, -1.0) == nothing
            assert dice_coefficient_reference(sides, -1.0) == nothing


def test_a_flood_is_refused_but_the_best_few_of_each_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = np.full((300, 64), 255, np.uint8)
    with monkeypatch.context() as patch:
        patch.setitem(dice.pair_blocks.__kwdefaults__, "limit", 80_000)
        with pytest.raises(TooManyCandidates, match="the limit is 80000"):
            dice_coefficient((rows, rows), 0.5)
        found = dice_coefficient((rows, rows), 0.5, k=2)
    assert [array("I", [0, 1]) * 300, len(found[0])] == [found[1][1], 600]


def bitarrays(side: Bytes) -> list[Any]:
    bitarray = pytest.importorskip("bitarray").bitarray
    made = []
    for row in side:
        bits = bitarray(endian="big")
        bits.frombytes(row.tobytes())
        made.append(bits)
    return made
