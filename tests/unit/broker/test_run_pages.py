"""A study's runs by pages: every run once, ties included, and no report is read for it."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import event

from broker.store import runs, studies
from broker.store.engine import Database

STUDY, OTHER = "small-study", "other-study"


@pytest.fixture
def database(database: Database) -> Database:
    with database.change() as connection:
        for study in (STUDY, OTHER):
            row = studies.StudyRow(id=study, study_hash="0" * 64, signed="{}", registered_at=0)
            studies.add_study(connection, row)
        for number in range(130):
            # Three runs a second, so that most pages begin within a tie.
            row_of = runs.RunRow(
                id=f"run-{(number * 7919) % 1000:03}",
                study_id=OTHER if number % 13 == 0 else STUDY,
                seed=number,
                epoch=1,
                inputs="{}",
                software="1",
                state="done",
                report=json.dumps({"filling": "x" * 5000}),
                started_at=1000 + number // 3,
            )
            runs.add(connection, row_of)
    return database


@pytest.mark.parametrize("limit", [1, 7, 20, 120, 121])
def test_pages_hold_every_run_once_newest_first(database: Database, limit: int) -> None:
    with database.read() as connection:
        whole = runs.of_study(connection, STUDY, reports=True)
        found, before = list[runs.RunRow](), None
        while page := runs.page(connection, STUDY, limit=limit, before=before):
            assert len(page) <= limit
            found += page
            before = page[-1]
    assert len(whole) == 120
    assert [row.id for row in found] == [row.id for row in whole]
    assert [row.started_at for row in whole] == sorted((r.started_at for r in whole), reverse=True)
    assert {row.report for row in found} == {None}
    assert None not in {row.report for row in whole}


def test_no_report_is_read_for_a_list(database: Database) -> None:
    asked: list[str] = []
    event.listen(
        database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: asked.append(statement),
    )
    with database.read() as connection:
        first = runs.page(connection, STUDY, limit=5)
        runs.page(connection, STUDY, limit=5, before=first[-1])
        runs.of_study(connection, STUDY)
    lists = [one for one in asked if "FROM run" in one]
    assert len(lists) == 3
    assert not [one for one in lists if "report" in one]
