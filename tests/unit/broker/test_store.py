"""The database: migrations give exactly the tables of the code, and writers take turns."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import make_url, text

from broker import audit
from broker.store.engine import Database
from broker.store.tables import metadata
from linkage.errors import BrokerRefused, Unreachable


def test_migrations_make_the_tables_of_the_code(empty: Database) -> None:
    with pytest.raises(BrokerRefused, match="not that of this version"):
        empty.require_migrated()
    for _ in range(2):
        empty.migrate()
        empty.require_migrated()
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_database_of_a_newer_version_is_refused(empty: Database) -> None:
    empty.migrate()
    with empty.change() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(BrokerRefused, match="linkage-broker migrate"):
        empty.require_migrated()


def test_changes_take_turns(empty: Database) -> None:
    """Each reads, then writes: without turns two would write the same number."""
    empty.migrate()

    def change() -> None:
        for _ in range(10):
            with empty.change() as connection:
                audit.record(connection, actor="console", action="act")

    threads = [threading.Thread(target=change) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    with empty.read() as connection:
        assert audit.verify(connection).number == 60


def test_a_reader_does_not_wait_for_a_writer(empty: Database) -> None:
    empty.migrate()
    with empty.change() as writing:
        audit.record(writing, actor="console", action="act")
        with empty.read() as reading:
            assert audit.newest(reading).number == 0
    with empty.read() as reading:
        assert audit.newest(reading).number == 1


def test_a_read_sees_one_moment(empty: Database) -> None:
    """Else a head that is signed while the log is read would cover entries that were not read."""
    empty.migrate()
    with empty.read() as reading:
        assert audit.newest(reading).number == 0
        with empty.change() as writing:
            audit.record(writing, actor="console", action="act")
        assert audit.newest(reading).number == 0
    with empty.read() as reading:
        assert audit.newest(reading).number == 1


def test_a_failing_change_changes_nothing(empty: Database) -> None:
    empty.migrate()

    def fail() -> None:
        with empty.change() as connection:
            audit.record(connection, actor="console", action="act")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with empty.read() as connection:
        assert audit.newest(connection).number == 0


@pytest.mark.parametrize(
    "url",
    ["sqlite:////no/such/folder/x.sqlite", "postgresql+psycopg://u:secret@127.0.0.1:1/x"],
)
def test_a_database_out_of_reach_is_told_without_its_address(url: str) -> None:
    with pytest.raises(Unreachable) as caught, Database(make_url(url)).read():
        pass
    assert "secret" not in str(caught.value)
    assert "folder" not in str(caught.value)
    assert caught.value.hint
