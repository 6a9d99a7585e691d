"""Which passwords are refused, what hashing them takes, and what one address may fail."""

from __future__ import annotations

import time

import pytest
from argon2 import PasswordHasher

from broker.passwords import Hashes, require_sound
from broker.rate import Attempts
from linkage.errors import KeyRefused, TooManyRequests

PASSWORD = "five words and a horse"
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("eleven char", "12 to 256"),
        ("x" * 257, "12 to 256"),
        ("Password1234", "first that are tried"),
        ("ababababababab", "first that are tried"),
        ("correct horse battery staple", "first that are tried"),
        ("ada-lovelace-123", "account's name"),
    ],
)
def test_passwords_that_are_refused(password: str, said: str) -> None:
    with pytest.raises(KeyRefused, match=said):
        require_sound(password, name="ada-lovelace", with_totp=True)


def test_passwords_that_are_fine() -> None:
    for password in ("twelve chars", "ünïcödé wörds", "x8#yz " * 42, PASSWORD):
        require_sound(password, name="ada-lovelace", with_totp=True)


def test_one_password_on_two_keyboards() -> None:
    """An accented letter is one character or two; NFKC makes them one."""
    hashes = Hashes(CHEAP)
    assert hashes.right(
        hashes.make("caf\u00e9 caf\u00e9 caf\u00e9"), "cafe\u0301 " * 2 + "cafe\u0301"
    )


def test_unknown_names_take_as_long() -> None:
    """The ratio of medians, for machines differ."""
    assert "m=65536,t=3" in Hashes().make(PASSWORD)
    hashes = Hashes(PasswordHasher(time_cost=2, memory_cost=8192, parallelism=1))
    kept = hashes.make(PASSWORD)
    hashes.right(None, "warm")

    def median(value: str | None) -> float:
        taken = []
        for _ in range(5):
            started = time.process_time()  # of this process alone, whatever else the machine does
            assert not hashes.right(value, "wrong password")
            taken.append(time.process_time() - started)
        return sorted(taken)[2]

    assert 0.3 < median(None) / median(kept) < 3


def test_one_subscriber_of_ipv6_is_one_address() -> None:
    attempts = Attempts(5, lambda: 0.0)
    for i in range(5):
        attempts.failed(f"2001:db8::{i}")
    with pytest.raises(TooManyRequests):
        attempts.require("2001:db8::ffff")
    attempts.require("2001:db8:0:1::1")
    attempts.require("")
