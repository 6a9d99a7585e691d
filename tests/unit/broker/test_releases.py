"""Numbers of releases, also after older software, and what is known of withdrawals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url, text

from broker.effects import Made, _without
from broker.store import jobs, releases
from broker.store.engine import Database
from linkage.pseudonyms import random_ids


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(make_url(f"sqlite:///{tmp_path / 'x.sqlite'}"))
    made.migrate()
    with made.engine.begin() as connection:
        values = {"h": "0" * 64}
        connection.execute(
            text(
                "INSERT INTO study (id, study_hash, signed, registered_at)"
                " VALUES ('s1', :h, '{}', 1)"
            ),
            values,
        )
        connection.execute(
            text(
                "INSERT INTO run (id, study_id, seed, epoch, inputs, software, state, stage,"
                " progress, seconds, sequence, started_at)"
                " VALUES ('run-1', 's1', 1, 1, '{}', 'x', 'done', '', 1, '{}', 1, 1)"
            )
        )
    yield made
    made.close()


def release(name: str, *audience: str, at: int, number: int | None = None) -> jobs.JobRow:
    return jobs.JobRow(
        id=name,
        study_id="s1",
        kind="release",
        run_id="run-1",
        request=json.dumps({"audience": list(audience)}),
        state="done",
        asked_at=at,
        finished_at=at,
        number=number,
    )


def test_numbers_count_by_audience_and_heal_what_older_software_left(database: Database) -> None:
    with database.change() as connection:
        for row in (
            release("r-a", "enclave", at=5),
            release("r-b", "enclave", at=3),
            release("r-c", "imaging", "enclave", at=4),
            replace(release("r-d", "enclave", at=9), state="failed"),
        ):
            jobs.add(connection, row)
        new = replace(release("r-e", "enclave", at=1), state="running")
        jobs.add(connection, new)
        assert releases.next_number(connection, new) == 3
        numbered = releases.of_audience(connection, "s1", ("enclave",))
        assert [(one.id, one.number) for one in numbered] == [("r-b", 1), ("r-a", 2)]
        both = release("r-f", "enclave", "imaging", at=1)
        assert releases.next_number(connection, both) == 2, "in whatever order they were named"


def test_a_clock_that_jumps_back_makes_no_older_release_current(database: Database) -> None:
    with database.change() as connection:
        jobs.add(connection, release("r-a", "enclave", at=900, number=1))
        jobs.add(connection, release("r-b", "enclave", at=100, number=2))
        assert releases.of_audience(connection, "s1", ("enclave",))[-1].id == "r-b"


def test_what_was_withdrawn_keeps_its_first_day(database: Database) -> None:
    with database.change() as connection:
        jobs.add(connection, release("r-a", "enclave", "imaging", at=1))
        assert releases.set_affected(connection, "r-a", {"enclave": 2, "imaging": 0}, 10)
        assert not releases.set_affected(connection, "r-a", {"enclave": 2, "imaging": 0}, 11)
        assert releases.set_affected(connection, "r-a", {"enclave": 3, "imaging": 1}, 12)
        assert releases.affected_of(connection, "r-a") == {"enclave": (3, 10), "imaging": (1, 12)}
        assert releases.set_affected(connection, "r-a", {"enclave": 0, "imaging": 1}, 13)
        assert releases.affected_of(connection, "r-a") == {"imaging": (1, 12)}


def test_who_was_left_out_was_never_given_out() -> None:
    names = random_ids(5)
    some = names[[1, 3]].tobytes()
    read = Made.read(Made({"a": 3}, {"x": some, "y": None}).to_json())
    assert (read.records, read.left_out) == ({"a": 3}, {"x": some, "y": None})
    assert (_without(names, some) == names[[0, 2, 4]]).all()
    assert len(_without(names, None)) == 0
    assert (_without(names, b"") == names).all()
    assert Made.read(None).records == {}
    assert np.array_equal(_without(names[:0], some), names[:0])
