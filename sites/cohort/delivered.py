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
from typing import Any, Self

import numpy as np
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
    """
    Builds the delivered tables, visits first because the others refer to them.

    The source only picks the persons' rows, of columns that are delivered; the rest is done on
    Arrow columns, so that no engine is asked for more than that.
    """

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
        persons = sorted(units)
        for person in persons:
            firsts.setdefault(units[person], person)
        self._old = pa.array(persons, pa.int64())
        self._new = pa.array([numbering.persons[units[p]] for p in persons], pa.int64())
        self._first = pa.array([firsts[units[p]] == p for p in persons], pa.bool_())
        self._wanted = source.person_rows({"person_id": self._old})
        self._visits = _Visits.none()

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
        rows = self._renumbered(self._fetch(table), table)
        dated = _dated(rows, table)
        found = _ordered(dated, table)
        if table.name == "visit_occurrence":
            self._visits = _Visits.of(found, self._base)
        made: dict[str, Any] = {}
        orphans = left_out = filled = 0
        for column in table.columns:
            name = column.name
            if name not in found.column_names:
                continue
            values = found[name].combine_chunks()
            if name == table.key and name != "person_id":
                values = _numbers(self._base, found.num_rows)
            elif name in _VISIT_LINKS:
                values, lost = self._visits.link(values, found["person_id"].combine_chunks())
                orphans += lost
            elif column.kind == "text":
                values, lost = self._common(table, name, values, found["person_id"])
                left_out += lost
            elif column.kind == "concept" and column.required:
                filled += values.null_count
                values = pc.fill_null(values, 0)
            made[name] = values
        facts = TableFacts(
            rows=found.num_rows,
            persons=len(pc.unique(found["person_id"])),
            orphan_visits=orphans,
            texts_left_out=left_out,
            concepts_filled=filled,
            undated=rows.num_rows - found.num_rows,
        )
        return _typed(made, table, found.num_rows), facts

    def _fetch(self, table: cdm.Table) -> pa.Table:
        """Return the persons' rows from the source, of the columns that are delivered."""
        rows = self._source.table(table.name)
        names = [c.name for c in table.columns if not self._is_left(c.name)]
        return rows.select(names).semi_join(self._wanted, "person_id").to_pyarrow()

    def _is_left(self, name: str) -> bool:
        hidden = name in _BIRTH_PARTS and self._source.config.birth == "year"
        return hidden or name in _NOT_DELIVERED or name in _NEVER

    def _renumbered(self, rows: pa.Table, table: cdm.Table) -> pa.Table:
        """Return the rows with their new person_id; of several persons of one unit, the first's."""
        at = pc.index_in(rows["person_id"].cast(pa.int64()), value_set=self._old).combine_chunks()
        place = rows.schema.get_field_index("person_id")
        renumbered = rows.set_column(place, "person_id", self._new.take(at))
        if table.name not in _ONE_ROW_A_PERSON:
            return renumbered
        return renumbered.filter(self._first.take(at))

    def _common(
        self, table: cdm.Table, name: str, values: pa.Array, persons: pa.ChunkedArray
    ) -> tuple[pa.Array, int]:
        """Return the texts that enough persons of the whole source have; count the others."""
        encoded = values.dictionary_encode()
        if not len(encoded.dictionary):
            return values, 0
        pairs = pa.table({"text": encoded.indices, "person": persons}).filter(
            pc.is_valid(encoded.indices)
        )
        counted = pairs.group_by(["text", "person"]).aggregate([]).group_by("text")
        here = counted.aggregate([("person", "count")])
        # Whom the delivered rows show often enough need not be looked for in the whole source.
        enough = here.filter(pc.greater_equal(here["person_count"], self._minimum))["text"]
        common = set(enough.to_pylist())
        texts = encoded.dictionary.to_pylist()
        rare = [text for code, text in enumerate(texts) if code not in common]
        elsewhere = self._common_elsewhere(table, name, rare) if rare else set()
        kept = pa.array([code in common or text in elsewhere for code, text in enumerate(texts)])
        fits = kept.take(encoded.indices)
        left = pc.if_else(fits, values, pa.scalar(None, values.type))
        return left, left.null_count - values.null_count

    def _common_elsewhere(self, table: cdm.Table, name: str, texts: list[str]) -> set[str]:
        known = self._source.known(table.name)
        asked = self._source.person_rows({"text": pa.array(texts, pa.string())})
        rows = known.select("person_id", text=known[name]).semi_join(asked, "text")
        counted = rows.group_by("text").agg(persons=rows.person_id.nunique())
        found = counted.filter(counted.persons >= self._minimum).to_pyarrow()
        return set(found["text"].to_pylist())


class _Visits:
    """The delivered visits: their new ids by old id and person; of equal ones the first counts."""

    def __init__(self, old: pa.Array, persons: np.ndarray, base: int) -> None:
        self._base, self._span = base, int(persons.max(initial=base)) - base + 1
        self._known = pc.unique(old)
        codes = pc.index_in(old, value_set=self._known).to_numpy(zero_copy_only=False)
        pairs = codes.astype(np.int64) * self._span + (persons - base)
        self._pairs, self._at = np.unique(pairs, return_index=True)

    @classmethod
    def none(cls) -> Self:
        return cls(pa.array([], pa.int64()), np.zeros(0, dtype=np.int64), 0)

    @classmethod
    def of(cls, visits: pa.Table, base: int) -> Self:
        old = visits["visit_occurrence_id"].combine_chunks().cast(pa.int64())
        return cls(old, visits["person_id"].to_numpy(), base)

    def link(self, values: pa.Array, persons: pa.Array) -> tuple[pa.Array, int]:
        """Return the new ids of the visits that `values` name, and how many name none."""
        asked = pc.fill_null(values.cast(pa.int64()), 0)
        code = pc.index_in(asked, value_set=self._known)
        known = pc.is_valid(code).to_numpy(zero_copy_only=False) & (len(self._pairs) > 0)
        codes = pc.fill_null(code, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        offsets = persons.to_numpy(zero_copy_only=False) - self._base
        known &= offsets < self._span
        wanted = codes * self._span + offsets
        place = np.minimum(np.searchsorted(self._pairs, wanted), max(len(self._pairs) - 1, 0))
        if len(self._pairs):
            known &= self._pairs[place] == wanted
            new = self._base + 1 + self._at[place]
        else:
            new = np.zeros(len(wanted), dtype=np.int64)
        lost = (asked.to_numpy(zero_copy_only=False) != 0) & ~known
        return pa.array(new, pa.int64(), mask=~known), int(lost.sum())


def _dated(rows: pa.Table, table: cdm.Table) -> pa.Table:
    """Fill missing ends with the start; leave out rows without a date that the CDM requires."""
    for end, start in _END_OF.items():
        if end in rows.column_names:
            ends = pc.coalesce(rows[end], rows[start])
            rows = rows.set_column(rows.schema.get_field_index(end), end, ends)
    for column in table.columns:
        if column.required and column.kind == "date":
            rows = rows.filter(pc.is_valid(rows[column.name]))
    return rows


def _ordered(rows: pa.Table, table: cdm.Table) -> pa.Table:
    """Order by person, date and key; by all else, too, where keys of the source are not unique."""
    names = [name for name in ("person_id", table.start, table.key) if name]
    if table.key is None or len(pc.unique(rows[table.key])) != rows.num_rows:
        names += rows.column_names
    keys = [(name, "ascending") for name in dict.fromkeys(names)]
    return rows.combine_chunks().sort_by(keys).combine_chunks()


def _numbers(base: int, count: int) -> pa.Array:
    return pa.array(np.arange(base + 1, base + 1 + count), pa.int64())


def _typed(columns: Mapping[str, Any], table: cdm.Table, count: int) -> pa.Table:
    """Return the rows in the CDM's columns and types; what is not delivered is null."""
    schema = table.schema()
    made = {f.name: columns.get(f.name, pa.nulls(count, f.type)) for f in schema}
    try:
        return pa.table(made).cast(schema)
    except (pa.ArrowInvalid, ValueError):
        raise SourceRefused(
            file=table.name,
            rule="holds a number beyond the CDM's integer, or nothing where it is required",
            hint="check its concept ids and its required columns",
        ) from None
