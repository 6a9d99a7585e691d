"""
The database: one SQL for SQLite and PostgreSQL, and one writer at a time on both.

    with database.read() as connection: ...
    with database.change() as connection: ...     # one transaction, all or nothing

`change` waits for every other change, so a service may check and then write without races,
and the audit log's hash chain has one order. Changes are short; reading never waits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from linkage.errors import BrokerRefused, Unreachable

__all__ = ["Connection", "Database"]

_MIGRATIONS = Path(__file__).parent / "migrations"
_WRITER_LOCK = 0x436F6D6D6F6E73
"""PostgreSQL advisory lock of `change`; the number is "Commons" in ASCII."""
_BUSY_SECONDS = 60


class Database:
    """A connection pool. Safe to share between threads."""

    def __init__(self, url: URL) -> None:
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine = create_engine(
            url,
            # A parameter could be a pseudonym; error texts reach logs.
            hide_parameters=True,
            pool_pre_ping=not self.is_sqlite,
            connect_args={"timeout": _BUSY_SECONDS} if self.is_sqlite else {},
        )
        self._reading = self.engine
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            # As SQLite reads: else each statement would see what was written since the last one.
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """
        A consistent read: all of it sees the database as it is at its first statement. Raises
        Unreachable where the database does not answer.
        """
        with _clear_errors(), self._reading.begin() as connection:
            yield connection

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """One transaction, alone; rolled back on any error. Raises Unreachable likewise."""
        with _clear_errors(), self.engine.connect() as connection:
            alone = connection.execution_options(linkage_writer=True)
            with alone.begin():
                if not self.is_sqlite:
                    alone.execute(text("SELECT pg_advisory_xact_lock(:k)"), {"k": _WRITER_LOCK})
                yield alone

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to this version, or to an earlier one's `revision`. Idempotent."""
        with _clear_errors(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_lock(:k)"), {"k": _WRITER_LOCK})
                connection.commit()
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            connection.commit()
            # The session-level lock must not go back into the pool with the connection.
            connection.invalidate()

    def require_migrated(self) -> None:
        """Raises BrokerRefused unless the tables are exactly those of this version."""
        with self.read() as connection:
            require_newest(connection)

    def close(self) -> None:
        """Close the pool."""
        self.engine.dispose()


@cache
def _newest_revision() -> str | None:
    """Return the revision of this version's tables; anybody may ask whether they are there."""
    return ScriptDirectory(str(_MIGRATIONS)).get_current_head()


def revision_of(connection: Connection) -> str | None:
    """Return which version's the tables are, None where there are none."""
    return MigrationContext.configure(connection).get_current_revision()


def require_newest(connection: Connection) -> None:
    """Raises BrokerRefused unless the tables are exactly those of this version."""
    # Alembic announces itself at INFO whenever it looks.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if revision_of(connection) != _newest_revision():
        raise BrokerRefused(
            file="the database",
            line=0,
            key="",
            rule="is not that of this version of the software",
            hint="back it up, then run `linkage-broker migrate`",
        )


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn "the database does not answer" into one error of ours, whose text has no SQL."""
    try:
        yield
    except OperationalError as fault:
        raise Unreachable(
            "the broker's database does not answer",
            hint="try again soon; the broker's admin should look at the database and its disk"
            f" ({type(fault.orig).__name__})",
        ) from None
    except DBAPIError as fault:
        if not fault.connection_invalidated:
            raise
        raise Unreachable(
            "the broker's database closed the connection", hint="try again soon"
        ) from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # SQLAlchemy's own begin is used (below), not the driver's late one.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writer = connection.get_execution_options().get("linkage_writer")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")
