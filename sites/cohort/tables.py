"""
Open tables with Ibis on DuckDB: Parquet, delimited text with a header, or a DuckDB file.

Nothing is fetched from a network, nothing spills to a temporary file, and no error shows a value:
DuckDB's own messages quote the row they failed on, so they are dropped.
"""

from __future__ import annotations

import csv
import gzip
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from linkage.errors import SourceRefused

TEXT_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".psv")
_SUFFIXES = (".parquet", *TEXT_SUFFIXES)
# No two parts that take blanks stand side by side: a header of blanks would take their cube.
_FUNCTION = re.compile(r"\w+\s*\((?P<inner>[^,]*)(?:,.*)?\)", re.DOTALL)


def connect(database: Path | None = None) -> Any:
    """Return an Ibis backend in memory, or over a DuckDB file that is opened read-only."""
    settings = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "temp_directory": "",
    }
    try:
        if database is None:
            return ibis.duckdb.connect(**settings)
        return ibis.duckdb.connect(database, read_only=True, **settings)
    except duckdb.Error as fault:
        raise SourceRefused(
            file=database.name if database else "memory",
            rule=f"cannot be opened as a DuckDB database ({type(fault).__name__})",
            hint="name a folder of csv or parquet files, or a DuckDB file nobody writes to",
        ) from None


@contextmanager
def no_values_in_errors(name: str) -> Iterator[None]:
    """Turn engine errors into SourceRefused that names the table and never a value."""
    try:
        yield
    except (duckdb.Error, ibis.common.exceptions.IbisError, *_foreign_errors()) as fault:
        rule, hint = _BY_STATE.get(
            str(getattr(fault, "sqlstate", None) or _connecting(fault)),
            (
                f"cannot be read or queried ({type(fault).__name__})",
                "check that it is whole, UTF-8, and has one kind of value a column",
            ),
        )
        raise SourceRefused(file=name, rule=rule, hint=hint) from None


_BY_STATE = {
    "connecting": (
        "the database does not answer, or refuses this user or password",
        "check host, port, database and user in the URL",
    ),
    "28P01": ("the database refuses this user or password", "correct the URL"),
    "3D000": ("there is no database of that name", "correct the URL"),
    "42501": (
        "this user may not read that, or make a temporary table",
        "GRANT SELECT on the schema's tables, USAGE on the schema, TEMPORARY on the database",
    ),
    "25006": (
        "the server is a standby, on which no temporary table can be made",
        "name the primary, or a copy that is not in recovery",
    ),
    "57014": ("the query was stopped by the server", "raise statement_timeout for this user"),
    "53100": ("the database's disk is full", "make room there, then ask again"),
}
"""PostgreSQL, Appendix A: error codes; and what we call a connection that is refused."""


def _foreign_errors() -> tuple[type[Exception], ...]:
    """Return what the drivers that are loaded raise; none of them is needed for DuckDB."""
    known = (
        ("psycopg", "Error"),
        ("pyspark.errors", "PySparkException"),
        ("py4j.protocol", "Py4JError"),
    )
    loaded = ((sys.modules.get(module), name) for module, name in known)
    return tuple(getattr(module, name) for module, name in loaded if module is not None)


def _connecting(fault: Exception) -> str:
    """Return "connecting" for a driver's fault without code that is about the connection."""
    return "connecting" if type(fault).__name__ in ("OperationalError", "ConnectionTimeout") else ""


def count_of(expression: Any) -> int:
    """Return the number that an Ibis expression is."""
    return int(expression.to_pyarrow().as_py())  # .execute() would import pandas for it


def read_file(con: Any, path: Path, name: str) -> Any:
    """
    Return the file, or folder of Parquet parts, as an Ibis table `name`; texts stay texts.

    Raises SourceRefused if it is missing, of an unknown kind, or without a header.
    """
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if parts:
        with no_values_in_errors(path.name):
            columns_by_meaning(header_of(parts[0]), file=path.name)
            return con.read_parquet(parts, table_name=name)
    if not path.is_file():
        raise SourceRefused(file=path.name, rule="there is no such file", hint="check the path")
    suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
    with no_values_in_errors(path.name):
        if suffix in _SUFFIXES:  # DuckDB renames the second of two like columns; we refuse it
            columns_by_meaning(header_of(path), file=path.name)
        if suffix == ".parquet":
            return con.read_parquet(path, table_name=name)
        if suffix in TEXT_SUFFIXES:
            options = {"delim": delimiter_of(path), "header": True, "quote": '"', "escape": '"'}
            read = con.read_csv(path, table_name=f"{name}_text", all_varchar=True, **options)
            return con.create_table(name, read, temp=True)
    raise SourceRefused(
        file=path.name, rule="is of an unknown kind", hint=f"known: {', '.join(_SUFFIXES)}"
    )


def table_names(con: Any, schema: str) -> list[str]:
    """
    Return the tables and views of one schema of an open DuckDB file.

    Not con.list_tables: Ibis 12 calls for it what DuckDB 2 no longer has.
    """
    asked = "SELECT table_name FROM information_schema.tables WHERE table_schema = ?"
    with no_values_in_errors(schema):
        return [name for (name,) in con.con.execute(asked, [schema]).fetchall()]


def header_of(path: Path) -> list[str]:
    """Return the column names of a Parquet or text file as they stand there."""
    if path.name.lower().endswith(".parquet"):
        try:
            return list(pq.read_schema(path).names)
        except (pa.ArrowException, OSError):
            raise SourceRefused(
                file=path.name, rule="cannot be read as Parquet", hint="write it again"
            ) from None
    return next(csv.reader([_first_line(path)], delimiter=delimiter_of(path)))


def delimiter_of(path: Path) -> str:
    """Return comma, tab, bar or semicolon, whichever the header has most; comma for a tie."""
    # A delimiter inside quotes or inside an SQL expression of a header counts for nothing.
    bare = re.sub(r'"[^"]*"|\([^)]*\)', "", _first_line(path))
    return max(",\t|;", key=bare.count)


def _first_line(path: Path) -> str:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8-sig") as packed:
                header = packed.readline(1_000_000)
        else:
            with path.open(encoding="utf-8-sig") as plain:
                header = plain.readline(1_000_000)
    except (OSError, EOFError, UnicodeDecodeError):
        raise SourceRefused(
            file=path.name, rule="is not readable UTF-8 text", hint="save it as UTF-8"
        ) from None
    if not header.strip():
        raise SourceRefused(file=path.name, rule="is empty", hint="it needs at least a header")
    return header.rstrip("\r\n")


def meaning(header: str) -> str:
    """
    Return a header's plain name, lower case: `date(procedure_date,'unixepoch')` -> procedure_date.

    Some OMOP exports carry the SQL that made a column in place of its name.
    """
    name = header.strip().strip('"').strip()
    while found := _FUNCTION.fullmatch(name):
        name = found["inner"].strip().strip('"')
    return name.lower()


def columns_by_meaning(columns: Sequence[str], *, file: str) -> dict[str, str]:
    """Return meaning -> column. Raises SourceRefused where two columns mean the same."""
    found: dict[str, str] = {}
    for column in columns:
        name = meaning(column)
        if name in found:
            raise SourceRefused(
                file=file,
                rule=f"has two columns that mean {name!r}",
                hint="keep one; case and SQL around a name do not count",
            )
        found[name] = column
    return found
