"""
image_occurrence of the Medical Imaging extension of OMOP (MI-CDM), and its side tables.

One row a DICOM series. Source: Park et al. 2024, doi:10.1007/s10278-024-00982-6; DDL of OHDSI's
imaging group; column names in lower case.

Rule for procedure_occurrence_id, which MI-CDM requires: the dates of images are shifted, so no
procedure of the enclave can be found by date. Every study gets one synthetic procedure_occurrence
with procedure_concept_id 0, dated as the imaging commons dates the study. The side table
image_occurrence_provenance says of each row in what frame that date is and what it is good for.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from linkage import strict_toml
from linkage.errors import SiteRefused
from linkage.strict_toml import Strict
from sites.cohort import cdm
from sites.cohort.bundle import SERIES_SCHEMA, checked_rows

IMAGE_OCCURRENCE = pa.schema(
    [
        pa.field("image_occurrence_id", pa.int32(), nullable=False),
        pa.field("person_id", pa.int32(), nullable=False),
        pa.field("procedure_occurrence_id", pa.int32(), nullable=False),
        pa.field("visit_occurrence_id", pa.int32()),
        pa.field("anatomic_site_concept_id", pa.int32()),
        pa.field("wadors_uri", pa.string()),
        pa.field("local_path", pa.string()),
        pa.field("image_occurrence_date", pa.date32(), nullable=False),
        pa.field("image_study_uid", pa.string(), nullable=False),
        pa.field("image_series_uid", pa.string(), nullable=False),
        pa.field("modality_concept_id", pa.int32(), nullable=False),
    ]
)
"""MI-CDM's columns, in its order and types: integer, date, varchar; required ones not nullable."""

PROVENANCE = pa.schema(
    [
        pa.field("image_occurrence_id", pa.int32(), nullable=False),
        pa.field("procedure_occurrence_id", pa.int32(), nullable=False),
        pa.field("procedure_rule", pa.string(), nullable=False),
        pa.field("date_frame", pa.string(), nullable=False),
        pa.field("date_confidence", pa.string(), nullable=False),
    ]
)
"""procedure_rule: "synthetic". date_frame, date_confidence: see CONFIDENCE."""

CONFIDENCE: Mapping[str, str] = {
    "true": "exact",
    "shifted": "intervals within the person only",
    "unknown": "none",
    "absent": "none",
}
"""By frame of the image's date, what the date is good for. "absent": NO_DATE stands there."""

NO_DATE = dt.date(1900, 1, 1)
"""Stands for a missing image date, because MI-CDM allows no null there."""

SYNTHETIC = "synthetic: imaging study"
"""procedure_source_value of the procedures that are made here."""

DESCRIBED = (
    *("modality", "collection", "body_part", "manufacturer", "manufacturer_model"),
    *("study_description", "series_description", "slice_thickness", "kvp", "instances"),
    "size_bytes",
)
"""Columns of SERIES_SCHEMA that MI-CDM has no place for."""

SERIES = pa.schema(
    [PROVENANCE.field("image_occurrence_id"), *(SERIES_SCHEMA.field(name) for name in DESCRIBED)]
)
"""The side table image_series: image_occurrence_id and DESCRIBED."""


class Concepts(Strict):
    """DICOM codes and their OMOP concepts; see modality_concepts.toml."""

    modality: dict[str, int] = Field(min_length=1)
    anatomic_site: dict[str, int] = Field(default={})


def load_concepts(path: Path | None = None) -> Concepts:
    """Read the map of concepts, by default the one shipped. Raises SiteRefused."""
    if path is not None:
        return strict_toml.load(path, Concepts, SiteRefused)
    shipped = resources.files("sites.cohort") / "modality_concepts.toml"
    text = shipped.read_text(encoding="utf-8")
    return strict_toml.parse(text, Concepts, SiteRefused, file="modality_concepts.toml")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageTables:
    """
    What becomes of the imaging rows: parallel tables, one row a series, by person and date.

    image_occurrence: IMAGE_OCCURRENCE. provenance: PROVENANCE. series: SERIES.
    procedures: the synthetic procedure_occurrence rows, one a study. rows: the series as
    they came (SERIES_SCHEMA, with person_id), in the same order. without_concept, without_date: how
    many rows' modality has no concept, or whose date is NO_DATE.
    """

    image_occurrence: pa.Table
    provenance: pa.Table
    series: pa.Table
    procedures: pa.Table
    rows: pa.Table
    without_concept: int
    without_date: int


def certain_series(images: Mapping[str, Sequence[pa.Table]]) -> tuple[pa.Table, int]:
    """
    Return all series with their `cohort_id` (SERIES_SCHEMA and that), and how many were left out.

    images: by cohort ID, one table a bundle. A series that came twice for a person counts once;
    series and studies that two persons claim are left out. Raises PackageRefused for other rows.
    """
    tables = [
        checked_rows(table).append_column("cohort_id", pa.array([one] * table.num_rows, _TEXT))
        for one, several in sorted(images.items())
        for table in several
    ]
    empty = SERIES_SCHEMA.append(pa.field("cohort_id", _TEXT)).empty_table()
    together = pa.concat_tables([empty, *tables])
    at = pa.array(range(together.num_rows), pa.int64())
    keys = ["cohort_id", "study_uid", "series_uid"]
    first = together.append_column("at", at).group_by(keys).aggregate([("at", "min")])
    certain = once = together.take(first["at_min"])
    for uid in ("study_uid", "series_uid"):
        owners = certain.group_by(uid).aggregate([("cohort_id", "count_distinct")])
        alone = owners.filter(pc.equal(owners["cohort_id_count_distinct"], 1))[uid]
        certain = certain.filter(pc.is_in(certain[uid], value_set=alone.combine_chunks()))
    return certain, once.num_rows - certain.num_rows


_TEXT = pa.string()


def image_tables(
    series: pa.Table,
    persons: Mapping[str, int],
    concepts: Concepts,
    *,
    base: int,
    procedures: int,
    mirror_root: str | None = None,
) -> ImageTables:
    """
    Make the MI-CDM tables of the persons to deliver.

    series: as `certain_series` returns it. persons: new person_id by cohort ID; series of other
    cohort IDs are not used. base: ids count from base + 1. procedures: how many real
    procedure_occurrence rows are delivered, whose ids precede the synthetic ones. mirror_root:
    where the enclave's own copies lie; then local_path is mirror_root/study UID/series UID.
    """
    wanted = series.filter(pc.is_in(series["cohort_id"], value_set=pa.array(list(persons), _TEXT)))
    numbers = pa.array([persons[one] for one in wanted["cohort_id"].to_pylist()], pa.int32())
    certain = wanted.append_column("person_id", numbers)
    dates = pc.fill_null(certain["study_date"], pa.scalar(NO_DATE, pa.date32()))
    certain = certain.append_column("image_date", dates)
    order = [(name, "ascending") for name in ("person_id", "image_date", "study_uid", "series_uid")]
    certain = certain.sort_by(order)
    count = certain.num_rows
    ids = pa.array(range(base + 1, base + 1 + count), pa.int32())
    numbered, studies = _procedures(certain, first=base + 1 + procedures)
    modality = _looked_up(certain["modality"], concepts.modality)
    occurrences = {
        "image_occurrence_id": ids,
        "person_id": certain["person_id"],
        "procedure_occurrence_id": numbered,
        "visit_occurrence_id": pa.nulls(count, pa.int32()),
        "anatomic_site_concept_id": _looked_up(certain["body_part"], concepts.anatomic_site),
        "wadors_uri": certain["wadors_uri"],
        "local_path": _local_path(certain, mirror_root),
        "image_occurrence_date": certain["image_date"],
        "image_study_uid": certain["study_uid"],
        "image_series_uid": certain["series_uid"],
        "modality_concept_id": pc.fill_null(modality, 0),
    }
    frames = certain["date_frame"].to_pylist()
    provenance = {
        "image_occurrence_id": ids,
        "procedure_occurrence_id": numbered,
        "procedure_rule": pa.array(["synthetic"] * count, pa.string()),
        "date_frame": certain["date_frame"],
        "date_confidence": pa.array([CONFIDENCE[frame] for frame in frames], pa.string()),
    }
    return ImageTables(
        image_occurrence=pa.table(occurrences).cast(IMAGE_OCCURRENCE),
        provenance=pa.table(provenance).cast(PROVENANCE),
        series=certain.select(DESCRIBED).add_column(0, SERIES.field(0), ids).cast(SERIES),
        procedures=studies,
        rows=certain.select(["person_id", *SERIES_SCHEMA.names]),
        without_concept=modality.null_count,
        without_date=frames.count("absent"),
    )


def _procedures(certain: pa.Table, *, first: int) -> tuple[pa.Array, pa.Table]:
    """Return the procedure id of every series, and one synthetic procedure a study."""
    encoded = certain["study_uid"].combine_chunks().dictionary_encode()
    numbers = pc.add(encoded.indices.cast(pa.int32()), first)
    schema = cdm.BY_NAME["procedure_occurrence"].schema()
    studies = (
        pa.table(
            {
                "procedure_occurrence_id": numbers,
                "person_id": certain["person_id"],
                "procedure_date": certain["image_date"],
            }
        )
        .group_by("procedure_occurrence_id")
        .aggregate([("person_id", "min"), ("procedure_date", "min")])
        .sort_by("procedure_occurrence_id")
    )
    count = studies.num_rows
    made = {field.name: pa.nulls(count, field.type) for field in schema}
    zeros = pa.array([0] * count, pa.int32())
    made |= {
        "procedure_occurrence_id": studies["procedure_occurrence_id"],
        "person_id": studies["person_id_min"],
        "procedure_date": studies["procedure_date_min"],
        "procedure_concept_id": zeros,
        "procedure_type_concept_id": zeros,
        "procedure_source_value": pa.array([SYNTHETIC] * count, pa.string()),
    }
    return numbers, pa.table(made).cast(schema)


def _looked_up(codes: pa.ChunkedArray, concepts: Mapping[str, int]) -> pa.Array:
    known = {code.upper(): concept for code, concept in concepts.items()}
    found = [known.get(code.upper()) if code else None for code in codes.to_pylist()]
    return pa.array(found, pa.int32())


def _local_path(certain: pa.Table, mirror_root: str | None) -> pa.Array:
    if mirror_root is None:
        return pa.nulls(certain.num_rows, pa.string())
    root = mirror_root.rstrip("/")
    return pc.binary_join_element_wise(root, certain["study_uid"], certain["series_uid"], "/")
