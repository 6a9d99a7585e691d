"""
Rows of a database, read forward through a cursor on its side, never written to.

DuckDB is asked directly, every other database through SQLAlchemy. What drivers say when they
fail can quote values, queries and passwords, so it is sorted into a few kinds of fault and
never shown.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa

from linkage.errors import SourceRefused
from sites.database_url import database_url
from sites.sources.base import BATCH_RECORDS
from sites.sources.cells import array_of
from sites.sources.config import DatabaseConfig

_DUCKDB_MAGIC, _SQLITE_MAGIC = b"DUCK", b"SQLite format 3\0"
_FETCHED = 5_000
"""Rows fetched at a time: some megabytes, whatever the driver makes of them."""


class Database(Protocol):
    """What a source asks of a database. Every method raises SourceRefused."""

    name: str
    sorts_at_home: bool
    """Whether ORDER BY leaves nothing on the disk of this machine."""

    def rows(self, query: str) -> tuple[list[str], Iterator[list[pa.Array]]]:
        """Return the names of the columns, and batches of them, up to BATCH_RECORDS rows each."""
        ...

    def tables(self, schema: str | None) -> dict[str, list[str]]:
        """Return the columns by table or view, as they are spelt there."""
        ...

    def quoted(self, name: str) -> str: ...

    def close(self) -> None: ...


def open_database(config: DatabaseConfig) -> Database:
    """Connect for reading. Raises SourceRefused, KeyRefused for a URL file that others can read."""
    if config.file is not None:
        return _of_file(config.file)
    url = database_url("[source]", url=config.url, url_env=config.url_env, url_file=config.url_file)
    if url.startswith("duckdb:"):
        return _of_file(Path(re.sub("^duckdb:(///)?", "", url)))
    return SqlDatabase(url)


def _of_file(path: Path) -> Database:
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        rule, hint = "there is no such file", "check [source] file"
        raise SourceRefused(file=str(path), rule=rule, hint=hint) from None
    except OSError as fault:
        rule = f"cannot be opened ({type(fault).__name__})"
        raise SourceRefused(file=str(path), rule=rule, hint="check its owner and mode") from None
    if start == _SQLITE_MAGIC:
        return SqlDatabase("sqlite://", path)
    if start[8:12] == _DUCKDB_MAGIC:
        return DuckDatabase(path)
    raise SourceRefused(
        file=path.name,
        rule="is neither a DuckDB nor an SQLite file",
        hint="name the database file itself, or give a url",
    )


class DuckDatabase:
    """
    A DuckDB file, opened for reading. The query cannot reach other files or the network, and
    what does not fit in memory is an error: nothing of it is written to disk.
    """

    sorts_at_home = False

    def __init__(self, path: Path) -> None:
        import duckdb

        self.name = path.name
        safe: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": False,
            "lock_configuration": True,
            "temp_directory": "",
        }
        with self._told():
            self._connection = duckdb.connect(str(path), read_only=True, config=safe)

    def rows(self, query: str) -> tuple[list[str], Iterator[list[pa.Array]]]:
        with self._told():
            found = self._connection.sql(query)
            if found is None:
                raise SourceRefused(file=self.name, rule=_NO_ROWS[0], hint=_NO_ROWS[1])
            reader = found.to_arrow_reader(BATCH_RECORDS)
        return reader.schema.names, self._batches(reader)

    def _batches(self, reader: Any) -> Iterator[list[pa.Array]]:
        with self._told():
            for batch in reader:
                yield batch.columns

    def tables(self, schema: str | None) -> dict[str, list[str]]:
        with self._told():
            found = self._connection.execute(
                "SELECT table_name, column_name FROM information_schema.columns"
                " WHERE table_schema = ? ORDER BY ordinal_position",
                [schema or "main"],
            ).fetchall()
        tables: dict[str, list[str]] = {}
        for table, column in found:
            tables.setdefault(table, []).append(column)
        return tables

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.Error as fault:
            rule, hint = _DUCKDB.get(type(fault).__name__, _ANY_FAULT)
            raise SourceRefused(file=self.name, rule=rule, hint=hint) from None
        except (pa.ArrowException, OSError):
            # A fault met while rows are fetched comes through Arrow, with DuckDB's own text.
            raise SourceRefused(file=self.name, rule=_ANY_FAULT[0], hint=_ANY_FAULT[1]) from None


class SqlDatabase:
    """Any database with an SQLAlchemy URL. name: its database, without user, host or password."""

    def __init__(self, url: str, file: Path | None = None) -> None:
        import sqlalchemy as sa

        with _sql_told(file.name if file else "[source] url"):
            parsed = sa.make_url(url)
            self.name = file.name if file else Path(parsed.database or parsed.drivername).name
            options: dict[str, Any] = {"hide_parameters": True, "poolclass": sa.NullPool}
            if file:
                options["creator"] = lambda: _sqlite(file)
            elif parsed.get_backend_name() == "sqlite":
                raise SourceRefused(
                    file=self.name,
                    rule="an SQLite file is not named by a URL",
                    hint='write [source] file = "path/to/it" in place of url',
                )
            self.sorts_at_home = file is None
            self._engine = sa.create_engine(parsed, **options)
            self._connection = self._engine.connect().execution_options(
                stream_results=True,
                max_row_buffer=_FETCHED,
                no_parameters=True,  # or drivers would take a % in the query for one
                **({"postgresql_readonly": True} if self._postgresql else {}),
            )

    @property
    def _postgresql(self) -> bool:
        return self._engine.dialect.name == "postgresql"

    def rows(self, query: str) -> tuple[list[str], Iterator[list[pa.Array]]]:
        with _sql_told(self.name):
            result = self._connection.exec_driver_sql(query)
            if not result.returns_rows:
                raise SourceRefused(file=self.name, rule=_NO_ROWS[0], hint=_NO_ROWS[1])
            names = list(result.keys())
        return names, self._batches(result, names)

    def _batches(self, result: Any, names: list[str]) -> Iterator[list[pa.Array]]:
        with _sql_told(self.name):
            for some in result.partitions(BATCH_RECORDS):
                yield [
                    array_of(self.name, name, values)
                    for name, values in zip(names, zip(*some, strict=True), strict=True)
                ]

    def tables(self, schema: str | None) -> dict[str, list[str]]:
        import sqlalchemy as sa

        with _sql_told(self.name):
            inspector = sa.inspect(self._connection)
            tables: Sequence[str] = [
                *inspector.get_table_names(schema),
                *inspector.get_view_names(schema),
            ]
            return {t: [c["name"] for c in inspector.get_columns(t, schema)] for t in tables}

    def quoted(self, name: str) -> str:
        return str(self._engine.dialect.identifier_preparer.quote_identifier(name))

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


def _sqlite(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)
    connection.execute("PRAGMA temp_store = MEMORY")  # sorting leaves no identifiers on disk
    return connection


_ANY_FAULT = ("the database refuses, or fails while it is read", "try the query in its own client")
_NO_ROWS = ("the query gives no rows", "it must be one SELECT")
_NO_TABLE = ("the query names a table that is not there", "check its name and its schema")
_NO_COLUMN = ("the query names a column that is not there", "check it in the database's client")
_NO_SQL = ("the query is no valid SQL there", "try it in the database's own client")
_NOT_ALLOWED = ("this user may not read that", "ask for SELECT on the table")
_WRITES = ("the query would write", "it must be one SELECT")
_NO_LOGIN = ("the database refuses this user or password", "correct the URL")
_NO_ANSWER = (
    "the database does not answer",
    "check host, port and name of the database in the URL",
)
_NO_DATABASE = ("there is no database of that name", "correct the URL")

_DUCKDB = {
    "CatalogException": _NO_TABLE,
    "BinderException": _NO_COLUMN,
    "ParserException": _NO_SQL,
    "PermissionException": ("the query reaches outside the database", "ask its tables only"),
    "InvalidInputException": _WRITES,
    "OutOfMemoryException": (
        "the query needs more memory than there is",
        "drop ORDER BY, or join fewer tables",
    ),
    "IOException": (
        "cannot be opened: damaged, in use, or of another DuckDB version",
        "close what else has it open, or copy it again",
    ),
}
_BY_STATE = {
    "42P01": _NO_TABLE, "3F000": _NO_TABLE, "42703": _NO_COLUMN, "42601": _NO_SQL,
    "42501": _NOT_ALLOWED, "25006": _WRITES, "28P01": _NO_LOGIN, "28000": _NO_LOGIN,
    "3D000": _NO_DATABASE,
}  # fmt: skip
"""PostgreSQL, Appendix A: error codes."""
_BY_WORDS = (
    ("no such table", _NO_TABLE),
    ("no such column", _NO_COLUMN),
    ("syntax error", _NO_SQL),
    ("readonly database", _WRITES),
    ("password", _NO_LOGIN),
    ("authentication", _NO_LOGIN),
    ('role "', _NO_LOGIN),
    ('" does not exist', _NO_DATABASE),
    ("connection", _NO_ANSWER),
    ("not a database", ("is damaged", "copy it again")),
    ("malformed", ("is damaged", "copy it again")),
)
"""What drivers without codes say, searched in order; only the verdict is ever shown."""


@contextmanager
def _sql_told(name: str) -> Iterator[None]:
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.NoSuchModuleError:
        rule, hint = (
            "no driver for this kind of URL is known",
            'it begins like "postgresql+psycopg"',
        )
        raise SourceRefused(file=name, rule=rule, hint=hint) from None
    except sa.exc.ArgumentError:
        rule, hint = "is no database URL", 'write it like "postgresql+psycopg://user@host/database"'
        raise SourceRefused(file=name, rule=rule, hint=hint) from None
    except ImportError:
        rule, hint = "the driver that the URL names is not installed", "install it with pip"
        raise SourceRefused(file=name, rule=rule, hint=hint) from None
    except sa.exc.SQLAlchemyError as fault:
        rule, hint = _sorted(getattr(fault, "orig", None))
        raise SourceRefused(file=name, rule=rule, hint=hint) from None


def _sorted(fault: BaseException | None) -> tuple[str, str]:
    """Sort what a driver says into a kind of fault, by its code or else by its words."""
    state = str(getattr(fault, "sqlstate", None) or "")
    if state in _BY_STATE:
        return _BY_STATE[state]
    said = str(fault).lower()
    return next((told for words, told in _BY_WORDS if words in said), _ANY_FAULT)
