"""
The OMOP tables of a cohort's persons, without any local id.

Every id is new: person_id by cohort, in an order that only the seed knows; every other key counts
from the same base, above which no person_id of the source lies, so that a left-over local id can
be found by looking. Ids of tables that are not delivered (provider, care site, location, visit
detail) and references that resolve to no visit of the same person become null.

Texts come from the source's own systems and may hold anything, so a text is delivered only where
at least `minimum_cell` persons of the whole source have it in that column; person_source_value and
visit_source_value never are.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import SourceRefused
from sites.cohort import cdm
from sites.cohort.omop import OmopSource
from sites.cohort.tables import count_of, no_values_in_errors

LARGEST_INTEGER = 2**31 - 1
"""Of the CDM's `integer`."""

_NEVER = frozenset({"person_source_value", "visit_source_value"})
_NOT_DELIVERED = frozenset(
    "provider_id care_site_id location_id visit_detail_id measurement_event_id "
    "meas_event_field_concept_id observation_event_id obs_event_field_concept_id".split()
)
_VISIT_LINKS = ("visit_occurrence_id", "preceding_visit_occurrence_id")
_END_OF = {
    "drug_exposure_end_date": "drug_exposure_start_date",
    "visit_end_date": "visit_start_date",
    "observation_period_end_date": "observation_period_start_date",
}
"""A missing end is the start: the CDM's own convention for drug exposures and visits."""

_ONE_ROW_A_PERSON = frozenset({"person", "death"})
_BIRTH_PARTS = ("month_of_birth", "day_of_birth", "birth_datetime")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """
    What happened to one table; counts of rows, save `persons`.

    orphan_visits: references to a visit that is not delivered, nulled. texts_left_out: texts too
    rare to be delivered. concepts_filled: missing required concepts, now 0. undated: rows left
    out because the CDM requires their date.
    """

    rows: int
    persons: int
    orphan_visits: int = 0
    texts_left_out: int = 0
    concepts_filled: int = 0
    undated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """New ids. base: the first is base + 1. persons: new person_id by cohort ID."""

    base: int
    persons: dict[str, int]


def number_persons(cohort_ids: Iterable[str], source: OmopSource, seed: bytes) -> Numbering:
    """
    Give every cohort ID a new person_id, in an order that depends on the secret `seed` only.

    Raises SourceRefused if the source's own person ids leave no room for new ones.
    """
    order = sorted(set(cohort_ids), key=lambda one: hmac.digest(seed, one.encode(), "sha256"))
    base = _free_base(source)
    return Numbering(base=base, persons={one: base + n for n, one in enumerate(order, start=1)})


def _free_base(source: OmopSource) -> int:
    """Return the smallest power of ten from 10,000 with no person_id of the source above it."""
    persons = source.table("person").person_id
    for base in (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000):
        above = (persons > base) & (persons <= LARGEST_INTEGER)
        with no_values_in_errors("person"):
            if count_of(above.sum().fill_null(0)) == 0:
                return base
    raise SourceRefused(
        file="person",
        rule="person ids fill the whole range of the CDM's integers",
        hint="map person_id to smaller numbers first; a delivery needs new ids beside them",
    )


class Deliverer:
    """Builds the delivered tables, visits first because the others refer to them."""

    def __init__(
        self,
        source: OmopSource,
        units: Mapping[int, str],
        numbering: Numbering,
        *,
        minimum_cell: int,
    ) -> None:
        """units: cohort ID by person_id of the source, for the persons to deliver."""
        self._source, self._base, self._minimum = source, numbering.base, minimum_cell
        firsts: dict[str, int] = {}
        for person in sorted(units):
            firsts.setdefault(units[person], person)
        self._persons = source.person_rows(
            {
                "person_id": pa.array(list(units), pa.int64()),
                "new_person_id": pa.array(
                    [numbering.persons[u] for u in units.values()], pa.int64()
                ),
                "first": pa.array([firsts[u] == p for p, u in units.items()], pa.bool_()),
            }
        )
        self._visits: Any = None

    def all_tables(self) -> tuple[dict[str, pa.Table], dict[str, TableFacts]]:
        """Return every table of cdm.TABLES by name, and what happened to each."""
        made: dict[str, pa.Table] = {}
        facts: dict[str, TableFacts] = {}
        for table in sorted(cdm.TABLES, key=lambda one: one.name != "visit_occurrence"):
            with no_values_in_errors(table.name):
                made[table.name], facts[table.name] = self._deliver(table)
        names = [table.name for table in cdm.TABLES]
        return {name: made[name] for name in names}, {name: facts[name] for name in names}

    def _deliver(self, table: cdm.Table) -> tuple[pa.Table, TableFacts]:
        rows = self._source.table(table.name).inner_join(self._persons, "person_id")
        if table.name in _ONE_ROW_A_PERSON:
            rows = rows.filter(rows.first)
        all_rows = count_of(rows.count())
        rows = self._dated(rows, table)
        if table.name == "visit_occurrence":
            self._visits = self._number_visits(rows)
        rows, orphans = self._link_visits(rows, table)
        made, left_out, filled = self._columns(rows, table)
        keys = [name for name in (table.start, table.key) if name]
        ordered = rows.order_by(["new_person_id", *(rows[name] for name in keys)])
        found = ordered.select(
            **made, orphans__=orphans, left_out__=left_out, filled__=filled
        ).to_pyarrow()
        facts = TableFacts(
            rows=found.num_rows,
            persons=len(pc.unique(found["person_id"])),
            orphan_visits=_sum(found["orphans__"]),
            texts_left_out=_sum(found["left_out__"]),
            concepts_filled=_sum(found["filled__"]),
            undated=all_rows - found.num_rows,
        )
        return self._numbered(found, table), facts

    def _dated(self, rows: Any, table: cdm.Table) -> Any:
        ends = {c.name: _END_OF[c.name] for c in table.columns if c.name in _END_OF}
        rows = rows.mutate(**{end: rows[end].coalesce(rows[start]) for end, start in ends.items()})
        for column in table.columns:
            if column.required and column.kind == "date":
                rows = rows.filter(rows[column.name].notnull())
        return rows

    def _number_visits(self, rows: Any) -> Any:
        """Return old visit id, new person_id and new visit id of the delivered visits."""
        ordered = rows.order_by("new_person_id", "visit_start_date", "visit_occurrence_id")
        old = ordered.select("visit_occurrence_id", "new_person_id").to_pyarrow()
        new = pa.array(range(self._base + 1, self._base + 1 + old.num_rows), pa.int64())
        visits = ibis.memtable(old.append_column("new_visit_id", new))
        return visits.group_by("visit_occurrence_id", "new_person_id").agg(
            new_visit_id=visits.new_visit_id.min()  # a visit id that occurs twice means the first
        )

    def _link_visits(self, rows: Any, table: cdm.Table) -> tuple[Any, Any]:
        """Point references at the delivered visits; return also the count of orphans a row."""
        orphans = ibis.literal(0, "int64")
        for link in _VISIT_LINKS:
            if link not in rows.columns or link == table.key:
                continue
            visits = self._visits.select(
                **{f"{link}__old": "visit_occurrence_id", f"{link}__new": "new_visit_id"},
                **{f"{link}__person": "new_person_id"},
            )
            rows = rows.left_join(
                visits,
                [
                    rows[link] == visits[f"{link}__old"],
                    rows.new_person_id == visits[f"{link}__person"],
                ],
            )
            lost = (rows[link].fill_null(0) != 0) & rows[f"{link}__new"].isnull()
            orphans = orphans + lost.cast("int64")
        return rows, orphans

    def _columns(self, rows: Any, table: cdm.Table) -> tuple[dict[str, Any], Any, Any]:
        """Return the delivered columns, and per row the texts left out and concepts filled."""
        made: dict[str, Any] = {}
        left_out, filled = ibis.literal(0, "int64"), ibis.literal(0, "int64")
        for column in table.columns:
            name, value = column.name, rows[column.name]
            if name == "person_id":
                value = rows.new_person_id
            elif name in _NOT_DELIVERED or name in _NEVER or self._hides_birth(name):
                value = value.nullif(value)
            elif name in _VISIT_LINKS and name != table.key:
                value = rows[f"{name}__new"]
            elif column.kind == "text":
                common = value.isin(self._common_texts(table, name))
                left_out = left_out + (value.notnull() & ~common).cast("int64")
                value = ibis.ifelse(common, value, ibis.null("string"))
            elif column.kind == "concept" and column.required:
                filled = filled + value.isnull().cast("int64")
                value = value.fill_null(0)
            made[name] = value
        return made, left_out, filled

    def _hides_birth(self, name: str) -> bool:
        return name in _BIRTH_PARTS and self._source.config.birth == "year"

    def _common_texts(self, table: cdm.Table, name: str) -> Any:
        rows = self._source.known(table.name)
        counted = rows.group_by(text=rows[name]).agg(persons=rows.person_id.nunique())
        return counted.filter(counted.persons >= self._minimum).text

    def _numbered(self, found: pa.Table, table: cdm.Table) -> pa.Table:
        """Give rows their new key, in their order, and the CDM's types."""
        schema = table.schema()
        found = found.select(schema.names)
        if table.key and table.key != "person_id":
            new = pa.array(range(self._base + 1, self._base + 1 + found.num_rows), pa.int64())
            found = found.set_column(schema.get_field_index(table.key), table.key, new)
        try:
            return found.cast(schema)
        except (pa.ArrowInvalid, ValueError):
            raise SourceRefused(
                file=table.name,
                rule="holds a number beyond the CDM's integer, or nothing where it is required",
                hint="check its concept ids and its required columns",
            ) from None


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)
