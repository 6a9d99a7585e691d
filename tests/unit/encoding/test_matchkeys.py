"""Match keys: HMAC as documented, nulls with reasons, repeats nulled."""

from __future__ import annotations

import hmac
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.encoding.columns import Coded
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.encoding.matchkeys import MatchKeyEncoder, null_repeats
from linkage.encoding.spelt import Spelt, joined
from linkage.errors import EncodingRefused
from linkage.records import FixedColumn
from linkage.study import MatchKeyRule, StudyConfig
from tests.coded import coded, transformed


def _expected(secret: bytes, *parts: str) -> bytes:
    message = b"".join(len(p.encode()).to_bytes(4, "big") + p.encode() for p in parts)
    return hmac.digest(secret, message, "sha256")[:16]


def _keys(
    texts: dict[str, list[str]], rule: MatchKeyRule, study: StudyConfig, key: StudyKey
) -> tuple[FixedColumn, dict[str, int]]:
    encoder = MatchKeyEncoder(rule, study, key)
    values = transformed(coded(texts), encoder.refs)
    return encoder.encode({ref: Spelt.of(column) for ref, column in values.items()})


def test_a_key_is_the_documented_hmac(study: StudyConfig, key: StudyKey) -> None:
    columns = {
        "first_name": ["robert", "ann"],
        "last_name": ["tymczak", "lee"],
        "date_of_birth": ["19700102", "20001231"],
    }
    secret = key.derive(study, "match-keys")
    whole, _ = _keys(columns, study.match_key[0], study, key)
    sounds, _ = _keys(columns, study.match_key[1], study, key)
    assert whole.values[0].tobytes() == _expected(
        secret, "first-last-dob", "robert", "tymczak", "19700102"
    )
    assert sounds.values[0].tobytes() == _expected(secret, "sounds-year", "R163", "T522", "1970")
    assert whole.present.all()
    assert sounds.present.all()


@settings(deadline=None)  # the first call compiles
@given(
    texts=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8"), max_size=9)] * 3), min_size=1, max_size=9
    ),
    name=st.text(max_size=5),
    data=st.data(),
)
def test_messages_are_length_prefixed_values(
    texts: list[tuple[str, str, str]], name: str, data: st.DataObject
) -> None:
    columns = [Spelt.of(Coded.of(list(column))) for column in zip(*texts, strict=True)]
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), unique=True))
    prefix = np.frombuffer(length_prefixed(name), np.uint8)
    messages, starts = joined(prefix, columns, np.array(rows, np.int64))
    assert [messages[a:b].tobytes() for a, b in pairwise(starts)] == [
        length_prefixed(name, *texts[row]) for row in rows
    ]
    for column, values in zip(columns, zip(*texts, strict=True), strict=True):
        assert column.present.tolist() == [bool(value) for value in values]


def test_where_fields_end_is_part_of_the_key(study: StudyConfig, key: StudyKey) -> None:
    columns = {
        "first_name": ["ab", "a"],
        "last_name": ["c", "bc"],
        "date_of_birth": ["19700102", "19700102"],
    }
    found, _ = _keys(columns, study.match_key[0], study, key)
    assert found.values[0].tobytes() != found.values[1].tobytes()


def test_a_missing_field_gives_null_and_its_reason(study: StudyConfig, key: StudyKey) -> None:
    columns = {
        "first_name": ["ann", "", "", "ann", "ann"],
        "last_name": ["lee", "lee", "", "", "lee"],
        "date_of_birth": ["", "", "", "19700102", "19700102"],
    }
    found, reasons = _keys(columns, study.match_key[0], study, key)
    assert found.present.tolist() == [False, False, False, False, True]
    assert not found.values[:4].any()
    assert reasons == {
        "missing:first_name": 2,
        "missing:last_name": 1,
        "missing:date_of_birth": 1,
    }


def test_empty_and_unequal_columns(study: StudyConfig, key: StudyKey) -> None:
    encoder = MatchKeyEncoder(study.match_key[2], study, key)
    none, one = Spelt.of(Coded.of([])), Spelt.of(Coded.of(["1"]))
    found, reasons = encoder.encode({"ssn:last4": none, "last_name:1": none})
    assert found.values.shape == (0, 16)
    assert reasons == {}
    with pytest.raises(EncodingRefused, match="one length"):
        encoder.encode({"ssn:last4": one, "last_name:1": none})


def _column(values: list[int]) -> FixedColumn:
    """16-byte keys from small numbers; 0 is null."""
    rows = np.array([[v] * 16 for v in values], np.uint8).reshape(len(values), 16)
    return FixedColumn(rows, np.array([v > 0 for v in values], dtype=bool))


def test_keys_in_two_groups_are_nulled_and_counted_rounded() -> None:
    values = [1, 1, 2, 2, 3, 3, 3, 4, 0, 0]
    groups = np.array([0, 1, 2, 2, 4, 5, 6, 7, 8, 9], np.uint32)
    kept, collisions = null_repeats(_column(values), groups)
    # 1 is in two groups, 2 in one twice, 3 in three, 4 once: only 2 and 4 stay; 1 is counted.
    assert kept.present.tolist() == [False, False, True, True, *[False] * 3, True, False, False]
    assert not kept.values[~kept.present].any()
    assert collisions == 5


@pytest.mark.threat("T04")
@pytest.mark.parametrize(("pairs", "attested"), [(0, 0), (1, 5), (5, 5), (6, 10), (10, 10)])
def test_attested_collisions_are_rounded_up_to_five(pairs: int, attested: int) -> None:
    values = [1 + i // 2 for i in range(2 * pairs)] + [200]
    _, collisions = null_repeats(_column(values), np.arange(len(values), dtype=np.uint32))
    assert collisions == attested


@pytest.mark.threat("T04")
@given(rows=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), max_size=40))
def test_no_key_left_is_in_two_groups_and_no_other_is_lost(rows: list[tuple[int, int]]) -> None:
    values, groups = [v for v, _ in rows], [g for _, g in rows]
    column = _column(values)
    kept, collisions = null_repeats(column, np.array(groups, np.uint32))
    holders = defaultdict(set)
    for value, group in rows:
        if value:
            holders[value].add(group)
    assert kept.present.tolist() == [v > 0 and len(holders[v]) == 1 for v in values]
    assert (kept.values[kept.present] == column.values[kept.present]).all()
    assert collisions == -(-sum(len(h) == 2 for h in holders.values()) // 5) * 5
    again, none = null_repeats(kept, np.array(groups, np.uint32))
    assert (again.present == kept.present).all()
    assert none == 0


def test_repeats_need_a_group_for_every_record() -> None:
    with pytest.raises(EncodingRefused, match="length"):
        null_repeats(_column([1, 2]), np.zeros(1, np.uint32))
