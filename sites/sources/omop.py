"""
Identifiers from an OMOP CDM 5.x: person, location, and a table of names beside them.
https://ohdsi.github.io/CommonDataModel/cdm54.html

The CDM has birth date, gender and address, but no names; commons that may keep them have a table
of their own, by person_id, which the site file names as pii_table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import SourceRefused
from linkage.study import FIELDS
from sites.sources.base import RawBatch
from sites.sources.cells import batch_of, made_ready, values_of
from sites.sources.columns import RECORD_ID
from sites.sources.config import OmopSourceConfig
from sites.sources.database import Database, open_database
from sites.sources.names import fold, usual

_STANDARD = {
    "sex": ("person", "gender_concept_id"),
    "zip": ("location", "zip"),
    "street": ("location", "address_1"),
}
_BIRTH = ("year_of_birth", "month_of_birth", "day_of_birth", "birth_datetime")
_BIRTH_DATE = "date_of_birth"


class OmopSource:
    """
    The persons of a CDM: a `Source`. Rows are counted from 1 in the order of person_id, except
    that DuckDB gives them in the order in which they lie there. notes: what was found out.
    """

    unit = "row"

    def __init__(
        self,
        config: OmopSourceConfig,
        fields: tuple[str, ...],
        extra: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._config, self._fields, self._extra = config, fields, extra
        self.name = "OMOP"
        self.notes: list[str] = []

    def batches(self) -> Iterator[RawBatch]:
        """Read all persons once. Raises SourceRefused where a table or column is not there."""
        self.notes = []
        done = dayless = 0
        with closing(open_database(self._config)) as database:
            self.name = f"OMOP in {database.name}"
            asked = _Query(self._config, database, self.name)
            query = asked.write(self._fields, self._extra)
            self.notes += asked.notes
            _, batches = database.rows(query)
            for columns in batches:
                size = len(columns[0])
                numbers = np.arange(done + 1, done + size + 1, dtype=np.int64)
                done += size
                found = dict(zip(asked.names, columns, strict=True))
                if asked.birth:
                    found, without = _with_birth_date(found, asked.birth)
                    dayless += without
                ready = made_ready(self.name, found)
                order = (RECORD_ID, *self._fields, *self._extra)
                yield batch_of({name: ready[name] for name in order}, numbers, done=done)
        if dayless:
            self.notes.append(f"persons without a full date of birth: {dayless:,}")

    def available(self) -> list[str]:
        """Return the fields that can be read here. Raises SourceRefused where no person is."""
        with closing(open_database(self._config)) as database:
            asked = _Query(self._config, database, f"OMOP in {database.name}")
            return [one for one in FIELDS if asked.has(one)]


@dataclass(eq=False)
class _Query:
    """
    Writes the one SELECT. names: what its columns are, in order. birth: those of its columns
    that make up the date of birth, empty if there is one of the site's own.
    """

    config: OmopSourceConfig
    database: Database
    source: str
    names: list[str] = field(default_factory=list)
    birth: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        schema, _, pii = (self.config.pii_table or "").rpartition(".")
        self._tables = {"person": self._table(self.config.db_schema, "person")}
        if self.config.pii_table:
            self._tables["pii"] = self._table(schema or self.config.db_schema, pii)
        if location := self._found(self.config.db_schema, "location"):
            self._tables["location"] = location

    def write(self, fields: Sequence[str], extra: Mapping[str, tuple[str, ...]]) -> str:
        """Return the query for `fields` and `extra`. Raises SourceRefused for what is not there."""
        selected = [self._named(RECORD_ID, self.config.record_id or ("person_id",))]
        for one in fields:
            if one == _BIRTH_DATE and one not in self.config.columns:
                selected += self._birth_columns()
            else:
                selected.append(self._field(one))
        selected += [self._named(name, names) for name, names in extra.items()]
        for name, _ in selected:
            self.names.append(name)
        columns = ", ".join(text for _, text in selected)
        # DuckDB would sort on disk, in the clear.
        key = self._column("person", "person_id")
        order = f" ORDER BY {key}" if self.database.sorts_at_home else ""
        # Nothing but names of columns and tables that are there, all quoted.
        return f"SELECT {columns} FROM {self._joined()}{order}"  # noqa: S608

    def has(self, name: str) -> bool:
        """Whether a field can be read."""
        try:
            self.write((name,), {})
        except SourceRefused:
            return False
        return True

    def _joined(self) -> str:
        joined = f"{self._tables['person'].quoted} person"
        for table, key in (("pii", "person_id"), ("location", "location_id")):
            if table in self._tables and (table == "pii" or self._has("person", key)):
                ours, theirs = self._column("person", key), self._column(table, key)
                joined += f" LEFT JOIN {self._tables[table].quoted} {table} ON {ours} = {theirs}"
        return joined

    def _field(self, name: str) -> tuple[str, str]:
        if name in self.config.columns:
            return self._named(name, self.config.columns[name])
        if name in _STANDARD:
            table, column = _STANDARD[name]
            if table not in self._tables:
                rule = f"has no table {table}, which holds {name}"
                hint = f'name another column: {name} = "..." under [source.columns]'
                raise SourceRefused(file=self.source, rule=rule, hint=hint)
            return name, self._column(table, column)
        if "pii" not in self._tables:
            raise SourceRefused(
                file=self.source,
                rule=f"the CDM itself has no {name}",
                hint='name the table that has it, by person_id: pii_table = "..."',
            )
        header = self._tables["pii"].columns
        at = usual(name, header)
        if len(at) == 1:
            self.notes.append(f"{name}: {header[at[0]]!r} of pii_table, by its usual name")
            return name, self._column("pii", header[at[0]])
        many = f"{len(at)} columns" if at else "no column"
        raise SourceRefused(
            file=self.source,
            rule=f"pii_table has {many} that could be {name}",
            hint=f'write {name} = "..." under [source.columns];'
            f" its columns are: {', '.join(header)}",
        )

    def _named(self, name: str, given: tuple[str, ...]) -> tuple[str, str]:
        """Find a column by the names given: in person for a record id, else in any table."""
        tables = ("person",) if name == RECORD_ID else ("pii", "person", "location")
        for table in tables:
            for one in given:
                if table in self._tables and self._has(table, one):
                    return name, self._column(table, one)
        raise SourceRefused(
            file=self.source,
            rule=f"has no column for {name} (looked for {', '.join(given)})",
            hint=f"looked in {', '.join(one for one in tables if one in self._tables)}",
        )

    def _birth_columns(self) -> list[tuple[str, str]]:
        self.birth = [one for one in _BIRTH if self._has("person", one)]
        if "birth_datetime" not in self.birth and len(self.birth) < 3:
            rule = "person has neither day_of_birth nor birth_datetime"
            hint = 'name another: date_of_birth = "..." under [source.columns]'
            raise SourceRefused(file=self.source, rule=rule, hint=hint)
        return [(one, self._column("person", one)) for one in self.birth]

    def _has(self, table: str, column: str) -> bool:
        return any(fold(one) == fold(column) for one in self._tables[table].columns)

    def _column(self, table: str, column: str) -> str:
        spelt = [one for one in self._tables[table].columns if fold(one) == fold(column)]
        if not spelt:
            rule = f"table {table} has no column {column}"
            raise SourceRefused(file=self.source, rule=rule, hint="is it a CDM of version 5?")
        return f"{table}.{self.database.quoted(spelt[0])}"

    def _table(self, schema: str | None, name: str) -> _Table:
        if found := self._found(schema, name):
            return found
        where = f" in schema {schema}" if schema else ""
        raise SourceRefused(
            file=self.source,
            rule=f"has no table {name}{where}",
            hint='set [source] schema, or check the name; a table elsewhere is "schema.table"',
        )

    def _found(self, schema: str | None, name: str) -> _Table | None:
        quoted = self.database.quoted
        for table, columns in self.database.tables(schema).items():
            if table.casefold() == name.casefold():
                return _Table((f"{quoted(schema)}." if schema else "") + quoted(table), columns)
        return None


@dataclass(frozen=True, eq=False)
class _Table:
    quoted: str
    columns: list[str]


def _with_birth_date(
    found: dict[str, pa.Array], birth: Sequence[str]
) -> tuple[dict[str, pa.Array], int]:
    """Put an ISO date_of_birth in the place of its parts; return how many have none."""
    parts = {name: found.pop(name) for name in birth}
    size = len(next(iter(parts.values())))
    iso = pa.nulls(size, pa.string())
    month = parts.get("month_of_birth", pa.nulls(size, pa.string()))
    if "day_of_birth" in parts and "year_of_birth" in parts:
        texts = [
            pc.utf8_lpad(_digits(column), width, "0")
            for column, width in (
                (parts["year_of_birth"], 4),
                (month, 2),
                (parts["day_of_birth"], 2),
            )
        ]
        iso = pc.binary_join_element_wise(*texts, "-")
    if "birth_datetime" in parts:
        moment = _day(parts["birth_datetime"])
        # Many fill in 1 January where only the year is known; then the month is null.
        invented = pc.and_(pc.is_null(month), pc.ends_with(moment, "-01-01"))
        iso = pc.coalesce(iso, pc.if_else(invented, pa.scalar(None, pa.string()), moment))
    return {**found, _BIRTH_DATE: iso}, iso.null_count


def _digits(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.int64(), safe=False)
    return pc.utf8_trim_whitespace(column.cast(pa.string()))


def _day(moments: pa.Array) -> pa.Array:
    if pa.types.is_temporal(moments.type):
        moments = values_of("", _BIRTH_DATE, moments)
    return pc.utf8_slice_codeunits(moments.cast(pa.string()), 0, 10)
