"""
image_occurrence of the Medical Imaging extension of OMOP (MI-CDM), and its side tables.

One row a DICOM series. Rules, each named in image_occurrence_provenance:

- image_occurrence_date: as the commons gives it, placed by sites.cohort.calendar; 1900-01-01 where
  there is none. In what frame it is and what it is good for stands beside it.
- procedure_occurrence_id, which MI-CDM requires: the enclave's own procedure where the rule of
  sites.cohort.procedures finds one, else one synthetic procedure_occurrence a study, with
  procedure_concept_id 0 and the date of the images.
- visit_occurrence_id: that of the enclave's own procedure, else null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sites.cohort import cdm
from sites.cohort.calendar import Calendar, place
from sites.cohort.codes import Codebook
from sites.cohort.mi_cdm_tables import (
    DESCRIBED,
    IMAGE_OCCURRENCE,
    NO_DATE,
    PROVENANCE,
    SERIES,
    filled,
)
from sites.cohort.omop import OmopSource
from sites.cohort.procedures import RESOLVED, SYNTHETIC_RULE, resolve
from sites.cohort.received import OWNER

SYNTHETIC = "synthetic: imaging study"
"""procedure_source_value of the procedures that are made here."""

_TEXT = pa.string()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageTables:
    """
    What becomes of the series: parallel tables, one row a series, by person and date.

    image_occurrence: IMAGE_OCCURRENCE. provenance: PROVENANCE. series: SERIES. procedures: the
    synthetic procedure_occurrence rows, one a study that has none of its own. rows: the series as
    they came (SERIES_SCHEMA and cohort_id), in the same order, with person_id, image_occurrence_id,
    anatomic_site_concept_id, image_date, date_confidence and comparable. studies: how many.
    resolved: of how many the enclave's own procedure was found. without_concept, without_date: how
    many rows' modality has no concept, or whose date is NO_DATE.
    """

    image_occurrence: pa.Table
    provenance: pa.Table
    series: pa.Table
    procedures: pa.Table
    rows: pa.Table
    studies: int
    resolved: int
    without_concept: int
    without_date: int


def image_tables(
    series: pa.Table,
    persons: Mapping[str, int],
    book: Codebook,
    *,
    base: int,
    procedures: pa.Table,
    calendar: Calendar | None = None,
    source: OmopSource | None = None,
    mirror_root: str | None = None,
) -> ImageTables:
    """
    Make the MI-CDM tables of the persons to deliver.

    series: as received.gather returns it. persons: new person_id by cohort ID; series of other
    cohort IDs are not used. base: ids count from base + 1. procedures: delivered
    procedure_occurrence rows, whose ids precede the synthetic ones. mirror_root: where the
    enclave's own copies lie; then local_path is mirror_root/study UID/series UID.
    """
    rows = _placed(series, persons, calendar or Calendar())
    count = rows.num_rows
    ids = pa.array(np.arange(base + 1, base + 1 + count), pa.int32())
    site, _ = book.look_up("anatomic_site", rows["anatomic_site"], rows["body_part"])
    rows = rows.append_column("image_occurrence_id", ids).append_column(
        "anatomic_site_concept_id", pc.if_else(pc.equal(site, 0), None, site)
    )
    found = resolve(rows, procedures, book.concepts, source)
    linked, synthetic = _procedures(rows, found, first=base + 1 + procedures.num_rows)
    modality, _ = book.look_up("modality", rows["modality"])
    occurrences = {
        "image_occurrence_id": ids,
        "person_id": rows["person_id"],
        "procedure_occurrence_id": linked["procedure_occurrence_id"],
        "visit_occurrence_id": linked["visit_occurrence_id"],
        "anatomic_site_concept_id": rows["anatomic_site_concept_id"],
        "wadors_uri": rows["wadors_uri"],
        "local_path": _local_path(rows, mirror_root),
        "image_occurrence_date": rows["image_date"],
        "image_study_uid": rows["study_uid"],
        "image_series_uid": rows["series_uid"],
        "modality_concept_id": modality,
    }
    provenance = {
        **{name: rows[name] for name in PROVENANCE.names if name in rows.column_names},
        **{name: linked[name] for name in PROVENANCE.names if name in linked.column_names},
    }
    described = {name: rows[name] for name in ("image_occurrence_id", *DESCRIBED)}
    return ImageTables(
        image_occurrence=filled(IMAGE_OCCURRENCE, occurrences, count),
        provenance=filled(PROVENANCE, provenance, count),
        series=filled(SERIES, described, count),
        procedures=synthetic,
        rows=rows,
        studies=found.num_rows + synthetic.num_rows,
        resolved=found.num_rows,
        without_concept=pc.sum(pc.equal(modality, 0)).as_py() or 0,
        without_date=pc.sum(rows["undated"]).as_py() or 0,
    )


def _placed(series: pa.Table, persons: Mapping[str, int], calendar: Calendar) -> pa.Table:
    """Return the series of `persons` with new person ids and dates, in the order of delivery."""
    wanted = series.filter(pc.is_in(series[OWNER], value_set=pa.array(list(persons), _TEXT)))
    wanted = wanted.combine_chunks()
    numbers = pa.table(
        {OWNER: pa.array(list(persons), _TEXT), "person_id": pa.array(persons.values(), pa.int32())}
    )
    at = pc.index_in(wanted[OWNER], value_set=numbers[OWNER].combine_chunks())
    placed = place(wanted, calendar, date="study_date", day="study_day")
    more = {
        "person_id": numbers["person_id"].combine_chunks().take(at.combine_chunks()),
        "image_date": pc.fill_null(placed.date, pa.scalar(NO_DATE, pa.date32())),
        "undated": pc.is_null(placed.date),
        "date_confidence": placed.confidence,
        "comparable": placed.comparable,
    }
    for name, column in more.items():
        wanted = wanted.append_column(name, column)
    order = [(name, "ascending") for name in ("person_id", "image_date", "study_uid", "series_uid")]
    return wanted.sort_by(order).combine_chunks()


def _procedures(rows: pa.Table, found: pa.Table, *, first: int) -> tuple[pa.Table, pa.Table]:
    """Return, by series, RESOLVED without study_uid, and one synthetic procedure a study."""
    at = pc.index_in(rows["study_uid"], value_set=found["study_uid"].combine_chunks())
    at = at.combine_chunks()
    resolved = found.drop_columns("study_uid").take(at) if found.num_rows else None
    lacking = rows.filter(pc.is_null(at)).select(["study_uid", "person_id", "image_date"])
    encoded = lacking["study_uid"].combine_chunks().dictionary_encode()
    numbers = pc.add(encoded.indices.cast(pa.int32()), pa.scalar(first, pa.int32()))
    studies = (
        lacking.append_column("number", numbers)
        .group_by("number")
        .aggregate([("person_id", "min"), ("image_date", "min")])
        .sort_by("number")
    )
    count = studies.num_rows
    zeros = pa.repeat(pa.scalar(0, pa.int32()), count)
    made = {
        "procedure_occurrence_id": studies["number"],
        "person_id": studies["person_id_min"],
        "procedure_date": studies["image_date_min"],
        "procedure_concept_id": zeros,
        "procedure_type_concept_id": zeros,
        "procedure_source_value": pa.repeat(pa.scalar(SYNTHETIC), count),
    }
    of_study = pc.index_in(rows["study_uid"], value_set=encoded.dictionary).combine_chunks()
    own = pc.add(of_study.cast(pa.int32()), pa.scalar(first, pa.int32()))
    synthetic = {
        "procedure_occurrence_id": own,
        "visit_occurrence_id": pa.nulls(rows.num_rows, pa.int32()),
        "procedure_rule": pa.repeat(pa.scalar(SYNTHETIC_RULE), rows.num_rows),
        "procedure_confidence": pa.repeat(pa.scalar("none"), rows.num_rows),
    }
    if resolved is not None:
        synthetic = {
            name: pc.coalesce(resolved[name].combine_chunks(), column)
            for name, column in synthetic.items()
        }
    names = RESOLVED.names[1:]
    linked = pa.table({name: synthetic[name] for name in names})
    return linked, filled(cdm.BY_NAME["procedure_occurrence"].schema(), made, count)


def _local_path(rows: pa.Table, mirror_root: str | None) -> pa.Array:
    if mirror_root is None:
        return pa.nulls(rows.num_rows, pa.string())
    root = mirror_root.rstrip("/")
    return pc.binary_join_element_wise(root, rows["study_uid"], rows["series_uid"], "/")
