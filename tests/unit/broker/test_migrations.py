"""A database of the first version keeps all it holds when it is brought to this one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from broker.store import engine, people, runs, studies
from broker.store.engine import Database

STUDY = 'epoch = 1\n[study]\nid = "s1"\nepoch = 3\n'
FIRST = (
    "INSERT INTO study VALUES ('s1', :h, :signed, 1)",
    "INSERT INTO study VALUES ('s2', :h, 'no json', 1)",
    "INSERT INTO dataset VALUES ('s1', 'imaging', 4, '{}', :h, 'complete', 1, 2)",
    "INSERT INTO dataset VALUES ('s2', 'claims', 1, '{}', :h, 'complete', 1, 2)",
    "INSERT INTO part VALUES ('s1', 'imaging', 4, 1, 'blob-1')",
    "INSERT INTO run (id, study_id, seed, inputs, software, state, stage, progress, seconds,"
    " sequence, started_at) VALUES ('run-1', 's1', 1, '{}', 'x', 'done', '', 1, '{}', 1, 1)",
    "INSERT INTO person (study_id, person_id, since) VALUES ('s1', :b, 1)",
    "INSERT INTO membership (study_id, party, pseudonym, since, person_id)"
    " VALUES ('s1', 'imaging', :b, 1, :b)",
)


@pytest.fixture
def old(empty: Database) -> Database:
    """A database as version 0001 left it, with a row of everything."""
    _alembic(empty, command.upgrade, "0001")
    values = {"h": "0" * 64, "b": b"p" * 16, "signed": json.dumps({"study_toml": STUDY})}
    with empty.engine.begin() as connection:
        for statement in FIRST:
            named = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), named)
    return empty


def _alembic(database: Database, do: Callable[[Config, str], None], revision: str) -> None:
    with database.engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(engine._MIGRATIONS))
        config.attributes["connection"] = connection
        do(config, revision)
        connection.commit()


def test_everything_is_there_afterwards(old: Database) -> None:
    old.migrate()
    old.require_migrated()
    with old.read() as connection:
        newest = studies.newest_dataset(connection, "s1", "imaging", state="complete", epoch=3)
        assert newest is not None
        assert studies.part_blobs(connection, newest) == {1: "blob-1"}
        other = studies.newest_dataset(connection, "s2", "claims")
        assert other is not None
        assert other.epoch == 1
        before = studies.find_study(connection, "s1")
        assert before is not None
        assert before.state == "open", "its parties had agreed before there was a hash to confirm"
        run = runs.find(connection, "run-1")
        assert run is not None
        assert run.epoch == 3
        assert people.members_at(connection, "s1", "imaging", 1) == (b"p" * 16, b"p" * 16)


def test_and_it_can_go_back(old: Database) -> None:
    old.migrate()
    _alembic(old, command.downgrade, "0001")
    with old.read() as connection:
        found = connection.execute(text("SELECT party, number FROM dataset ORDER BY number")).all()
    assert [tuple(row) for row in found] == [("claims", 1), ("imaging", 4)]
