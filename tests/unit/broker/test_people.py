"""Persons over several runs: who was this after which run, on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from broker.store import bulk, people, studies
from broker.store.engine import Database
from linkage.matching.identity import assign
from linkage.matching.solve import Entities

STUDY = "small-study"


@pytest.fixture
def database(database: Database) -> Database:
    row = studies.StudyRow(id=STUDY, study_hash="0" * 64, signed="{}", registered_at=0)
    with database.change() as connection:
        studies.add_study(connection, row)
    return database


def name(record: str) -> bytes:
    return hashlib.sha256(record.encode()).digest()[:16]


def run(database: Database, sequence: int, *persons: str) -> dict[str, bytes]:
    """
    Write a run's result. persons: such as "a1 b1", records whose first letter is their party.

    Returns the person ID of every record.
    """
    records = {"a": [], "b": []}  # type: dict[str, list[str]]
    entity: dict[str, int] = {}
    for number, person in enumerate(persons):
        for record in person.split():
            records[record[0]].append(record)
            entity[record] = number
    entities = Entities(
        of={p: np.array([entity[r] for r in rs], np.int64) for p, rs in records.items()},
        count=len(persons),
    )
    pseudonyms = {
        p: np.frombuffer(b"".join(map(name, rs)), np.uint8).reshape(-1, 16)
        for p, rs in records.items()
    }
    with database.change() as connection:
        known = people.everyone(connection, STUDY)
        changes = assign(known.previous(), entities, pseudonyms)
        people.write(connection, STUDY, sequence, known, pseudonyms, changes)
    return {
        record: person.tobytes()
        for party, rs in records.items()
        for record, person in zip(rs, changes.members[party], strict=True)
    }


def members(database: Database, sequence: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    with database.read() as connection:
        for party in ("a", "b"):
            names, ids = people.members_at(connection, STUDY, party, sequence)
            found |= {names[i : i + 16]: ids[i : i + 16] for i in range(0, len(names), 16)}
    return found


def test_the_history_of_merging_splitting_and_withdrawing(database: Database) -> None:
    first = run(database, 1, "a1 b1", "a2", "b2")
    second = run(database, 2, "a1 b1", "a2 b2", "a3")  # a2 and b2 merge, a3 joins
    third = run(database, 3, "a1", "b1", "a2 b2")  # a1 and b1 part, a3 is withdrawn
    fourth = run(database, 4, "a1 b1", "a2 b2", "a3")  # as in the second
    # Adding never renames; the part of a split that stays keeps the ID.
    assert first["a1"] == first["b1"] == second["a1"] == second["b1"]
    assert second["a2"] == second["b2"] in (first["a2"], first["b2"])
    assert first["a1"] in (third["a1"], third["b1"])
    assert third["a1"] != third["b1"]
    assert fourth["a3"] == second["a3"]
    # A tombstone never comes back.
    gone = {first["a2"], first["b2"]} - {second["a2"]}
    assert not gone & set(fourth.values())
    with database.read() as connection:
        assert set(bulk.split(people.everyone(connection, STUDY).ended)) >= gone
    # And every run's answer stays what it was.
    for sequence, result in enumerate((first, second, third, fourth), start=1):
        wanted = {name(record): person for record, person in result.items()}
        assert members(database, sequence) == wanted


def test_the_same_result_again_writes_nothing(database: Database) -> None:
    first = run(database, 1, "a1 b1", "a2")
    again = run(database, 2, "a2", "a1 b1")
    assert first == again
    with database.read() as connection:
        known = people.everyone(connection, STUDY)
    assert known.since.tolist() == [1, 1, 1]


def test_many_records(database: Database) -> None:
    """More than one batch of rows."""
    result = run(database, 1, *(f"a{i} b{i}" for i in range(12_000)))
    found = members(database, 1)
    assert len(found) == 24_000
    assert found[name("a7")] == result["b7"]
