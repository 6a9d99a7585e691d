"""Links that only one of two runs has: counted by the database, as sets would count them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url

from broker.store import links, studies
from broker.store.engine import Database
from linkage.matching.weights import MODEL_VERSION

STUDY = "small-study"
Pairs = dict[tuple[int, int], int]
"""Tier by pair of record numbers."""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> Iterator[Database]:
    sqlite = f"sqlite:///{tmp_path / 'x.sqlite'}"
    made = Database(make_url(sqlite if request.param == "sqlite" else new_postgres_url()))
    made.migrate()
    with made.change() as connection:
        row = studies.StudyRow(id=STUDY, study_hash="0" * 64, signed="{}", registered_at=0)
        studies.add_study(connection, row)
    yield made
    made.close()


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


def test_links_that_only_one_run_has_are_counted(database: Database) -> None:
    assert changed(database, 1, 2) == (0, 0)
    dice = random.Random(7)
    runs: list[Pairs] = []
    for sequence in range(1, 8):
        # A pair may go and come back, and may change its tier, which makes it no other link.
        pairs = {(i, j): dice.randrange(2) for i in range(6) for j in range(6)}
        kept = {pair: tier for pair, tier in pairs.items() if dice.random() < 0.6}
        runs.append(kept)
        write(database, sequence, kept)
    for first in range(len(runs)):
        for second in range(first + 1, len(runs)):
            old, new = runs[first].keys(), runs[second].keys()
            told = changed(database, first + 1, second + 1)
            assert told == (len(new - old), len(old - new))
    with database.read() as connection:
        assert links.changed(connection, "other-study", 1, 7) == (0, 0)
