"""Links that only one of two runs has: counted as a run ends, as sets would count them."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sqlalchemy import delete

from broker.store import links, studies
from broker.store.engine import Database
from broker.store.tables import link, links_in_common
from linkage.matching.weights import MODEL_VERSION

STUDY = "small-study"
Pairs = dict[tuple[int, int], int]
"""Tier by pair of record numbers."""


@pytest.fixture
def database(database: Database) -> Database:
    with database.change() as connection:
        row = studies.StudyRow(id=STUDY, study_hash="0" * 64, signed="{}", registered_at=0)
        studies.add_study(connection, row)
    return database


def write(database: Database, sequence: int, pairs: Pairs) -> None:
    names = np.zeros((len(pairs), 2, 16), np.uint8)
    names[:, :, 0] = np.array(list(pairs), np.uint8).reshape(-1, 2)
    rows = links.LinkRows(
        left=names[:, 0],
        right=names[:, 1],
        tier=np.array(list(pairs.values()), np.int64),
        model=np.full(len(pairs), MODEL_VERSION, np.int64),
    )
    with database.change() as connection:
        links.write(connection, STUDY, sequence, rows)


def changed(database: Database, first: int, second: int) -> tuple[int, int]:
    with database.read() as connection:
        return links.changed(connection, STUDY, first, second)


def drawn_runs() -> list[Pairs]:
    """A pair may go and come back, and may change its tier, which makes it no other link."""
    dice = random.Random(7)
    runs: list[Pairs] = []
    for _ in range(9):
        pairs = {(i, j): dice.randrange(2) for i in range(6) for j in range(6)}
        runs.append({pair: tier for pair, tier in pairs.items() if dice.random() < 0.6})
    return runs


def as_sets(runs: list[Pairs]) -> dict[tuple[int, int], tuple[int, int]]:
    found = {}
    for second in range(len(runs)):
        for first in range(second):
            old, new = runs[first].keys(), runs[second].keys()
            found[first + 1, second + 1] = (len(new - old), len(old - new))
    return found


def test_links_that_only_one_run_has_are_counted(database: Database) -> None:
    assert changed(database, 1, 2) == (0, 0)
    runs = drawn_runs()
    for sequence, pairs in enumerate(runs, start=1):
        write(database, sequence, pairs)
    wanted = as_sets(runs)
    assert {both: changed(database, *both) for both in wanted} == wanted
    with database.read() as connection:
        assert {both: links.counted(connection, STUDY, *both) for both in wanted} == wanted
        assert links.changed(connection, "other-study", 1, 7) == (0, 0)
    with database.change() as connection:
        connection.execute(delete(link))
    assert {both: changed(database, *both) for both in wanted} == wanted, "no link is read"


def test_runs_of_earlier_software_are_counted_from_their_links(database: Database) -> None:
    runs = drawn_runs()
    for sequence, pairs in enumerate(runs, start=1):
        write(database, sequence, pairs)
        if sequence == 4:  # until here such software ended them; and one later, beside this one
            with database.change() as connection:
                connection.execute(delete(links_in_common))
    with database.change() as connection:
        connection.execute(delete(links_in_common).where(links_in_common.c.second == 7))
    wanted = as_sets(runs)
    assert {both: changed(database, *both) for both in wanted} == wanted


def test_runs_far_apart_are_counted_from_their_links(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_BACK", 2)
    runs = drawn_runs()
    for sequence, pairs in enumerate(runs, start=1):
        write(database, sequence, pairs)
    wanted = as_sets(runs)
    assert {both: changed(database, *both) for both in wanted} == wanted
    with database.read() as connection:
        kept = connection.execute(links_in_common.select()).all()
    assert len(kept) == 3 * len(runs) - 3
