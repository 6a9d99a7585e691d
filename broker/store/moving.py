"""
All rows of a broker from SQLite to PostgreSQL, in one transaction, and the proof that they came.

The old database is opened alone and only read. Rows go by COPY as they are read, tables after
those that their foreign keys name, so memory does not grow with them. Then every table is read back
within the transaction: nobody sees the new one before its counts and digests are those of the old.

What the workflow engine keeps is not moved: of work that has ended nobody asks it anything.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    NullPool,
    Table,
    create_engine,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from broker.store import bulk, jobs, runs
from broker.store.backup import advance_sequences, tables_of
from broker.store.engine import require_newest, revision_of
from broker.store.tables import audit, metadata
from linkage.errors import BrokerRefused, Conflict, PackageRefused, Unreachable

Told = Callable[[str], None]
"""Is told how far it is, in words, every few thousand rows."""

_TELL_ROWS = 20_000
_BATCH = 200
"""Rows in memory at a time: a report or a list of words can have megabytes."""
_LOCK_SECONDS = 2.0
_VERSION_TABLE = "alembic_version"


@dataclass(frozen=True, slots=True)
class Copied:
    """
    One table. digest: of its rows in any order, the sum of their SHA-256 modulo 2**256. It finds
    what a machine loses, doubles or alters; it is no proof against somebody who invents rows.
    """

    table: str
    rows: int
    digest: str


@contextmanager
def alone(url: URL) -> Iterator[Connection]:
    """
    Read a SQLite database that nobody else has open, or can open meanwhile.

    Raises Conflict where somebody has, Unreachable where it is not there, PackageRefused where it
    is damaged or is not laid out as this version's.
    """
    if not Path(str(url.database)).is_file():
        raise Unreachable("the broker's database is not there", hint="look at [database], url")
    engine = create_engine(
        url, hide_parameters=True, poolclass=NullPool, connect_args={"timeout": _LOCK_SECONDS}
    )
    event.listen(engine, "connect", _lock_on_use)
    event.listen(engine, "begin", lambda c: c.exec_driver_sql("BEGIN EXCLUSIVE"))
    try:
        with engine.connect() as connection:
            if connection.exec_driver_sql("PRAGMA quick_check").scalar() != "ok":
                raise PackageRefused(
                    "the broker's database is damaged",
                    hint="look at the disk; restore a backup, then move that",
                )
            require_newest(connection)
            _require_layout(connection)
            yield connection
            connection.rollback()
    except OperationalError as fault:
        if "locked" not in str(fault.orig):
            raise Unreachable(
                f"the broker's database does not answer ({type(fault.orig).__name__})",
                hint="look at its disk and its permissions",
            ) from None
        raise Conflict(
            "a process has the broker's database open",
            hint="stop `serve`, every `worker` and whatever else reads it, then start again",
        ) from None
    finally:
        engine.dispose()


def require_ended(connection: Connection) -> None:
    """Raises Conflict while a run or a job is in the queue, under way or waits for answers."""
    left = {"run": len(runs.unfinished(connection)), "job": len(jobs.unfinished(connection))}
    if any(left.values()):
        raise Conflict(
            f"work is unfinished: {left['run']} runs, {left['job']} releases, questions or"
            " deliveries",
            hint="start server and worker and let it end (`linkage-broker run list`), or end runs"
            " by `run cancel` or `look end`; then stop both and start again",
        )


def require_able(connection: Connection) -> None:
    """Raises Conflict where a PostgreSQL cannot keep every text, or we may not make tables."""
    if (found := connection.execute(text("SHOW server_encoding")).scalar_one()) != "UTF8":
        raise Conflict(
            f"the new database has the encoding {found}",
            hint="make one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
        )
    may = "SELECT has_database_privilege(current_database(), 'CREATE') AND"
    may += " has_schema_privilege('public', 'CREATE')"
    if not connection.execute(text(may)).scalar_one():
        raise Conflict(
            "this role may not make tables in the new database",
            hint="let the role own the database: ALTER DATABASE ... OWNER TO ...",
        )


def is_filled(connection: Connection) -> bool:
    """Does a PostgreSQL hold rows? Raises Conflict where its tables are not this version's."""
    there = tables_of(connection)
    if any(connection.execute(_any(name)).first() for name in there):
        _require_ours(connection)
        return True
    if any(name.startswith("public.") for name in there):
        _require_ours(connection)
    return False


def copy(old: Connection, new: Connection, told: Told) -> list[Copied]:
    """
    Copy every table into those of `new`, which are there and empty, and compare.

    Raises PackageRefused where PostgreSQL does not take a row, or gives back another.
    """
    copied = [_copy(old, new, table, told) for table in metadata.sorted_tables]
    for schema_table, columns in tables_of(new).items():
        advance_sequences(new, schema_table, columns)
    bulk.count(new, *metadata.sorted_tables)
    require_same(copied, digests(new, told))
    return copied


def digests(connection: Connection, told: Told, *, entries: int | None = None) -> list[Copied]:
    """Return what every table holds; entries: of the audit log, only so many."""
    return [_digest(connection, table, told, entries) for table in metadata.sorted_tables]


def counts(connection: Connection) -> dict[str, int]:
    """Return how many rows every table has."""
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }


def require_same(old: Sequence[Copied], new: Sequence[Copied]) -> None:
    """Raises PackageRefused naming the first table that differs."""
    for one, other in zip(old, new, strict=True):
        if one != other:
            raise PackageRefused(
                f"the table {one.table} is not the same in the new database:"
                f" {one.rows} rows in the old one, {other.rows} in the new",
                hint="nothing was kept; look at both disks, then start again",
            )


def _copy(old: Connection, new: Connection, table: Table, told: Told) -> Copied:
    tally = _Tally()

    def passed() -> Iterator[tuple[Any, ...]]:
        try:
            for row in _rows(old, table):
                tally.add(row)
                if tally.rows % _TELL_ROWS == 0:
                    told(f"{table.name}: {tally.rows:,} rows copied")
                yield row
        except DBAPIError as fault:
            raise PackageRefused(
                f"the old database cannot be read ({type(fault.orig).__name__})",
                hint="nothing was kept; look at its disk, then start again",
            ) from None

    try:
        bulk.stream(new, table, passed())
    except OperationalError:
        raise
    except (DBAPIError, ArithmeticError, TypeError, ValueError, struct.error) as fault:
        # SQLite keeps what does not fit its column's type; the value is in no text.
        raise PackageRefused(
            f"row {tally.rows} of the table {table.name} does not fit PostgreSQL"
            f" ({type(fault).__name__})",
            hint="nothing was kept; please report it",
        ) from None
    return tally.of(table)


def _digest(connection: Connection, table: Table, told: Told, entries: int | None) -> Copied:
    tally = _Tally()
    for row in _rows(connection, table, entries):
        tally.add(row)
        if tally.rows % _TELL_ROWS == 0:
            told(f"{table.name}: {tally.rows:,} rows compared")
    return tally.of(table)


def _rows(
    connection: Connection, table: Table, entries: int | None = None
) -> Iterator[tuple[Any, ...]]:
    wanted = select(table)
    if table is audit and entries is not None:
        wanted = wanted.where(audit.c.number <= entries)
    streamed = wanted.execution_options(stream_results=True, yield_per=_BATCH)
    for row in connection.execute(streamed):
        yield tuple(row)


class _Tally:
    """Counts rows and sums their digests."""

    def __init__(self) -> None:
        self.rows, self._sum = 0, 0

    def add(self, row: tuple[Any, ...]) -> None:
        """Count one. Its repr tells None, numbers, text and bytes apart, floats to the last bit."""
        found = hashlib.sha256(repr(row).encode()).digest()
        self._sum = (self._sum + int.from_bytes(found, "big")) % 2**256
        self.rows += 1

    def of(self, table: Table) -> Copied:
        """Return what was counted."""
        return Copied(table.name, self.rows, f"{self._sum:064x}")


def _require_ours(connection: Connection) -> None:
    if revision_of(connection) is None:
        raise Conflict("the new database is not empty", hint="make an empty one")
    try:
        require_newest(connection)
    except BrokerRefused:
        raise Conflict(
            "the new database has the tables of another version", hint="make an empty one"
        ) from None
    _require_layout(connection)


def _require_layout(connection: Connection) -> None:
    """Raises Conflict unless there are exactly our tables with exactly our columns."""
    found = inspect(connection)
    there = set(found.get_table_names()) - {_VERSION_TABLE}
    same = there == set(metadata.tables) and all(
        {one["name"] for one in found.get_columns(name)} == set(table.columns.keys())
        for name, table in metadata.tables.items()
    )
    if not same:
        raise Conflict(
            "a database has other tables or columns than this version makes",
            hint="what was added to it by hand would be lost: take it out first",
        )


def _any(table: str) -> Any:
    schema, _, name = table.partition(".")
    return text(f'SELECT 1 FROM "{schema}"."{name}" LIMIT 1')  # noqa: S608


def _lock_on_use(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    # In this mode the first look at the file takes it alone, and is refused where anybody, even
    # an idle server, has it open (sqlite.org/wal.html, "Use of WAL Without Shared-Memory").
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
