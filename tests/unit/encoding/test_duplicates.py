"""Duplicates grouped by strict rules; repeated keys found; each against the plainest way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.encoding.columns import Coded
from linkage.encoding.duplicates import (
    digests,
    group_duplicates,
    group_duplicates_reference,
    grouping_rules,
    repeats,
)
from linkage.errors import EncodingRefused

FEW = {
    "first_name": ["", "ada", "adam", "grace"],
    "middle_name": ["", "b", "bea"],
    "last_name": ["", "lee", "hopper"],
    "date_of_birth": ["", "19800101", "19800102"],
    "sex": ["", "f", "m"],
    "ssn": ["", "123456788", "223456788", "6788"],
    "street": ["", "12 main st"],
}


@st.composite
def datasets(draw: st.DrawFn) -> dict[str, list[str]]:
    fields = draw(st.lists(st.sampled_from(sorted(FEW)), min_size=1, unique=True))
    n = draw(st.integers(0, 25))
    return {f: draw(st.lists(st.sampled_from(FEW[f]), min_size=n, max_size=n)) for f in fields}


@settings(max_examples=150, deadline=None)
@given(datasets())
def test_groups_are_those_of_the_reference(texts: dict[str, list[str]]) -> None:
    found = group_duplicates({field: Coded.of(column) for field, column in texts.items()})
    assert found.tolist() == group_duplicates_reference(texts)


def test_who_is_one_person_and_who_is_not() -> None:
    columns = {
        "first_name": ["ada", "ada", "ada", "adam", "ada", "ada", ""],
        "last_name": ["lee", "lee", "lee", "lee", "hopper", "lee", "lee"],
        "date_of_birth": ["19800101"] * 5 + ["19800202"] + ["19800101"],
        "ssn": ["123456788", "123456788", "", "123456788", "123456788", "", "123456788"],
        "sex": ["f", "", "f", "m", "f", "f", "f"],
    }
    father_and_son = {
        "first_name": ["john", "john", "john"],
        "middle_name": ["a", "b", "b"],
        "last_name": ["lee", "lee", "lee"],
        "ssn": ["123456788"] * 3,
    }
    apart = {field: Coded.of(column) for field, column in father_and_son.items()}
    assert group_duplicates(apart).tolist() == [0, 1, 1]
    coded = {field: Coded.of(column) for field, column in columns.items()}
    # 0, 1, 3 and 4 share SSN, birth date and three letters; 2 and 5 have no SSN and are apart.
    assert group_duplicates(coded).tolist() == [0, 0, 2, 0, 0, 5, 6]


def test_values_in_exchanged_fields_are_not_equal() -> None:
    columns = {
        "first_name": ["ada", "lee"],
        "last_name": ["lee", "ada"],
        "ssn": ["123456788"] * 2,
        "middle_name": ["b"] * 2,
    }
    coded = {field: Coded.of(column) for field, column in columns.items()}
    assert group_duplicates(coded).tolist() == [0, 1]


def test_digests_are_keyed_and_equal_over_batches() -> None:
    rules = grouping_rules(["first_name", "last_name", "ssn"])
    texts = {"first_name": ["ada", "bo"], "last_name": ["lee", "li"], "ssn": FEW["ssn"][1:3]}
    whole, contents = digests({f: Coded.of(t) for f, t in texts.items()}, rules, bytes(16))
    second, rest = digests({f: Coded.of(t[1:]) for f, t in texts.items()}, rules, bytes(16))
    assert contents[1] == rest[0] != contents[0]
    assert (whole[1] == second[0]).all()
    assert whole.all()
    other, _ = digests({f: Coded.of(t) for f, t in texts.items()}, rules, b"\1" * 16)
    assert (other != whole).all()


def test_no_rule_without_names_and_columns_of_one_length() -> None:
    assert grouping_rules(["ssn", "date_of_birth"]) == ()
    assert grouping_rules(["first_name", "last_name"]) == ()
    with pytest.raises(EncodingRefused, match="length"):
        digests({"ssn": Coded.of(["1"]), "sex": Coded.of([])}, (), bytes(16))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(0, 5)), max_size=40))
def test_repeats_are_those_of_a_dictionary(rows: list[tuple[int, int, int]]) -> None:
    """Keys that share one half only are different keys."""
    keys = np.zeros((len(rows), 16), np.uint8)
    for i, (left, right, _) in enumerate(rows):
        keys[i, 7], keys[i, 15] = left, right
    groups = np.array([group for *_, group in rows], np.uint32)
    holders: dict[tuple[int, int], set[int]] = {}
    for left, right, group in rows:
        holders.setdefault((left, right), set()).add(group)
    found, pairs = repeats(keys, groups)
    assert found.tolist() == [len(holders[left, right]) > 1 for left, right, _ in rows]
    assert pairs == sum(len(one) == 2 for one in holders.values())
