"""Checksums of a batch's files: fast and plain agree, and one wrong bit is found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sites.spool_sums import sum_of, sum_reference


@settings(deadline=None)
@given(data=st.binary(max_size=300), cut=st.integers(0, 9))
def test_the_sum_is_that_of_the_reference_however_it_is_cut(data: bytes, cut: int) -> None:
    at = min(32 * cut, len(data) // 32 * 32)
    assert sum_of(data) == sum_of(data[:at], memoryview(data)[at:]) == sum_reference(data)


@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=300), place=st.integers(0, 299), bit=st.integers(0, 7))
def test_one_wrong_bit_is_found(data: bytes, place: int, bit: int) -> None:
    wrong = bytearray(data)
    wrong[place % len(data)] ^= 1 << bit
    assert sum_of(bytes(wrong)) != sum_of(data)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 4096])
def test_a_file_cut_short_or_blanked_is_found(size: int) -> None:
    data = bytes(range(1, 256)) * 17
    assert sum_of(data[:size]) != sum_of(data)
    assert sum_of(data[:size] + bytes(len(data) - size)) != sum_of(data)
    assert sum_of(bytes(size)) != sum_of(bytes(size + 1))


def test_pieces_that_would_shift_words_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        sum_of(bytes(31), bytes(32))
