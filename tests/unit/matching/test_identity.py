"""Person IDs that stay: adding never renames, merges leave tombstones, splits keep the majority."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.errors import MatchingFailed
from linkage.matching import identity_reference
from linkage.matching.identity import (
    Previous,
    assign,
    derive_person_id,
    result_digest,
)
from linkage.matching.identity_reference import PlainChanges
from linkage.matching.solve import Entities
from linkage.records import Bytes2D


def _name(record: int) -> bytes:
    return record.to_bytes(16, "big")


def _matrix(names: Iterable[bytes]) -> Bytes2D:
    return np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16)


def _bytes(matrix: Bytes2D) -> list[bytes]:
    return [row.tobytes() for row in matrix]


def _assigned(
    previous: Mapping[bytes, bytes],
    entities: Entities,
    pseudonyms: Mapping[str, Bytes2D],
    ended: Collection[bytes] = (),
) -> PlainChanges:
    """Assign, and tell the result as the reference does."""
    before = Previous(_matrix(previous), _matrix(previous.values()), _matrix(ended))
    made = assign(before, entities, pseudonyms)
    members = {
        name: person
        for party, names in pseudonyms.items()
        for name, person in zip(_bytes(names), _bytes(made.members[party]), strict=True)
    }
    merged, split = (
        dict(zip(*map(_bytes, pair), strict=True)) for pair in (made.merged, made.split)
    )
    unused = tuple(_bytes(made.unused))
    return PlainChanges(members, tuple(_bytes(made.created)), merged, split, unused)


def _id(letter: str) -> bytes:
    return letter.encode().ljust(16, b"\0")


def _made(parts: list[list[int]]) -> tuple[Entities, dict[str, Bytes2D]]:
    """One party "a" whose records are those of `parts`, in the order given."""
    records = [r for part in parts for r in part]
    matrix = np.frombuffer(b"".join(map(_name, records)), np.uint8).reshape(-1, 16)
    of = np.array([e for e, part in enumerate(parts) for _ in part], np.int64)
    return Entities({"a": of}, len(parts)), {"a": matrix}


def _assign(
    previous: dict[int, str], parts: list[list[int]], ended: tuple[str, ...] = ()
) -> PlainChanges:
    known = {_name(record): _id(person) for record, person in previous.items()}
    return _assigned(known, *_made(parts), ended=[_id(person) for person in ended])


def _persons(changes: PlainChanges, *records: int) -> list[bytes]:
    return [changes.members[_name(record)] for record in records]


def test_new_people_get_new_ids() -> None:
    changes = _assign({}, [[2, 1], [3]])
    assert changes.created == (derive_person_id(_name(1), 0), derive_person_id(_name(3), 0))
    assert _persons(changes, 1, 2, 3) == [
        changes.created[0],
        changes.created[0],
        changes.created[1],
    ]
    assert not changes.merged
    assert not changes.split


def test_adding_never_renames() -> None:
    changes = _assign({5: "P", 6: "Q"}, [[1, 2, 3, 5], [6, 7]])
    assert _persons(changes, 1, 2, 3, 5, 6, 7) == [_id("P")] * 4 + [_id("Q")] * 2
    assert changes.created == ()
    assert changes.unused == ()


def test_a_merge_keeps_the_majoritys_id_and_leaves_a_tombstone() -> None:
    changes = _assign({1: "P", 2: "Q", 3: "Q"}, [[1, 2, 3]])
    assert _persons(changes, 1, 2, 3) == [_id("Q")] * 3
    assert changes.merged == {_id("P"): _id("Q")}


def test_a_tied_merge_keeps_the_smaller_id() -> None:
    changes = _assign({1: "Q", 2: "P"}, [[1, 2]])
    assert _persons(changes, 1, 2) == [_id("P")] * 2
    assert changes.merged == {_id("Q"): _id("P")}


def test_a_split_keeps_the_id_with_the_majority() -> None:
    changes = _assign({1: "P", 2: "P", 3: "P"}, [[1], [2, 3]])
    assert _persons(changes, 2, 3) == [_id("P")] * 2
    (new,) = changes.created
    assert _persons(changes, 1) == [new]
    assert changes.split == {new: _id("P")}
    assert not changes.merged


def test_a_tied_split_keeps_the_id_with_the_smallest_pseudonym() -> None:
    changes = _assign({1: "P", 2: "P"}, [[2], [1]])
    assert _persons(changes, 1) == [_id("P")]


def test_a_split_never_takes_the_id_it_came_from() -> None:
    """The part that leaves holds the pseudonym from which the old ID was derived."""
    first = derive_person_id(_name(1), 0)
    changes = _assigned({_name(r): first for r in (1, 2, 3)}, *_made([[1], [2, 3]]))
    assert changes.created == (derive_person_id(_name(1), 1),)


def test_an_ended_id_does_not_come_back() -> None:
    ended = derive_person_id(_name(1), 0)
    changes = _assigned({}, *_made([[1]]), ended=[ended])
    assert changes.created == (derive_person_id(_name(1), 1),)


def test_records_that_change_sides_merge_and_split_at_once() -> None:
    changes = _assign({1: "P", 2: "P", 3: "Q", 4: "Q"}, [[1, 2, 3], [4]])
    assert _persons(changes, 1, 2, 3, 4) == [_id("P")] * 3 + [_id("Q")]
    assert not changes.merged
    assert not changes.created


def test_withdrawn_people_keep_their_id_unused() -> None:
    changes = _assign({1: "P", 2: "Q"}, [[1]])
    assert changes.unused == (_id("Q"),)
    assert not changes.merged


@settings(max_examples=80, deadline=None)
@given(
    previous=st.dictionaries(st.integers(0, 11), st.sampled_from("PQRS")),
    label=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    data=st.data(),
)
def test_each_entity_has_one_id_and_each_id_one_entity(
    previous: dict[int, str], label: list[int], data: st.DataObject
) -> None:
    parts: dict[int, list[int]] = {}
    for record, number in enumerate(label):
        parts.setdefault(number, []).append(record)
    changes = _assign(previous, list(parts.values()))
    persons = [set(_persons(changes, *part)) for part in parts.values()]
    assert all(len(p) == 1 for p in persons)
    assert len(set().union(*persons)) == len(parts)
    in_use = set().union(*persons)
    for old, new in changes.merged.items():
        assert old not in in_use
        assert new in in_use
    for person in {_id(p) for p in previous.values()}:
        assert (person in in_use) + (person in changes.merged) + (person in changes.unused) == 1
    for part, ids in zip(parts.values(), persons, strict=True):
        votes = Counter(_id(previous[r]) for r in part if r in previous)
        if len(votes) == 1 and set(votes) & {
            p for p, n in Counter(_id(q) for q in previous.values()).items() if n == votes[p]
        }:
            assert ids == set(votes)  # all its known records, and only these, had this ID
    order = data.draw(st.permutations(list(parts.values())))
    assert _assign(previous, order).members == changes.members


def test_one_pseudonym_in_two_parties_is_refused() -> None:
    entities, pseudonyms = _made([[1]])
    twice = Entities({**entities.of, "b": np.array([1])}, 2)
    with pytest.raises(MatchingFailed, match="two records have one pseudonym"):
        result_digest(twice, {**pseudonyms, "b": pseudonyms["a"]})


def test_sizes_must_fit() -> None:
    entities, pseudonyms = _made([[1], [2]])
    with pytest.raises(MatchingFailed, match="not of the same records"):
        _assigned({}, entities, {"a": pseudonyms["a"][:1]})


def test_the_digest_is_of_the_partition_alone() -> None:
    text = b"commons-linkage/partition/1" + b"\1" + _name(1) + b"\0" + _name(4) + b"\1" + _name(2)
    expected = hashlib.sha256(text).hexdigest()
    assert result_digest(*_made([[2], [4, 1]])) == expected
    assert result_digest(*_made([[1, 4], [2]])) == expected
    assert result_digest(*_made([[1], [4, 2]])) != expected
    assert result_digest(*_made([[1], [4], [2]])) != expected
    split = Entities({"x": np.array([7, 9]), "a": np.array([7])}, 2)
    names = _made([[4, 2]])[1]["a"]
    assert result_digest(split, {"x": names, "a": _made([[1]])[1]["a"]}) == expected


def test_nothing_has_a_digest_too() -> None:
    empty = {"a": np.zeros((0, 16), np.uint8)}
    assert len(result_digest(Entities({"a": np.zeros(0, np.int64)}, 0), empty)) == 64


_NAMES = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.integers(0, 3).map(lambda n: bytes([n]).ljust(16, b"\0")),
    st.integers(0, 3).map(lambda n: bytes([n]).rjust(16, b"\0")),
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_arrays_and_dicts_give_the_same(data: st.DataObject) -> None:
    """Names and IDs that end or begin in zero bytes, tombstones, and IDs that are taken already."""
    names = data.draw(st.lists(_NAMES, unique=True, max_size=14))
    label = data.draw(st.lists(st.integers(0, 6), min_size=len(names), max_size=len(names)))
    party = data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    ids = st.one_of(
        st.sampled_from([_id("P"), _name(1), b"\xff" * 16, bytes(16)]),
        st.sampled_from(names or [bytes(16)]).map(lambda n: derive_person_id(n, 0)),
        st.sampled_from(names or [bytes(16)]).map(lambda n: derive_person_id(n, 1)),
    )
    known = st.one_of(st.sampled_from(names), _NAMES) if names else _NAMES
    previous = data.draw(st.dictionaries(known, ids, max_size=14))
    ended = data.draw(st.lists(ids, max_size=3))
    rows = {p: [i for i, there in enumerate(party) if there == (p == "a")] for p in ("b", "a")}
    entities = Entities(
        {p: np.array([label[i] for i in mine], np.int64) for p, mine in rows.items()}, 7
    )
    pseudonyms = {p: _matrix(names[i] for i in mine) for p, mine in rows.items()}
    wanted = identity_reference.assign(previous, entities, pseudonyms, ended=ended)
    assert _assigned(previous, entities, pseudonyms, ended) == wanted
    digest = identity_reference.result_digest(entities, pseudonyms)
    assert result_digest(entities, pseudonyms) == digest
