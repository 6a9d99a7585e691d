"""Pseudonyms are the site's alone and always the same; IDs find their own typing errors."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.errors import KeyRefused, LinkageError
from linkage.pseudonyms import ContributorSecret, format_id, parse_id, random_ids


def test_a_pseudonym_is_pinned_by_a_vector() -> None:
    # HMAC-SHA-256 of 00000005 "study" 00000004 "r-17" under 32 bytes 01, cut to 16 bytes:
    # printf '\0\0\0\5study\0\0\0\4r-17' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101..01
    made = ContributorSecret(bytes([1]) * 32).pseudonyms("study", ["r-17"])
    assert made.tobytes().hex() == "07d4a2e99ca1e484822d95d60774f658"


def test_pseudonyms_differ_by_secret_study_and_record() -> None:
    one, two = ContributorSecret(bytes(range(32))), ContributorSecret(bytes(range(1, 33)))
    ids = ["a", "b", "ab"]
    made = {p.tobytes() for p in one.pseudonyms("s1", ids)}
    made |= {p.tobytes() for p in one.pseudonyms("s2", ids)}
    made |= {p.tobytes() for p in two.pseudonyms("s1", ids)}
    assert len(made) == 9
    # length prefixes: "s1" + "a" must not meet "s" + "1a"
    assert one.pseudonyms("s1", ["a"]).tobytes() != one.pseudonyms("s", ["1a"]).tobytes()


def test_the_secret_is_read_as_it_was_written_and_hidden() -> None:
    first = ContributorSecret.generate()
    again = ContributorSecret.from_bytes(first.to_bytes())
    assert first.pseudonyms("s1", ["a"]).tobytes() == again.pseudonyms("s1", ["a"]).tobytes()
    assert "hidden" in repr(again)
    with pytest.raises(KeyRefused):
        pickle.dumps(again)
    with pytest.raises(KeyRefused, match="what was kept is no contributor secret"):
        ContributorSecret.from_bytes(b"something else", name="what was kept")


@given(st.binary(min_size=16, max_size=16))
def test_an_id_reads_back_also_when_typed_carelessly(raw: bytes) -> None:
    text = format_id(raw)
    assert len(text) == 27
    assert parse_id(text) == raw
    assert parse_id(f" {text[:9].lower()}-{text[9:].lower()} ".replace("0", "o")) == raw


@given(st.binary(min_size=16, max_size=16), st.integers(0, 25), st.integers(1, 31))
def test_every_single_wrong_digit_is_found(raw: bytes, at: int, by: int) -> None:
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    text = format_id(raw)
    wrong = alphabet[(alphabet.index(text[at]) + by) % 32]
    with pytest.raises(LinkageError, match="not a cross-commons ID"):
        parse_id(text[:at] + wrong + text[at + 1 :])


@given(st.binary(min_size=16, max_size=16), st.integers(0, 24))
def test_every_swap_of_neighbours_is_found(raw: bytes, at: int) -> None:
    text = format_id(raw)
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if swapped != text:
        with pytest.raises(LinkageError):
            parse_id(swapped)


def test_random_ids_are_all_different() -> None:
    assert len({row.tobytes() for row in random_ids(5000)}) == 5000
    assert random_ids(0).shape == (0, 16)
