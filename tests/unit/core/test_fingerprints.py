"""What was read out by telephone and typed: forgiving to the ear, not to a wrong digit."""

from __future__ import annotations

import re

import pytest

from linkage import fingerprints
from linkage.errors import PackageRefused
from linkage.sealing import Identity

WANTED = "1a2b 3c4d 5e6f 7081 92a3 b4c5 d6e7 f809"


def test_a_fingerprint_can_be_read_out() -> None:
    shown = Identity.generate("alpha", kem="X25519").public().fingerprint
    assert re.fullmatch(r"[0-9a-f]{4}( [0-9a-f]{4}){7}", shown)
    fingerprints.compare(shown, shown, "alpha")


@pytest.mark.parametrize(
    "typed",
    [
        WANTED,
        WANTED.replace(" ", ""),
        WANTED.upper(),
        WANTED.replace(" ", "-"),
        WANTED.replace(" ", ":"),
        f"  {WANTED}\n",
    ],
)
def test_how_it_is_written_does_not_matter(typed: str) -> None:
    fingerprints.compare(typed, WANTED, "custodian")


@pytest.mark.parametrize(
    ("typed", "rule", "remedy"),
    [
        ("", "0 digits instead of 32", "eight groups of four"),
        (WANTED[:-1], "31 digits instead of 32", "eight groups of four"),
        (WANTED + "0", "33 digits instead of 32", "eight groups of four"),
        (WANTED.replace("0", "O"), "no digits from 0 to 9", "eight groups of four"),
        (WANTED.replace("5e6f", "5e6e"), "differs in group 3 of 8", "another key: stop"),
        (WANTED.replace("1a2b", "1b2a").replace("f809", "f890"), "group 1 and 8", "read out again"),
        ("0123 4567 " * 4, "that of another custodian", "by telephone"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(typed: str, rule: str, remedy: str) -> None:
    with pytest.raises(PackageRefused) as caught:
        fingerprints.compare(typed, WANTED, "custodian")
    assert rule in caught.value.message
    assert remedy in caught.value.hint
