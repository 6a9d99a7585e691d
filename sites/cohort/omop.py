"""
Read OMOP CDM tables: a folder of csv(.gz) or Parquet files, a DuckDB file, PostgreSQL, Spark.

    with OmopSource.open(config) as source:
        source.table("condition_occurrence")     Ibis expression, all CDM 5.4 columns, typed

Columns are found case apart and by meaning: a header `date(procedure_date,'unixepoch')` is read as
procedure_date, CDM 5.3 names as their 5.4 successors. Expressions are Ibis, the same for every
place; what differs between places is in sites.cohort.engines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ibis
import pyarrow as pa

from linkage.errors import SourceRefused
from sites.cohort import cdm
from sites.cohort.config import OmopConfig
from sites.cohort.engines import Engine, open_engine
from sites.cohort.tables import columns_by_meaning, count_of, no_values_in_errors, read_file

_IBIS_TYPES: Mapping[cdm.Kind, str] = {
    "id": "int64",
    "concept": "int64",
    "integer": "int64",
    "number": "float64",
    "date": "date",
    "datetime": "timestamp",
    "text": "string",
}
_WORDS = {"int64": "whole numbers", "float64": "numbers", "date": "dates", "timestamp": "times"}


class OmopSource:
    """
    OMOP tables of one enclave. notes: what was odd while reading, without values.

    Use as a context manager, or call close().
    """

    def __init__(self, engine: Engine, *, config: OmopConfig) -> None:
        """`engine`: where the tables are."""
        self._engine, self.con, self.config = engine, engine.con, config
        self.notes: list[str] = []
        self._typed: dict[str, Any] = {}
        self._absent: dict[str, tuple[str, ...]] = {}
        if "person" not in engine.tables:
            engine.close()
            raise SourceRefused(
                file=config.place,
                rule="holds no table person",
                hint="name the folder, DuckDB file or db_schema of the OMOP CDM tables in [omop]",
            )

    @classmethod
    def open(cls, config: OmopConfig) -> OmopSource:
        """Open the place that `config` names. Raises SourceRefused, KeyRefused."""
        return cls(open_engine(config), config=config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files and memory."""
        self._engine.close()

    def has(self, name: str) -> bool:
        """Return whether the source has the table at all."""
        return name in self._engine.tables

    def absent(self, name: str) -> tuple[str, ...]:
        """Return the CDM 5.4 columns of a table that the source hasn't. Raises what table does."""
        self.table(name)
        return self._absent[name]

    def table(self, name: str) -> Any:
        """
        Return a CDM table with every CDM 5.4 column, typed; empty if the source hasn't it.

        Ids and concepts are whole numbers, a missing column is all null. Raises SourceRefused for
        columns
        that mean the same, numbers where dates belong, or a person that occurs twice.
        """
        if name not in self._typed:
            with no_values_in_errors(name):
                self._typed[name] = self._type(cdm.BY_NAME[name])
        return self._typed[name]

    def known(self, name: str) -> Any:
        """Return `table(name)` without rows of persons that do not exist in `person`."""
        return self.table(name).semi_join(self.table("person"), "person_id")

    def persons_of(self, record_ids: Iterable[str]) -> dict[str, int]:
        """
        Return person_id by record id of the site's identifier file, for those in `person`.

        Which column holds the record ids says `config.record_id`. Raises SourceRefused where one
        of them is of two persons: which is meant can't be told.
        """
        wanted = pa.array(sorted(set(record_ids)), pa.string())
        column = self.config.record_id
        persons = self.table("person")
        with no_values_in_errors("person"):
            named = persons.select(
                record_id=persons[column].cast("string"), person_id=persons.person_id
            )
            found = named.semi_join(self.person_rows({"record_id": wanted}), "record_id")
            rows = found.to_pyarrow()
        pairs = dict(zip(rows["record_id"].to_pylist(), rows["person_id"].to_pylist(), strict=True))
        if len(pairs) != rows.num_rows:
            raise SourceRefused(
                file="person",
                rule=f"has a record id of the identifier file twice in {column!r}",
                hint="merge those persons, or name another column as record_id in [omop]",
            )
        return pairs

    def unknown_persons(self) -> dict[str, int]:
        """Return, by table, how many persons it has rows of that do not exist in `person`."""
        found = {}
        for table in cdm.TABLES[1:]:
            if self.has(table.name):
                rows = self.table(table.name)
                orphans = rows.anti_join(self.table("person"), "person_id")
                with no_values_in_errors(table.name):
                    found[table.name] = count_of(orphans.person_id.nunique())
        return {name: count for name, count in found.items() if count}

    def person_rows(self, rows: Mapping[str, pa.Array]) -> Any:
        """Return parallel columns as an Ibis table of this source, to join with."""
        return self._engine.rows(rows)

    def _type(self, table: cdm.Table) -> Any:
        if not self.has(table.name):
            self.notes.append(f"the source has no table {table.name}")
            self._absent[table.name] = tuple(column.name for column in table.columns)
            return self._engine.rows(_empty(table))
        raw = self._engine.tables[table.name]
        from_text = isinstance(raw, Path) and not (
            raw.is_dir() or raw.name.lower().endswith(".parquet")
        )
        if isinstance(raw, Path):
            raw = read_file(self.con, raw, f"raw_{table.name}")
        columns = columns_by_meaning(raw.columns, file=table.name)
        for old, new in cdm.RENAMED.items():
            if old in columns and new not in columns:
                columns[new] = columns[old]
        self._absent[table.name] = tuple(c.name for c in table.columns if c.name not in columns)
        needed = [c.name for c in table.columns if c.required and c.name not in columns]
        if needed:
            raise SourceRefused(
                file=table.name,
                rule=f"has no column {needed[0]!r}",
                hint="CDM requires it; its header may be in any case",
            )
        typed = raw.select(**{c.name: self._cast(raw, columns, c, table) for c in table.columns})
        if from_text:  # parse once; Parquet and databases are typed as they are read
            typed = self.con.create_table(f"typed_{table.name}", typed, temp=True)
        self._note_unreadable(raw, typed, columns, table)
        if from_text:
            # Not con.drop_table: with DuckDB 2 Ibis 12 writes a statement that does not parse.
            self.con.raw_sql(f'DROP TABLE "raw_{table.name}"')
        if table.name == "person":
            _refuse_double_persons(typed)
        return typed

    def _cast(
        self, raw: Any, columns: Mapping[str, str], column: cdm.Column, table: cdm.Table
    ) -> Any:
        kind = _IBIS_TYPES[column.kind]
        if column.name not in columns:
            return ibis.null(kind)
        value = raw[columns[column.name]]
        if value.type().is_null():
            return ibis.null(kind)
        if value.type().is_string():
            text = value.strip().nullif("")
            if column.kind == "text":
                return text
            if not self._engine.reads_text:
                raise SourceRefused(
                    file=table.name,
                    rule=f"column {column.name!r} holds text, not {_WORDS[kind]}",
                    hint="make a view that casts it, and name the schema of the view as db_schema",
                )
            if column.kind == "date":
                compact = text.re_replace(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
                return compact.left(10).try_cast("date")
            return text.try_cast(kind)
        if column.kind in ("date", "datetime") and not value.type().is_temporal():
            raise SourceRefused(
                file=table.name,
                rule=f"column {column.name!r} holds numbers, not dates",
                hint="convert seconds since 1970 to dates when exporting",
            )
        if column.kind in ("id", "concept", "integer") and value.type().is_integer():
            return value  # a cast to 64 bits would keep the database from using its index
        return value.cast(kind)

    def _note_unreadable(
        self, raw: Any, typed: Any, columns: Mapping[str, str], table: cdm.Table
    ) -> None:
        """Count texts that should be a number or a date and are not: they are read as missing."""
        parsed = [
            column.name
            for column in table.columns
            if column.kind != "text"
            and column.name in columns
            and raw[columns[column.name]].type().is_string()
        ]
        if not parsed:
            return
        given = {name: raw[columns[name]].strip().nullif("").count() for name in parsed}
        before = raw.agg(**given).to_pyarrow().to_pylist()[0]
        after = typed.agg(**{name: typed[name].count() for name in parsed}).to_pyarrow()
        for name, read in after.to_pylist()[0].items():
            if read < before[name]:
                lost = before[name] - read
                self.notes.append(f"{table.name}.{name}: {lost} values cannot be read")


def _empty(table: cdm.Table) -> dict[str, pa.Array]:
    wide = {pa.int32(): pa.int64()}
    types = {c.name: cdm.ARROW_TYPES[c.kind] for c in table.columns}
    return {name: pa.array([], wide.get(kind, kind)) for name, kind in types.items()}


def _refuse_double_persons(persons: Any) -> None:
    counted = persons.agg(rows=persons.count(), ids=persons.person_id.nunique()).to_pyarrow()
    row = counted.to_pylist()[0]
    if row["rows"] != row["ids"]:
        raise SourceRefused(
            file="person",
            rule="has a person_id twice, or none",
            hint="person_id is the primary key; correct the export",
        )
