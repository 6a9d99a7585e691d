"""Field filters of second looks: equal for equal values, alike for alike ones, of one pair only."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.encoding.field_filters import derive_pair_key, field_filter, tokens_of
from linkage.look_tables import BITS_SET, FILTER_BITS, FILTER_BYTES, partner_tag

KEY = hashlib.sha256(b"a pair").digest()
NAMES = ("first_name", "last_name", "street")
TEXT = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=30)


def bits(made: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(made, np.uint8))


def dice(one: bytes, other: bytes) -> float:
    return float((bits(one) & bits(other)).sum()) / BITS_SET


@given(value=TEXT, field=st.sampled_from(NAMES))
def test_every_filter_has_the_same_number_of_bits_and_equal_values_are_equal(
    value: str, field: str
) -> None:
    made = field_filter(KEY, field, value)
    assert len(made) == FILTER_BYTES
    assert bits(made).sum() == BITS_SET
    assert field_filter(KEY, field, value) == made


def test_a_missing_value_has_no_filter() -> None:
    assert field_filter(KEY, "last_name", "") == b""


@pytest.mark.parametrize(
    ("field", "one", "alike", "other"),
    [
        ("last_name", "anderson", "andersen", "kowalczyk"),
        ("first_name", "debbie", "deborah", "william"),
        ("date_of_birth", "19620311", "19621103", "19850727"),
        ("ssn", "987654321", "987654312", "912345670"),
        ("street", "12 oak street", "12 oak st", "4401 mill road"),
    ],
)
def test_alike_values_are_nearer_than_others(field: str, one: str, alike: str, other: str) -> None:
    made = field_filter(KEY, field, one)
    near, far = (dice(made, field_filter(KEY, field, value)) for value in (alike, other))
    assert near >= 0.4
    assert far < 0.4 < 1


def test_the_bytes_of_a_filter_are_pinned() -> None:
    digest = hashlib.sha256()
    for field, value in (
        ("first_name", "ada"), ("last_name", "byron"), ("date_of_birth", "18151210"),
        ("sex", "f"), ("ssn", "987654321"), ("zip", "02139"), ("street", "12 oak street"),
    ):  # fmt: skip
        digest.update(field_filter(KEY, field, value))
    assert digest.hexdigest() == PINNED


PINNED = "98f0fe34c7b7482eb12ed97415e9004ca54e009e3aca79b4536099b250d4d078"


def test_tokens_come_once() -> None:
    for field in ("first_name", "last_name", "date_of_birth", "ssn", "street", "email"):
        tokens = [token for token, _ in tokens_of(field, "banana@banana.test")]
        assert len(tokens) == len(set(tokens))


@pytest.mark.threat("T14")
@pytest.mark.parametrize("field", ["first_name", "last_name", "date_of_birth", "ssn", "sex"])
def test_one_record_in_two_looks_is_like_two_records(field: str) -> None:
    """T14's promise: nothing can be put together over pairs (mean Dice by chance: 1/16)."""
    value = {"date_of_birth": "19620311", "ssn": "987654321", "sex": "f"}.get(field, "anderson")
    secret = bytes(32)
    made = []
    for number in range(400):
        nonce = number.to_bytes(16, "big")
        tags = {"alpha": partner_tag(nonce, b"a" * 16), "beta": partner_tag(nonce, b"b" * 16)}
        made.append(bits(field_filter(derive_pair_key(secret, nonce, tags), field, value)))
    common = [int((one & other).sum()) for one, other in zip(made[::2], made[1::2], strict=True)]
    chance = BITS_SET**2 / FILTER_BITS
    # 200 pairs of about 4 common bits: the mean has a standard error of .14; the key is fixed.
    assert abs(np.mean(common) - chance) < 0.6
    assert max(common) < BITS_SET / 3


@pytest.mark.threat("T14")
def test_a_reused_nonce_gives_unrelated_keys() -> None:
    nonce = bytes(16)
    tags = [partner_tag(nonce, bytes([n]) * 16) for n in range(3)]
    one = derive_pair_key(bytes(32), nonce, {"alpha": tags[0], "beta": tags[1]})
    other = derive_pair_key(bytes(32), nonce, {"alpha": tags[0], "beta": tags[2]})
    same = derive_pair_key(bytes(32), nonce, {"beta": tags[1], "alpha": tags[0]})
    assert one == same
    assert (
        dice(field_filter(one, "last_name", "byron"), field_filter(other, "last_name", "byron"))
        < 0.4
    )
