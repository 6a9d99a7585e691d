"""A search by the words of a list finds what reading every name finds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import delete

from broker.store import offered, offered_words, studies
from broker.store.engine import Database
from broker.store.offered import ConceptRow, ListRow
from broker.store.tables import (
    offered_concept,
    offered_list,
    offered_vocabulary,
    offered_word,
)

STUDY, PARTY = "small-study", "enclave"
LETTERS = "abe%_\\é"
SEARCHES = (
    "a",
    "b",
    "ab",
    "%",
    "_",
    "\\",
    "é",
    "abe",
    "bb",
    "a%",
    "zz",
    "e_",
    "ba a",
    "a b e",
    "bé b",
)


@pytest.fixture
def database(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    with database.change() as connection:
        row = studies.StudyRow(id=STUDY, study_hash="0" * 64, signed="{}", registered_at=0)
        studies.add_study(connection, row)
    monkeypatch.setattr(offered_words, "HEAD", 20)
    monkeypatch.setattr(offered_words, "MANY", 60)
    monkeypatch.setattr(offered_words, "_FEW", 10)
    monkeypatch.setattr(offered_words, "_SOME", 40)
    monkeypatch.setattr(offered, "_AT_ONCE", 7)
    return database


def concepts(count: int) -> list[ConceptRow]:
    dice = random.Random(count)
    names = [
        " ".join("".join(dice.choices(LETTERS, k=dice.randint(1, 4))) for _ in range(k % 4 + 1))
        for k in range(count)
    ]
    return [
        ConceptRow(
            party=PARTY,
            position=position,
            concept_id=position + 1,
            domain=dice.choice(("condition", "drug", "unit")),
            name=name,
            folded=name,
            vocabulary="",
            code="",
            code_folded="",
            standard="S",
        )
        for position, name in enumerate(sorted(names, key=len))
    ]


def put(database: Database, rows: Sequence[ConceptRow]) -> None:
    row = ListRow(
        study_id=STUDY, party=PARTY, made_at=1, placed_at=1, least=11, head="{}"
    )  # fmt: skip
    with database.change() as connection:
        offered.put(connection, row, rows)


def found(database: Database, said: str, domain: str, most: int) -> list[int]:
    with database.read() as connection:
        rows = offered.with_words(connection, STUDY, PARTY, said.split(), domain=domain, most=most)
    return [row.position for row in rows]


def fitting(rows: Sequence[ConceptRow], said: str, domain: str, most: int) -> list[int]:
    """Every name is read."""
    return [
        row.position
        for row in rows
        if all(word in row.folded for word in said.split())
        and (row.domain == domain if domain else row.domain != "unit")
    ][:most]


def words_kept(database: Database) -> int:
    with database.read() as connection:
        tables = (offered_vocabulary, offered_word)
        return sum(len(connection.execute(table.select()).all()) for table in tables)


@pytest.mark.parametrize("count", [0, 1, 20, 21, 400])
def test_the_same_is_found_as_by_reading_every_name(database: Database, count: int) -> None:
    rows = concepts(count)
    put(database, rows)
    assert bool(words_kept(database)) == (count > 20)
    for said in SEARCHES:
        for domain in ("", "drug", "unit"):
            for most in (1, 5, 1_000):
                wanted = fitting(rows, said, domain, most)
                assert found(database, said, domain, most) == wanted, (said, domain, most)


def test_words_that_repeat_a_letter_are_found_once_each(database: Database) -> None:
    """The letter stands in few names and very often."""
    rows = [
        replace(one, name="a" * 40, folded="a" * 40) if one.position % 10 == 0 else one
        for one in (replace(row, folded="bb", name="bb") for row in concepts(400))
    ]
    put(database, rows)
    for said in ("a", "aa", "b", "bb"):
        assert found(database, said, "", 1_000) == fitting(rows, said, "", 1_000)


def test_a_list_without_words_is_read(database: Database) -> None:
    """As software of the version before leaves it."""
    rows = concepts(400)
    put(database, rows)
    with database.change() as connection:
        connection.execute(delete(offered_word))
        connection.execute(delete(offered_vocabulary))
    for said in SEARCHES:
        assert found(database, said, "", 1_000) == fitting(rows, said, "", 1_000)


def test_words_go_with_their_list(database: Database) -> None:
    """Also where software deletes it that knows nothing of them."""
    put(database, concepts(400))
    assert words_kept(database)
    with database.change() as connection:
        connection.execute(delete(offered_concept))
        connection.execute(delete(offered_list))
    assert not words_kept(database)
    put(database, concepts(400))
    put(database, concepts(21))
    rows = concepts(21)
    assert found(database, "a", "", 1_000) == fitting(rows, "a", "", 1_000)
