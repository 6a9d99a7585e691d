"""Datasets as the matcher takes them: what it refuses, what it leaves out, what it tells."""

from __future__ import annotations

import json

import numpy as np
import pytest

from linkage.errors import EncodingRefused
from linkage.matching.dataset import Shape, representatives, shape_of, usable_rows
from linkage.records import FixedColumn
from tests.unit.matching.worlds import dataset, full


def _filters(*ones: int) -> FixedColumn:
    bits = np.zeros((len(ones), 1000 + 24), dtype=bool)
    for row, count in enumerate(ones):
        bits[row, :count] = True
    return full(np.packbits(bits, axis=1))


def _keys(*values: int | None) -> FixedColumn:
    matrix = np.zeros((len(values), 16), np.uint8)
    for row, value in enumerate(values):
        matrix[row, -1] = value or 0
    return FixedColumn(matrix, np.array([v is not None for v in values]))


def test_the_first_record_of_each_group_represents_it() -> None:
    made = dataset("a", 5, {}, groups=[7, 3, 7, 9, 3])
    assert representatives(made.records).tolist() == [0, 1, 3]


def test_filters_nearly_empty_or_full_are_not_compared() -> None:
    made = dataset("a", 6, {"x": _filters(0, 51, 52, 972, 973, 1024)})
    # The band is 5 % to 95 % of 1,024 bits, ends included: 51.2 to 972.8 ones.
    assert usable_rows(made.records, "x").tolist() == [2, 3]
    assert shape_of(made).unusable == {"x": 4}


def test_a_missing_filter_is_not_an_unusable_one() -> None:
    column = FixedColumn(_filters(500, 500).values, np.array([True, False]))
    made = dataset("a", 2, {"x": column})
    assert usable_rows(made.records, "x").tolist() == [0]
    assert shape_of(made).unusable == {}


@pytest.mark.threat("T04")
def test_a_key_in_two_groups_is_refused() -> None:
    with pytest.raises(EncodingRefused, match=r"'k' occurs in two groups of party 'a'.*null"):
        dataset("a", 3, {}, {"k": _keys(1, 2, 1)})


def test_a_key_may_repeat_inside_a_group_and_nulls_anywhere() -> None:
    dataset("a", 4, {}, {"k": _keys(1, None, 1, None)}, groups=[0, 1, 0, 2])


def test_zero_is_a_key_like_any_other() -> None:
    with pytest.raises(EncodingRefused, match="two groups"):
        dataset("a", 2, {}, {"k": _keys(0, 0)})


@pytest.mark.parametrize("collisions", [{"other": 5}, {"k": -5}])
def test_impossible_collision_counts_are_refused(collisions: dict[str, int]) -> None:
    with pytest.raises(EncodingRefused, match="collision count"):
        dataset("a", 1, {}, {"k": _keys(1)}, collisions=collisions)


@pytest.mark.threat("P07")
@pytest.mark.parametrize("width", [0, 8, 63, 100])
def test_a_clk_of_an_odd_length_is_refused(width: int) -> None:
    with pytest.raises(EncodingRefused, match="multiple of 512 bits"):
        dataset("a", 1, {"x": full(np.zeros((1, width), np.uint8))})


def test_a_shape_survives_json() -> None:
    made = dataset("a", 3, {"x": _filters(0, 500, 500)}, {"k": _keys(1, 2, 3)}, collisions={"k": 5})
    shape = shape_of(made)
    assert shape == Shape("a", 3, 3, ("x",), ("k",), {"k": 5}, {"x": 1})
    assert Shape.from_json(json.loads(json.dumps(shape.to_json()))) == shape
