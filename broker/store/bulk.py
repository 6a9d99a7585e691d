"""
Many rows at once: millions of records come and go with a run.

SQLAlchemy's own way takes 16 us a row on SQLite and 48 us on PostgreSQL; the driver's executemany
and COPY take 7 and 10 (docs/performance.md). Statements are put together from the names in
`tables`, never from a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import psycopg
from sqlalchemy import Connection, Row, Select, Table
from sqlalchemy.exc import DBAPIError

from linkage.records import Bytes2D

_BATCH = 50_000

Column = npt.NDArray[Any] | Sequence[Any] | str | int | None
"""Of n rows: uint8[n, 16], numbers, a list, or one value for all of them."""


def insert(connection: Connection, table: Table, count: int, columns: Mapping[str, Column]) -> None:
    """Add `count` rows."""
    if not count:
        return
    names = ", ".join(columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608
        for batch in _batches(count, columns):
            connection.exec_driver_sql(statement, batch)
        return
    rows = zip(*(_values(one, count) for one in columns.values()), strict=False)
    _copy(connection, table, list(columns), rows)


def stream(connection: Connection, table: Table, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows as they come, whole and in the table's order of columns. PostgreSQL only."""
    _copy(connection, table, list(table.columns.keys()), rows)


def change(
    connection: Connection,
    table: Table,
    count: int,
    *,
    to: Mapping[str, Column],
    where: Mapping[str, Column],
) -> None:
    """Set the columns `to` of `count` rows, each found by all columns of `where`."""
    columns = {**{f"to_{n}": c for n, c in to.items()}, **{f"of_{n}": c for n, c in where.items()}}
    if not count:
        return
    if connection.dialect.name == "sqlite":
        changed = ", ".join(f"{name} = ?" for name in to)
        found = " AND ".join(f"{name} = ?" for name in where)
        statement = f"UPDATE {table.name} SET {changed} WHERE {found}"  # noqa: S608
        for batch in _batches(count, columns):
            connection.exec_driver_sql(statement, batch)
        return
    arrays = ", ".join(f"%s::{_type(connection, table, n[3:])}[]" for n in columns)
    changed = ", ".join(f"{name} = v.to_{name}" for name in to)
    found = " AND ".join(f"t.{name} = v.of_{name}" for name in where)
    statement = (
        f"UPDATE {table.name} AS t SET {changed} FROM unnest({arrays})"  # noqa: S608
        f" AS v({', '.join(columns)}) WHERE {found}"
    )
    for batch in _batches(count, columns):
        connection.exec_driver_sql(statement, tuple(map(list, zip(*batch, strict=True))))


def read(connection: Connection, wanted: Select[Any]) -> Iterator[Sequence[Row[Any]]]:
    """Yield the rows in batches, so that a driver never holds all of them."""
    streamed = wanted.execution_options(stream_results=True, yield_per=_BATCH)
    yield from connection.execute(streamed).partitions()


def count(connection: Connection, *tables: Table) -> None:
    """
    Let PostgreSQL count rows that were just added. By itself it does so within a minute or so, and
    until then plans as for a table with hardly a row: it reads all of a hundred thousand for ten.
    """
    if connection.dialect.name == "postgresql":
        for table in tables:
            connection.exec_driver_sql(f"ANALYZE {table.name}")


def matrix(names: Sequence[bytes]) -> Bytes2D:
    """Return byte strings of 16 as uint8[n, 16]."""
    return np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16)


def split(names: Bytes2D) -> list[bytes]:
    """Return the rows of uint8[n, 16] as byte strings."""
    text = names.tobytes()
    return [text[at : at + 16] for at in range(0, len(text), 16)]


def _copy(
    connection: Connection, table: Table, names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    quoted = connection.dialect.identifier_preparer.quote
    listed = ", ".join(map(quoted, names))
    statement = f"COPY {quoted(table.name)} ({listed}) FROM STDIN (FORMAT BINARY)"
    try:
        with raw.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.set_types([_type(connection, table, name) for name in names])
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as fault:
        # As SQLAlchemy itself raises it, for `Database`, which tells it without a value.
        raise DBAPIError.instance(
            statement, None, fault, psycopg.Error, hide_parameters=True
        ) from None


def _batches(count: int, columns: Mapping[str, Column]) -> Iterator[list[tuple[Any, ...]]]:
    rows = zip(*(_values(column, count) for column in columns.values()), strict=False)
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _values(column: Column, count: int) -> Iterable[Any]:
    if isinstance(column, np.ndarray):
        return split(column) if column.ndim == 2 else column.tolist()
    return repeat(column, count) if column is None or isinstance(column, str | int) else column


def _type(connection: Connection, table: Table, name: str) -> str:
    """Return a column's type as PostgreSQL names it, without its length."""
    found = table.c[name].type.compile(connection.dialect).lower().partition("(")[0]
    # SQL's word for it; psycopg knows PostgreSQL's own.
    return "float8" if found == "float" else found
