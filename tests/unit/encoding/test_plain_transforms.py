"""Transforms of whole columns give what each value alone gives."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linkage.encoding import fields, transforms
from linkage.encoding.columns import Coded
from linkage.encoding.plain_transforms import plain_change

_STREETS = st.from_regex(
    r"(?:[0-9a-z]{1,4}(?:st|nd|rd|th|s|t)?(?: [a-z0-9]{1,5}){0,3})?", fullmatch=True
)
_NAMES = st.from_regex(r"(?:[a-z]{1,8}(?:-[a-z]{1,3}){0,2})?", fullmatch=True)


def _reference(transform: str, values: list[str]) -> list[str]:
    change = transforms._CHANGES[transform]
    return [change(value) if value else "" for value in values]


def _both(values: list[str]) -> list[Coded]:
    codes = np.arange(len(values), dtype=np.int32)
    return [Coded(codes, values), Coded(codes, array=pa.array(values, pa.string()))]


@settings(deadline=None, max_examples=300)
@given(st.lists(_NAMES | st.text("bfpvcgdtlmnrhwaey-", min_size=1), max_size=9))
@example(["ashcraft", "pfister", "tymczak", "jackson", "a-", "-a", "hw", "o", "lloyd"])
def test_the_sound_is_that_of_each_name(values: list[str]) -> None:
    for column in _both(values):
        assert fields.apply("last_name:sound", column).texts() == _reference("sound", values)


@settings(deadline=None, max_examples=300)
@given(st.lists(_STREETS, max_size=9))
@example(
    ["12", "12 main st", "1st ave", "21st", "1st2 x", "12a oak", "a12", "3rd", "4t h", "1stst"]
)
def test_the_house_number_is_that_of_each_street(values: list[str]) -> None:
    for column in _both(values):
        found = fields.apply("street:house_number", column)
        assert found.texts() == _reference("house_number", values)


@settings(deadline=None)
@given(st.lists(_NAMES, max_size=9))
def test_a_last_name_is_joined(values: list[str]) -> None:
    for column in _both(values):
        joined = fields.apply("last_name", column)
        assert joined.texts() == [value.replace("-", "") for value in values]
        assert joined.present().tolist() == [bool(value) for value in values]


@pytest.mark.parametrize(
    ("transform", "value"),
    [("sound", "Ann"), ("sound", "é"), ("sound", "-"), ("house_number", "٣ x")],
)
def test_what_is_not_plain_is_left_to_the_reference(transform: str, value: str) -> None:
    plain = plain_change(transform)
    assert plain is not None
    assert plain(Coded.of([value])) is None
    field = "last_name" if transform == "sound" else "street"
    found = fields.apply(f"{field}:{transform}", Coded.of([value]))
    assert found.texts() == _reference(transform, [value])
