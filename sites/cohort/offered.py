"""
What questions about this site's data may name: concepts and values that enough persons have.

    edge = Edge(blur, least=11, drawn="2026-11-22")
    concepts = offered_concepts(source, edge)            of the enclave's OMOP tables
    values = offered_values(config, edge)                of an imaging commons' series and features

An entry stands for at least `least` persons. How many more it needs moves by what a key of the site
draws from the very persons, anew for each list: a concept near the edge comes and goes by chance,
so its coming or going does not tell that one person has it. Equal sets of persons move alike, so a
concept and all those above it tell no more than one of them. What remains: docs/adr/0033.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkage.cohort.spec_imaging import MODALITIES
from linkage.errors import SourceRefused
from linkage.offered import (
    DOMAINS,
    MOST_CONCEPTS,
    MOST_VALUES,
    Domain,
    ImagingField,
    OfferedConcept,
)
from sites.cohort import cdm
from sites.cohort.blur import Blur, Tags
from sites.cohort.concepts import among
from sites.cohort.config_imaging import ImagingConfig
from sites.cohort.imaging_criteria import coded, joined, plain
from sites.cohort.imaging_series import Source
from sites.cohort.imaging_source import open_source
from sites.cohort.omop import OmopSource
from sites.cohort.tables import connect, no_values_in_errors

_UNITS = ("measurement", "observation")
"""Tables whose unit_concept_id a criterion may name."""

_SERIES: tuple[ImagingField, ...] = (
    *("collection", "modality", "body_part", "manufacturer", "manufacturer_model"),
)
_FEATURES: Mapping[ImagingField, str] = {
    "finding": "finding",
    "measurement": "feature",
    "unit": "unit",
    "algorithm": "algorithm",
}
"""Columns of FEATURES_SCHEMA, by the field of a specification."""

_AS_THEY_ARE = ("collection", "unit")
"""Fields that a question must name letter for letter; of others case and spaces do not count."""

_PRIME = 2**31 - 1
"""Sums of person ids stay below 2^63 for two billion persons."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f\x80-\x9f]+")
_LONGEST, _LONGEST_CODE = 255, 64


@dataclass(frozen=True, slots=True)
class Edge:
    """How many persons an entry needs. drawn: of which list; every list draws anew."""

    blur: Blur
    least: int
    drawn: str

    def passes(self, persons: int, told: Tags) -> bool:
        """Whether so many persons are enough. told: numbers that stand for just this set."""
        if persons < self.least:
            return False
        moved = persons + self.blur.of(told, label=f"offered {self.drawn}")
        return moved >= self.least + self.blur.reach


@dataclass(frozen=True, slots=True)
class Concepts:
    """found: by position in the list. unknown: how many the vocabulary does not have."""

    found: tuple[OfferedConcept, ...]
    unknown: int


def offered_concepts(source: OmopSource, edge: Edge) -> Concepts:
    """
    Return the concepts that enough persons have, and those above them, ascending by domain and id.

    Raises SourceRefused where there is no table concept: without names a list helps nobody.
    """
    if not source.has("concept"):
        raise SourceRefused(
            file="concept",
            rule="is not in the source, and a list without names helps nobody",
            hint="load the vocabulary, or name its schema as vocabulary_schema in [omop]",
        )
    enough: list[tuple[Domain, int]] = []
    for domain, rows in _used(source):
        with no_values_in_errors(domain):
            enough += [(domain, concept) for concept in _of_enough(rows, edge)]
    names = _named({concept for _, concept in enough}, source)
    found = [_concept(domain, names[one]) for domain, one in sorted(enough) if one in names]
    if len(found) > MOST_CONCEPTS:
        raise SourceRefused(
            file="[omop]",
            rule=f"has more than {MOST_CONCEPTS:,} concepts to offer",
            hint="leave out a vocabulary: not_offered in [omop] of the site file",
        )
    return Concepts(tuple(found), len(enough) - len(found))


def _used(source: OmopSource) -> Iterator[tuple[Domain, Any]]:
    """Yield, by domain, each concept and person once: what records have, and what is above it."""
    for domain in DOMAINS:
        table, column, _ = cdm.DOMAINS.get(domain, ("", "", ""))
        if source.has(table) and column not in source.absent(table):
            yield domain, _with_ancestors(_pairs(source, table, column), source)
    units = [
        _pairs(source, table, "unit_concept_id")
        for table in _UNITS
        if source.has(table) and "unit_concept_id" not in source.absent(table)
    ]
    for one in units[:1]:
        yield "unit", one.union(*units[1:], distinct=True) if units[1:] else one


def _pairs(source: OmopSource, table: str, column: str) -> Any:
    """Return each concept with each person of a record once. Concept 0 means that there is none."""
    rows = source.known(table)
    used = rows.filter(rows[column] > 0)
    return used.select(concept=used[column].cast("int64"), person_id=used.person_id).distinct()


def _with_ancestors(pairs: Any, source: OmopSource) -> Any:
    if not source.has("concept_ancestor"):
        return pairs
    above = source.table("concept_ancestor")
    theirs = pairs.inner_join(above, pairs.concept == above.descendant_concept_id).select(
        concept=above.ancestor_concept_id.cast("int64"), person_id=pairs.person_id
    )
    return pairs.union(theirs, distinct=True)


def _of_enough(pairs: Any, edge: Edge) -> Iterator[int]:
    """Yield the concepts of enough persons. Their number and the sum of ids stand for a set."""
    counted = pairs.group_by("concept").agg(
        persons=pairs.count(), told=(pairs.person_id % _PRIME).sum().cast("int64")
    )
    rows = counted.filter(counted.persons >= edge.least).to_pyarrow()
    columns = (rows[name].to_pylist() for name in ("concept", "persons", "told"))
    for concept, persons, told in zip(*columns, strict=True):
        if edge.passes(persons, np.array([persons, told], np.uint64)):
            yield concept


def _named(wanted: set[int], source: OmopSource) -> dict[int, dict[str, Any]]:
    """Return rows of the vocabulary by concept id, of those that have a name."""
    table = source.table("concept")
    columns = ("concept_id", "concept_name", "vocabulary_id", "concept_code", "standard_concept")
    with no_values_in_errors("concept"):
        rows = table.filter(among(table.concept_id, wanted, source)).select(*columns).to_pyarrow()
    return {row["concept_id"]: row for row in rows.to_pylist() if _clean(row["concept_name"])}


def _concept(domain: Domain, row: Mapping[str, Any]) -> OfferedConcept:
    standard = row["standard_concept"] or ""
    return OfferedConcept(
        concept_id=row["concept_id"],
        domain=domain,
        name=_clean(row["concept_name"]),
        vocabulary=_clean(row["vocabulary_id"])[:_LONGEST_CODE],
        code=_clean(row["concept_code"])[:_LONGEST_CODE],
        standard=standard if standard in ("S", "C") else "",
    )


def _clean(text: str | None) -> str:
    return " ".join(_UNFIT.sub(" ", text or "").split())[:_LONGEST]


def offered_values(config: ImagingConfig, edge: Edge) -> dict[ImagingField, tuple[str, ...]]:
    """Return, by field, what the series and features of enough subjects say, ascending."""
    con = connect()
    with no_values_in_errors(config.place.name):
        source = open_source(con, config)
        subjects = _Subjects(source, edge)
        found = {name: subjects.values(name, subjects.table[name]) for name in subjects.there}
        if source.features is not None:
            features = source.features()
            rows = subjects.rows_of(features["study_uid"])
            for name, column in _FEATURES.items():
                found[name] = subjects.values(name, features[column], rows)
    return {name: values for name, values in found.items() if values}


class _Subjects:
    """The subjects of a commons, and what their series say. there: fields that the source has."""

    def __init__(self, source: Source, edge: Edge) -> None:
        self._edge = edge
        self.there = [name for name in _SERIES if source.has(name)]
        raw = source.raw
        keys = {f"id_{n}": raw[name].cast("string") for n, name in enumerate(source.record_id)}
        keys["study_uid"] = raw[source.columns["study_uid"]].cast("string")
        asked = {name: source.column(name) for name in self.there}
        self.table = raw.select(**keys, **asked).to_pyarrow()
        record = joined([coded(self.table[f"id_{n}"]) for n in range(len(source.record_id))])
        self._of_row = record.codes.astype(np.int64)
        self._tags = edge.blur.tags(record.values.to_pylist())

    def rows_of(self, study_uids: pa.ChunkedArray) -> Any:
        """Return whose study each row of another table is; -1 where nobody knows."""
        at = pc.index_in(study_uids, value_set=self.table["study_uid"].combine_chunks())
        rows = at.fill_null(-1).to_numpy()
        return np.append(self._of_row, -1)[rows]

    def values(
        self, field: ImagingField, column: pa.ChunkedArray, of_row: Any = None
    ) -> tuple[str, ...]:
        """Return the texts of a column that enough subjects have."""
        told, of_row = coded(column), self._of_row if of_row is None else of_row
        texts = [self._said(field, text) for text in told.values.to_pylist()]
        alike = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        onto = np.array([alike[text] for text in texts] + [-1], np.int64)
        values = onto[told.codes]
        known = (values >= 0) & (of_row >= 0)
        subjects = len(self._tags) + 1
        pairs = np.unique(values[known] * subjects + of_row[known])
        starts = np.searchsorted(pairs, np.arange(len(alike) + 1) * subjects)
        found = []
        for n, text in enumerate(alike):
            tags = self._tags[pairs[starts[n] : starts[n + 1]] % subjects]
            if text and self._edge.passes(len(tags), tags):
                found.append(text)
        return tuple(sorted(found)[:MOST_VALUES])

    @staticmethod
    def _said(field: ImagingField, text: str) -> str:
        """Return a text as a question names it, "" for one that none can name."""
        said = text if field in _AS_THEY_ARE else plain(text)
        if field == "modality" and said not in MODALITIES:
            return ""
        # A comma parts values in the portal's form.
        return "" if _UNFIT.search(said) or len(said) > _LONGEST or "," in said else said
