"""Cutting and setting bits: kernels equal plain Python, whatever the values and however often."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.encoding import bloom
from linkage.encoding.bloom import FeatureBits, bloom_filters
from linkage.encoding.columns import Coded
from linkage.encoding.tokens import (
    Cutter,
    NgramCutter,
    TokenCutter,
    blake_positions,
    double_hash_positions,
    ngrams,
)

VALUES = st.one_of(
    st.text(alphabet=st.characters(max_codepoint=127), max_size=12),
    st.text(alphabet="ab ", max_size=4),
    st.text(alphabet="abé王", max_size=4),
)


def _spelt(cutter: Cutter, values: list[str]) -> list[list[list[int]]]:
    """Return the positions of every token of every value."""
    starts, numbers, positions = cutter.cut(values)
    return [
        [positions[token].tolist() for token in numbers[start:stop]]
        for start, stop in pairwise(starts)
    ]


@settings(max_examples=150, deadline=None)
@given(batches=st.lists(st.lists(VALUES, max_size=8), max_size=3), n=st.integers(1, 5))
def test_the_kernel_cuts_as_python_does_batch_after_batch(batches: list[list[str]], n: int) -> None:
    hasher = blake_positions(bytes(range(64)), 1024, 40)
    fast, slow = NgramCutter(n, hasher), TokenCutter(lambda value: ngrams(value, n), hasher)
    for values in batches:
        assert _spelt(fast, values) == _spelt(slow, values)


def _bits_one_by_one(columns: list[list[str]], features: list[FeatureBits], length: int) -> list:
    rows = []
    for record in zip(*columns, strict=True):
        bits = np.zeros(length, np.uint8)
        for value, feature in zip(record, features, strict=True):
            tokens = _spelt(feature.cutter, [value])[0]
            for place, positions in enumerate(tokens):
                k = feature.bits
                if not feature.per_token:
                    k = k // len(tokens) + (place < k % len(tokens))
                bits[[position ^ 7 for position in positions[:k]]] = 1
        rows.append(np.packbits(bits).tobytes())
    return rows


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(VALUES, st.sampled_from(["x", "yz", ""])), min_size=1, max_size=12),
    length=st.sampled_from([64, 100, 512, 1000]),
    per_token=st.booleans(),
    bits=st.integers(1, 60),
    block=st.sampled_from([1, 3, 4096]),
)
def test_filters_are_those_set_bit_by_bit(
    rows: list[tuple[str, str]], length: int, per_token: bool, bits: int, block: int
) -> None:
    hasher = double_hash_positions((b"1" * 64, b"2" * 64), length, bits)
    features = [FeatureBits(NgramCutter(2, hasher), bits, per_token)] * 2
    columns = [list(column) for column in zip(*rows, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bloom, "_ROWS", block)
        found, count = bloom_filters([Coded.of(one) for one in columns], features, length=length)
    assert found.shape == (len(rows), -(-length // 8))
    assert [row.tobytes() for row in found] == _bits_one_by_one(columns, features, length)
    assert count.tolist() == [sum(map(bool, row)) for row in rows]


@pytest.mark.parametrize("most", [0, 1 << 30])
def test_values_with_and_without_filters_of_their_own(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bloom, "_VALUE_BYTES", most)
    texts = ["ann", "lee", "", "ann", "lee", "ann", "", "jo"]
    feature = FeatureBits(NgramCutter(2, blake_positions(bytes(64), 512, 50)), 100)
    found, _ = bloom_filters([Coded.of(texts)], [feature], length=512)
    assert [row.tobytes() for row in found] == _bits_one_by_one([texts], [feature], 512)


def test_a_cutter_keeps_ngrams_only() -> None:
    cutter = NgramCutter(2, blake_positions(bytes(64), 512, 50))
    for _ in range(3):
        _, _, positions = cutter.cut(["anna", "annanna"])
        assert len(positions) == len({*ngrams("anna", 2), *ngrams("annanna", 2)})
