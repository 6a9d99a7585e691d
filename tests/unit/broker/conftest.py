"""What tests of the broker's store share: its database, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from broker.store.engine import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> Iterator[Database]:
    """A database without tables."""
    sqlite = f"sqlite:///{tmp_path / 'x.sqlite'}"
    made = Database(make_url(sqlite if request.param == "sqlite" else new_postgres_url()))
    yield made
    made.close()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database without a row, a file to be copied: making one takes a while."""
    path = tmp_path_factory.mktemp("migrated") / "empty.sqlite"
    made = Database(make_url(f"sqlite:///{path}"))
    made.migrate()
    with made.read() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    made.close()
    return path


@pytest.fixture
def database(empty: Database) -> Database:
    """The tables of this version, without a row."""
    empty.migrate()
    return empty
