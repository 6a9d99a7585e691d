"""
The databases of a broker as files of a backup, and back: consistent while the broker runs.

SQLite is copied by its own online backup. PostgreSQL is written table by table with COPY in one
snapshot, so that no program of the server's version has to be at hand; the tables themselves are
made by the migrations, of the backup's version. Column names are kept, so that what a later version
added keeps its default.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import sql
from sqlalchemy import Connection, create_engine, delete, make_url, text
from sqlalchemy.engine import URL

from broker.store.engine import Database
from broker.store.tables import access_token, session
from linkage.errors import Conflict, PackageRefused

SQLITE, POSTGRES = "sqlite", "postgresql"
_WORKFLOW_SCHEMA = "dbos"
_VERSIONS = {"alembic_version", "dbos_migrations"}
"""Written by the migrations themselves."""
_BROKER, _WORKFLOWS = "broker.sqlite", "workflows.sqlite"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the broker's database and that of the workflows are; on PostgreSQL they are one."""

    broker: URL = field(repr=False)
    workflows: URL = field(repr=False)

    @property
    def kind(self) -> str:
        """SQLITE or POSTGRES."""
        return self.broker.get_backend_name()

    @property
    def files(self) -> tuple[tuple[Path, str], ...]:
        """
        Of SQLite: the files and their names in a backup. Workflows first: a step that is done and
        not noted there is repeated, as after a crash; one that is noted and whose result is
        missing could not be.
        """
        return (
            (Path(str(self.workflows.database)), _WORKFLOWS),
            (Path(str(self.broker.database)), _BROKER),
        )


@contextmanager
def written(urls: Urls, folder: Path) -> Iterator[Connection]:
    """
    Write the databases into `folder`, and give a connection to what was written, as it
    was in that moment.
    """
    folder.mkdir(mode=0o700)
    if urls.kind == POSTGRES:
        with _snapshot(urls.broker) as connection:
            for table, columns in tables_of(connection).items():
                _copy_out(connection, table, columns, folder / f"{table}.copy")
            yield connection
        return
    for path, name in urls.files:
        _copy_sqlite(path, folder / name)
    copied = Database(make_url(f"sqlite:///{(folder / _BROKER).absolute()}"))
    try:
        with copied.read() as connection:
            yield connection
    finally:
        copied.close()
    for left in (*folder.glob("*-wal"), *folder.glob("*-shm")):
        left.unlink()


def require_empty(urls: Urls) -> None:
    """Raises Conflict where the databases hold anything."""
    if urls.kind == SQLITE:
        taken = any(path.exists() for path, _ in urls.files)
    else:
        with _snapshot(urls.broker) as connection:
            taken = bool(tables_of(connection))
    if taken:
        raise Conflict(
            "the database to restore into is not empty",
            hint="make an empty one, and name it with LINKAGE_BROKER_DATABASE_URL_FILE",
        )


def put_files(urls: Urls, folder: Path) -> None:
    """Put the SQLite files of a backup in their places."""
    for path, name in urls.files:
        _copy_sqlite(folder / name, path)


def put_rows(urls: Urls, folder: Path) -> None:
    """Fill the tables of PostgreSQL, which are there and empty, from a backup."""
    engine = create_engine(urls.broker, hide_parameters=True)
    with engine.begin() as connection:
        tables = tables_of(connection)
        for table in _parents_first(connection, list(tables)):
            path = folder / f"{table}.copy"
            if path.exists():
                _copy_in(connection, table, path)
                advance_sequences(connection, table, tables[table])
    engine.dispose()


def sign_out_everybody(connection: Connection) -> None:
    """Forget every token and session."""
    for table in (access_token, session):
        connection.execute(delete(table))


def _copy_sqlite(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    read, copy = sqlite3.connect(source), sqlite3.connect(target)
    try:
        read.backup(copy)
        told = copy.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        read.close()
        copy.close()
    if told != "ok":
        raise PackageRefused(
            f"{source.name} is damaged", hint="look at the disk; restore an earlier backup"
        )


@contextmanager
def _snapshot(url: URL) -> Iterator[Connection]:
    engine = create_engine(url, hide_parameters=True, isolation_level="REPEATABLE READ")
    try:
        with engine.begin() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            yield connection
    finally:
        engine.dispose()


def tables_of(connection: Connection) -> dict[str, list[str]]:
    """Return the columns of every table of ours and of the workflows, by schema.table."""
    asked = text(
        "SELECT c.table_schema, c.table_name, c.column_name FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name)"
        " WHERE t.table_type = 'BASE TABLE' AND c.table_schema IN ('public', :workflows)"
        " AND c.is_generated = 'NEVER' ORDER BY 1, 2, c.ordinal_position"
    )
    found: dict[str, list[str]] = {}
    for schema, table, column in connection.execute(asked, {"workflows": _WORKFLOW_SCHEMA}):
        if table not in _VERSIONS:
            found.setdefault(f"{schema}.{table}", []).append(column)
    return found


def _parents_first(connection: Connection, tables: list[str]) -> list[str]:
    """Return the tables so that each comes after those that its foreign keys name."""
    asked = text(
        "SELECT cn.nspname || '.' || c.relname, pn.nspname || '.' || p.relname FROM pg_constraint k"
        " JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace"
        " JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace"
        " WHERE k.contype = 'f' AND c.oid <> p.oid"
    )
    parents: dict[str, set[str]] = {}
    for child, parent in connection.execute(asked):
        parents.setdefault(child, set()).add(parent)
    ordered: list[str] = []
    while len(ordered) < len(tables):
        ready = [
            one for one in tables if one not in ordered and parents.get(one, set()) <= set(ordered)
        ]
        if not ready:
            raise PackageRefused("tables name each other in a circle", hint="please report it")
        ordered += ready
    return ordered


def _copy_out(connection: Connection, table: str, columns: list[str], path: Path) -> None:
    with _cursor(connection) as cursor, path.open("wb") as file:
        file.write("\t".join(columns).encode() + b"\n")
        statement = sql.SQL("COPY {} ({}) TO STDOUT").format(*_named(table, columns))
        with cursor.copy(statement) as copied:
            for piece in copied:
                file.write(piece)


def _copy_in(connection: Connection, table: str, path: Path) -> None:
    with _cursor(connection) as cursor, path.open("rb") as file:
        columns = file.readline().decode().rstrip("\n").split("\t")
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(*_named(table, columns))
        name = _named(table, [])[0]
        # A migration may have put rows of its own there; the audit log refuses to be asked.
        if cursor.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(name)).fetchone():
            cursor.execute(sql.SQL("DELETE FROM {}").format(name))
        with cursor.copy(statement) as copied:
            while piece := file.read(_PIECE_BYTES):
                copied.write(piece)


def advance_sequences(connection: Connection, table: str, columns: list[str]) -> None:
    """Let what PostgreSQL numbers by itself in a table go on after its largest number."""
    with _cursor(connection) as cursor:
        for column in columns:
            asked = "SELECT pg_get_serial_sequence(%s, %s)"
            [sequence] = cursor.execute(asked, (table, column)).fetchone()
            if sequence:
                most = sql.SQL(
                    "SELECT setval(%s, (SELECT coalesce(max({}), 0) + 1 FROM {}), false)"
                )
                name = _named(table, [])[0]
                cursor.execute(most.format(sql.Identifier(column), name), (sequence,))


def _cursor(connection: Connection) -> Any:
    """Return a cursor of the driver's own, inside the connection's transaction."""
    driver: Any = connection.connection.dbapi_connection
    return driver.cursor()


def _named(table: str, columns: list[str]) -> tuple[sql.Composable, sql.Composable]:
    schema, _, name = table.partition(".")
    return sql.Identifier(schema, name), sql.SQL(", ").join(map(sql.Identifier, columns))
