"""What several parties assert together: what counts, what does not, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from linkage import assertions
from linkage.assertions import AssertionList
from linkage.errors import EncodingRefused, MatchingFailed
from linkage.matching.asserted import Settled, settle
from linkage.matching.solve import Asserted, solve
from linkage.matching.weights import Weights
from tests.unit.matching.test_solve import _weights

PARTIES = ("a", "b", "c")
Said = tuple[str, int, str, str]
"""Who, its row, the assertion, the verdict."""


def _name(text: str) -> bytes:
    return text.encode().ljust(16, b"-")


def _matrix(names: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16)


def _settle(*said: Said, groups: dict[str, list[int]] | None = None) -> Settled:
    lists = {}
    for party in PARTIES:
        mine = [one for one in said if one[0] == party]
        lists[party] = AssertionList(
            party,
            _matrix([_name(f"{party}{row}") for _, row, _, _ in mine]),
            _matrix([_name(token) for _, _, token, _ in mine]),
            np.array([verdict == "different" for _, _, _, verdict in mine], np.bool_),
        )
    of = groups or {}
    names = {p: _matrix([_name(f"{p}{row}") for row in (2, 0, 1)]) for p in PARTIES}
    grouped = {p: np.array(of.get(p, [0, 1, 2]), np.uint32) for p in PARTIES}
    return settle(lists, names, grouped)


def _pairs(settled: Settled, kind: str = "same") -> list[tuple[str, int, str, int]]:
    """Rows by the number in the record's name: records lie in the order 2, 0, 1."""
    by: Any = getattr(settled.asserted, kind)
    order = (2, 0, 1)
    return [
        (one, order[i], other, order[j])
        for (one, other), (left, right) in by.items()
        for i, j in zip(left.tolist(), right.tolist(), strict=True)
    ]


def test_it_takes_two_who_name_one_assertion() -> None:
    settled = _settle(("a", 0, "x", "same"), ("b", 1, "x", "same"), ("a", 1, "y", "same"))
    assert _pairs(settled) == [("a", 0, "b", 1)]
    assert settled.report == {
        "same": 1,
        "different": 0,
        "one_side_only": 1,
        "unknown_records": {},
        "contradictions": 0,
        "contradicting": [],
    }


def test_a_record_that_the_dataset_lacks_says_nothing() -> None:
    settled = _settle(("a", 9, "x", "same"), ("b", 1, "x", "same"))
    assert _pairs(settled) == []
    assert settled.report["unknown_records"] == {"a": 1}
    assert settled.report["one_side_only"] == 1


def test_three_under_one_assertion_and_a_chain_of_three_are_one_person() -> None:
    triple = [("a", 0, "b", 1), ("a", 0, "c", 2), ("b", 1, "c", 2)]
    one = _settle(("a", 0, "x", "same"), ("b", 1, "x", "same"), ("c", 2, "x", "same"))
    assert _pairs(one) == triple
    chain = _settle(
        ("a", 0, "x", "same"), ("b", 1, "x", "same"), ("b", 1, "y", "same"), ("c", 2, "y", "same")
    )
    assert _pairs(chain) == [triple[0], triple[2]]
    entities = solve(_no_weights(), _rows(), asserted=chain.asserted)
    assert entities.of["a"][1] == entities.of["b"][2] == entities.of["c"][0]


def test_one_says_same_another_different() -> None:
    settled = _settle(("a", 0, "x", "same"), ("b", 1, "x", "different"))
    assert (_pairs(settled), _pairs(settled, "different")) == ([], [])
    assert settled.report["contradicting"] == [
        {
            "why": "one says same, another different",
            "uploaders": ["a", "b"],
            "tokens": [_name("x").hex()],
        }
    ]


def test_the_same_pair_is_same_under_one_name_and_different_under_another() -> None:
    said = [(p, 0, "x", "same") for p in "ab"] + [(p, 0, "y", "different") for p in "ab"]
    settled = _settle(*said)
    assert (_pairs(settled), _pairs(settled, "different")) == ([], [("a", 0, "b", 0)])
    (told,) = settled.report["contradicting"]
    assert told["tokens"] == [_name("x").hex(), _name("y").hex()]


def test_a_chain_that_ties_what_is_different_counts_nowhere() -> None:
    said = [
        ("a", 0, "x", "same"), ("b", 0, "x", "same"),
        ("b", 0, "y", "same"), ("c", 0, "y", "same"),
        ("a", 0, "z", "different"), ("c", 0, "z", "different"),
        ("a", 1, "v", "same"), ("b", 1, "v", "same"),
    ]  # fmt: skip
    settled = _settle(*said)
    assert _pairs(settled) == [("a", 1, "b", 1)]
    assert _pairs(settled, "different") == [("a", 0, "c", 0)]
    assert settled.report["contradicting"][0]["uploaders"] == ["a", "b", "c"]
    assert _pairs(_settle(*reversed(said))) == _pairs(settled)


def test_two_records_of_one_dataset_are_not_one_person_unless_grouped() -> None:
    said = [
        ("a", 0, "x", "same"), ("b", 0, "x", "same"), ("a", 1, "y", "same"), ("b", 0, "y", "same")
    ]  # fmt: skip
    settled = _settle(*said)
    assert _pairs(settled) == []
    assert "two records of one dataset" in settled.report["contradicting"][0]["why"]
    grouped = _settle(*said, groups={"a": [0, 1, 1]})  # records 0 and 1
    assert _pairs(grouped) == [("a", 0, "b", 0)]
    assert grouped.report["contradictions"] == 0


def test_a_report_names_a_hundred_contradictions_and_counts_all() -> None:
    said = [(p, 0, f"t{n}", v) for n in range(120) for p, v in (("a", "same"), ("b", "different"))]
    report = _settle(*said).report
    assert (report["contradictions"], len(report["contradicting"])) == (120, 100)


def test_the_solver_takes_no_contradiction() -> None:
    rows = (np.array([0, 1], np.uint32), np.array([0, 0], np.uint32))
    with pytest.raises(MatchingFailed, match="contradicts itself"):
        solve(_no_weights(), _rows(), asserted=Asserted(same={("a", "b"): rows}))
    beyond = (np.array([7], np.uint32), np.array([0], np.uint32))
    with pytest.raises(MatchingFailed, match="its dataset does not have"):
        solve(_no_weights(), _rows(), asserted=Asserted(different={("a", "b"): beyond}))


def test_a_list_travels_and_what_is_none_is_refused() -> None:
    made = AssertionList(
        "a", _matrix([_name("r1"), _name("r2")]), _matrix([_name("t2"), _name("t1")]),
        np.array([True, False]),
    )  # fmt: skip
    back = assertions.from_bytes(assertions.to_bytes(made), "a")
    assert back.tokens.tobytes() == _name("t1") + _name("t2")
    assert (back.pseudonyms.tobytes(), back.different.tolist()) == (
        _name("r2") + _name("r1"),
        [False, True],
    )
    empty = AssertionList("a", made.pseudonyms[:0], made.tokens[:0], made.different[:0])
    assert len(assertions.from_bytes(assertions.to_bytes(empty), "a")) == 0
    with pytest.raises(EncodingRefused, match="names one assertion twice"):
        AssertionList("a", made.pseudonyms, made.tokens[[0, 0]], made.different)
    with pytest.raises(EncodingRefused, match="differ in length"):
        AssertionList("a", made.pseudonyms, made.tokens[:1], made.different)
    with pytest.raises(EncodingRefused, match="is no table"):
        assertions.from_bytes(b"x" * 40, "a")
    for columns in (
        {"x": [1]},
        {"record_pseudonym": [_name("r")], "token": [None], "different": [True]},
    ):
        schema = assertions.list_schema() if len(columns) > 1 else None
        sink = pa.BufferOutputStream()
        table = pa.table(columns, schema=schema)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(EncodingRefused, match=r"other columns|has nulls"):
            assertions.from_bytes(bytes(sink.getvalue()), "a")


def _no_weights() -> Weights:
    return _weights([])


def _rows() -> dict[str, np.ndarray]:
    return {p: np.arange(3, dtype=np.uint32) for p in PARTIES}
