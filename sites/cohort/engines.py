"""
Where OMOP tables may lie, each behind the same few calls: DuckDB, PostgreSQL, Spark.

    engine = open_engine(config)
    engine.tables                    by lower-case name, an Ibis table, or a file to read lazily
    engine.rows(columns)             our own rows as an Ibis table, to join with

Expressions are Ibis and the same for all three. What we join with (persons, units, days of images)
is private: it lives in memory, in a temporary table, or in Spark's own session, and never in the
text of a query, which databases write to their logs.
"""

from __future__ import annotations

import io
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ibis
import pyarrow as pa
import pyarrow.csv as pa_csv

from linkage.errors import SourceRefused
from sites.cohort import cdm
from sites.cohort.config import OmopConfig
from sites.cohort.tables import connect, no_values_in_errors, table_names
from sites.database_url import database_url

Raw = Path | Any
"""A file that is read when it is needed, or an Ibis table."""

_FILE_KINDS = (".parquet", ".csv.gz", ".csv", ".tsv.gz", ".tsv", ".txt")


class Engine(ABC):
    """
    One place of OMOP tables. con: the Ibis backend. tables: what is there, by lower-case name.
    reads_text: whether numbers and dates may come as text; a database must hold them as such.
    """

    con: Any
    tables: dict[str, Raw]
    reads_text = True

    @abstractmethod
    def rows(self, columns: Mapping[str, pa.Array]) -> Any:
        """Return parallel columns as an Ibis table of this engine."""

    def close(self) -> None:
        """Let go of connections and memory."""
        self.con.disconnect()


def open_engine(config: OmopConfig) -> Engine:
    """Open what `config` names. Raises SourceRefused, KeyRefused for a URL others can read."""
    if config.spark is not None:
        # Loaded only here: pyspark is a large package that few sites have.
        from sites.cohort.spark import SparkEngine

        return SparkEngine(config)
    if config.path is None:
        return PostgresEngine(config)
    return DuckEngine(config)


class DuckEngine(Engine):
    """A folder of files, or one DuckDB file opened read-only."""

    def __init__(self, config: OmopConfig) -> None:
        path = config.path or Path()
        if path.is_dir():
            self.con, self.tables = connect(), dict(files_in(path))
            return
        if not path.exists():
            raise SourceRefused(file=path.name, rule="does not exist", hint="check path in [omop]")
        self.con = connect(path)
        with no_values_in_errors(path.name):
            self.tables = tables_of_schemas(
                config, "main", lambda schema: table_names(self.con, schema), self.con
            )

    def rows(self, columns: Mapping[str, pa.Array]) -> Any:
        return ibis.memtable(pa.table(dict(columns)))


class PostgresEngine(Engine):
    """
    A PostgreSQL database, read only but for temporary tables of this session.

    Rows of ours go in by COPY, so that the server logs that they came and not what they are.
    """

    reads_text = False

    def __init__(self, config: OmopConfig) -> None:
        url = database_url(
            "[omop]", url=config.url, url_env=config.url_env, url_file=config.url_file
        )
        scheme, _, rest = url.partition("://")
        if scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise SourceRefused(
                file="[omop] url",
                rule="is of a database that OMOP tables can't be read from",
                hint='it begins with "postgresql://"; DuckDB files are named by path',
            )
        try:
            postgres = ibis.postgres
        except (AttributeError, ImportError):
            raise SourceRefused(
                file="[omop] url",
                rule="needs a driver for PostgreSQL",
                hint='install it: pip install "psycopg[binary]"',
            ) from None
        with no_values_in_errors("[omop] url"):
            # The URL may name no port: then the library's own default holds, not Ibis'.
            self.con = postgres.connect(
                conninfo=f"postgresql://{rest}", port=urlsplit(url).port, connect_timeout=20
            )
        self._numbers = itertools.count(1)
        try:
            with no_values_in_errors("[omop] url"):
                self._session("SET default_transaction_read_only = on")
                self.tables = tables_of_schemas(config, "public", self._names, self.con)
        except BaseException:
            self.con.disconnect()
            raise

    def _session(self, statement: str) -> None:
        with self.con.con.cursor() as cursor:
            cursor.execute(statement)

    def _names(self, schema: str) -> list[str]:
        """Return tables and views of a schema; information_schema knows no materialized ones."""
        asked = (
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
            " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind IN"
            " ('r', 'p', 'v', 'm', 'f')"
        )
        with self.con.con.cursor() as cursor:
            return [name for (name,) in cursor.execute(asked, [schema]).fetchall()]

    def rows(self, columns: Mapping[str, pa.Array]) -> Any:
        table = pa.table(dict(columns))
        name = f"linkage_rows_{next(self._numbers)}"
        kinds = ", ".join(f'"{f.name}" {_POSTGRES_TYPES[f.type]}' for f in table.schema)
        packed = io.BytesIO()
        options = pa_csv.WriteOptions(include_header=False, quoting_style="all_valid")
        pa_csv.write_csv(table, packed, options)
        with self.con.con.transaction(), self.con.con.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ WRITE")
            cursor.execute(f"CREATE TEMPORARY TABLE {name} ({kinds})")
            with cursor.copy(f"COPY {name} FROM STDIN (FORMAT csv)") as copy:
                copy.write(packed.getbuffer())
            cursor.execute(f"ANALYZE {name}")
        return self.con.table(name)


_POSTGRES_TYPES = {
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.float64(): "double precision",
    pa.timestamp("us"): "timestamp",
}


def tables_of_schemas(config: OmopConfig, default: str, names: Any, con: Any) -> dict[str, Raw]:
    """
    Return the CDM tables of the configured schema, and of the vocabulary's own schema.

    names: returns the names in a schema. Raises SourceRefused where a name is there twice.
    """
    found: dict[str, Raw] = {}
    vocabulary = (cdm.CONCEPT.name, cdm.CONCEPT_ANCESTOR.name)
    for schema, wanted in (
        (config.db_schema or default, None),
        (config.vocabulary_schema, vocabulary),
    ):
        if schema is None:
            continue
        seen: set[str] = set()
        for name in names(schema):
            lower = name.lower()
            if lower not in (wanted or cdm.BY_NAME):
                continue
            if lower in seen:
                raise SourceRefused(
                    file=f"schema {schema}",
                    rule=f"holds table {lower!r} twice, in other case",
                    hint="keep one of them, or name another schema as db_schema",
                )
            seen.add(lower)
            found[lower] = con.table(name, database=schema)
    return found


def files_in(folder: Path) -> dict[str, Path]:
    """
    Return table name -> file, or folder of Parquet parts. Raises SourceRefused for two of one.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        kind = next((kind for kind in _FILE_KINDS if path.name.lower().endswith(kind)), None)
        parts = path.is_dir() and any(path.glob("*.parquet"))
        if not parts and (kind is None or not path.is_file()):
            continue
        name = path.name.lower().removesuffix(kind or "")
        if name in found and name in cdm.BY_NAME:
            raise SourceRefused(
                file=folder.name, rule=f"holds table {name!r} twice", hint="keep one of the files"
            )
        found[name] = path
    return found
