"""What the fields of asked pairs weigh: nicknames, relatives, and what a key had told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from linkage.encoding.field_filters import field_filter
from linkage.errors import MatchingFailed
from linkage.matching.dataset import Shape
from linkage.matching.field_weights import weigh_looks
from linkage.matching.hyperedges import Pairs
from linkage.matching.looked_at import LookedAt, replaced
from linkage.matching.second_look import (
    Level,
    LookLevels,
    LookPairs,
    Looks,
    Reason,
    is_faint,
    levels_of,
)

PARTIES = ("alpha", "beta")
FIELDS = ("first_name", "middle_name", "last_name", "street")
RULES = {"street-mi-last": ("street", "middle_name:initial", "last_name")}
LEVELS = {"-": 0, "D": 1, "F": 1, "A": 2, "C": 3, "E": 4}
SHOWN = {"EEEE": 300, "DEEE": 20, "FEEE": 8, "AEEE": 10, "DDDD": 100, "DEDD": 20}
"""As two parties of 2,000 simulated people show them; the 20 are mostly two relatives."""


def weighed(
    shown: Mapping[str, int], rules: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, tuple[float, bool]]:
    """Return log weight and no_more of each pattern, of which that many pairs were asked."""
    patterns = [text for text, count in shown.items() for _ in range(count)]
    count = len(patterns)
    rows = np.arange(count, dtype=np.uint32)
    pairs = LookPairs(
        parties=PARTIES,
        fields=FIELDS,
        left=rows,
        right=rows,
        reason=np.full(count, Reason.UNCERTAIN, np.uint8),
        probability=np.full(count, 0.5),
        stands_for=np.array([4.0 if p == "EEEE" else 1.0 for p in patterns]),
        nonces=np.zeros((count, 16), np.uint8),
    )
    levels = np.array([[LEVELS[letter] for letter in text] for text in patterns], np.uint8)
    faint = np.array([[letter == "F" for letter in text] for text in patterns])
    answered = LookLevels(PARTIES, levels, faint, np.ones(count, np.bool_), {})
    shapes = [Shape(party, 2_000, 2_000, (), tuple(RULES), {}, {}) for party in PARTIES]
    found = weigh_looks(Looks((pairs,)), [answered], shapes, {PARTIES: 1_300.0}, rules)
    one = found.comparisons[PARTIES]
    told = zip(one.log_weight.tolist(), one.no_more.tolist(), strict=True)
    return dict(zip(patterns, told, strict=True))


@pytest.mark.parametrize(
    ("one", "other", "faint"),
    [
        ("jim", "james", True),
        ("suzy", "susan", True),
        ("bobby", "robert", True),
        ("margaret", "rachel", False),
        ("peter", "melissa", False),
        ("charles", "veronica", False),
        ("john", "john", False),
    ],
)
def test_nicknames_share_more_than_chance(one: str, other: str, faint: bool) -> None:
    key = b"one pair".ljust(32)
    a, b = (np.frombuffer(field_filter(key, "first_name", n), np.uint8) for n in (one, other))
    common = np.array([int(np.bitwise_count(a & b).sum())])
    assert bool(is_faint(common)[0]) is faint
    assert Level(int(levels_of(common)[0])) == (Level.EQUAL if one == other else Level.DIFFERENT)


def test_a_nickname_is_not_told_by_its_key_and_another_name_is() -> None:
    found = weighed(SHOWN, RULES)
    assert found["FEEE"][0] > found["DEEE"][0]
    assert {p for p, (_, told) in found.items() if told} == {"DEEE"}
    # Without the rules, or with other fields of theirs, nothing is known of keys.
    for rules in (None, {}, {"street-mi-last": ("street", "zip")}, {"other": ("last_name",)}):
        assert not any(told for _, told in weighed(SHOWN, rules).values())


def test_parts_of_fields_that_no_look_shows_tell_nothing() -> None:
    parts = {"street-mi-last": ("street", "middle_name:initial", "last_name:3")}
    assert not any(told for _, told in weighed(SHOWN, parts).values())
    initial = {"street-mi-last": ("street", "middle_name:initial", "last_name")}
    assert weighed({"DAEE": 5, "EEEE": 50, "DDDD": 50}, initial)["DAEE"][1]


def test_a_look_lowers_what_it_may_not_raise() -> None:
    pairs = Pairs(
        left=np.array([2, 0, 1]),
        right=np.array([2, 0, 1]),
        log_weight=np.array([0.5, -1.0, 2.0]),
        log_prior=-8.0,
        missed=0.02,
    )
    rows = np.arange(4, dtype=np.uint32)
    looked = LookedAt(
        rows, rows, np.array([5.0, 5.0, -3.0, 5.0]), np.array([True, False, True, True])
    )
    made = replaced(pairs, looked)
    assert made.left.tolist() == [0, 1, 2, 3]
    # Held to what it was; raised; lowered; no candidate before, so nothing is known of it.
    assert made.log_weight.tolist() == [-1.0, 5.0, -3.0, 5.0]
    assert replaced(pairs, None) is pairs
    with pytest.raises(MatchingFailed, match="do not fit"):
        LookedAt(rows, rows, np.zeros(4), np.zeros(3, np.bool_))
