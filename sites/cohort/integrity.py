"""
Check a delivered folder before anybody sees it, and whenever somebody doubts it.

    check_delivery(folder, local_person_ids=..., local_texts=...)

1. Every table is there, with the columns, types and required values of the CDM and of MI-CDM.
2. Keys are unique.
3. Every reference resolves within the folder.
4. No local id: no id column holds a person_id of the source, no text column one of `local_texts`.
5. Every person has images, and every image a person and a cohort ID.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linkage.errors import DeliveryFaulty
from sites.cohort import cdm, mi_cdm

OMOP_FOLDER = "omop"
SIDE_FOLDER = "side"

COHORT_PERSON = pa.schema(
    [
        pa.field("cohort_id", pa.string(), nullable=False),
        pa.field("person_id", pa.int32(), nullable=False),
    ]
)
"""Which cohort ID a delivered person is: the way back to the release, for audit."""


def expected_tables() -> dict[str, pa.Schema]:
    """Return, by path in the folder, the schema of every Parquet table of a delivery."""
    return {
        **{f"{OMOP_FOLDER}/{table.name}": table.schema() for table in cdm.TABLES},
        f"{OMOP_FOLDER}/{cdm.COHORT.name}": cdm.COHORT.schema(),
        f"{OMOP_FOLDER}/image_occurrence": mi_cdm.IMAGE_OCCURRENCE,
        f"{SIDE_FOLDER}/image_occurrence_provenance": mi_cdm.PROVENANCE,
        f"{SIDE_FOLDER}/image_series": mi_cdm.SERIES,
        f"{SIDE_FOLDER}/cohort_person": COHORT_PERSON,
    }


def check_delivery(
    folder: Path,
    *,
    local_person_ids: Collection[int] = (),
    local_texts: Collection[str] = (),
) -> dict[str, int]:
    """
    Check the folder as the module says; return rows by table. Raises DeliveryFaulty.

    local_person_ids: person ids of the source. local_texts: local record ids, such as PatientIDs.
    """
    tables = {path: _read(folder, path, schema) for path, schema in expected_tables().items()}
    for path, table in tables.items():
        _check_keys(path, table)
    for path, column, target, key in _references():
        missing = pc.invert(pc.is_in(tables[path][column], value_set=_set(tables[target][key])))
        if pc.any(pc.and_(missing, pc.is_valid(tables[path][column]))).as_py():
            raise DeliveryFaulty(table=path, rule=f"{column!r} refers to no row of {target}")
    ids = pa.array(local_person_ids, pa.int64())
    texts = pa.array(local_texts, pa.string())
    for path, table in tables.items():
        _check_foreign_ids(path, table, ids, texts)
    _check_everybody_has_images(tables)
    return {path: table.num_rows for path, table in tables.items()}


def _read(folder: Path, path: str, schema: pa.Schema) -> pa.Table:
    file = folder / f"{path}.parquet"
    if not file.is_file():
        raise DeliveryFaulty(table=path, rule="is missing")
    table = pq.read_table(file)
    if not table.schema.equals(schema):
        raise DeliveryFaulty(table=path, rule="has other columns or types than it must")
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise DeliveryFaulty(table=path, rule=f"required {field.name!r} has nulls")
    return table


def _check_keys(path: str, table: pa.Table) -> None:
    name = path.rpartition("/")[2]
    key = cdm.BY_NAME[name].key if name in cdm.BY_NAME else None
    if name in ("image_occurrence", "image_occurrence_provenance", "image_series"):
        key = "image_occurrence_id"
    for column in [key] if key else [] if name != "cohort_person" else COHORT_PERSON.names:
        if len(pc.unique(table[column])) != table.num_rows:
            raise DeliveryFaulty(table=path, rule=f"key {column!r} occurs twice")


def _references() -> Iterator[tuple[str, str, str, str]]:
    """Yield table, column, and the table and key that the column refers to."""
    person, visit = f"{OMOP_FOLDER}/person", f"{OMOP_FOLDER}/visit_occurrence"
    image = f"{OMOP_FOLDER}/image_occurrence"
    for path, schema in expected_tables().items():
        if "person_id" in schema.names and path != person:
            yield path, "person_id", person, "person_id"
        for link in ("visit_occurrence_id", "preceding_visit_occurrence_id"):
            if link in schema.names and (path, link) != (visit, "visit_occurrence_id"):
                yield path, link, visit, "visit_occurrence_id"
        if "image_occurrence_id" in schema.names and path != image:
            yield path, "image_occurrence_id", image, "image_occurrence_id"
    procedure = f"{OMOP_FOLDER}/procedure_occurrence"
    for path in (image, f"{SIDE_FOLDER}/image_occurrence_provenance"):
        yield path, "procedure_occurrence_id", procedure, "procedure_occurrence_id"
    yield f"{OMOP_FOLDER}/cohort", "subject_id", person, "person_id"


def _check_foreign_ids(path: str, table: pa.Table, ids: pa.Array, texts: pa.Array) -> None:
    for field in table.schema:
        column = table[field.name]
        is_id = field.name.endswith("_id") and not field.name.endswith("_concept_id")
        if pa.types.is_string(field.type):
            forbidden, whose = texts, "record"
        elif is_id and field.name != "cohort_definition_id":
            column, forbidden, whose = column.cast(pa.int64()), ids, "person"
        else:
            continue
        if pc.any(pc.is_in(column, value_set=forbidden)).as_py():
            raise DeliveryFaulty(table=path, rule=f"{field.name!r} holds a local {whose} id")


def _check_everybody_has_images(tables: dict[str, pa.Table]) -> None:
    person = tables[f"{OMOP_FOLDER}/person"]["person_id"]
    for path in (f"{OMOP_FOLDER}/image_occurrence", f"{SIDE_FOLDER}/cohort_person"):
        others = _set(tables[path]["person_id"])
        if not pc.all(pc.is_in(person, value_set=others)).as_py() and len(person):
            raise DeliveryFaulty(table=path, rule="does not have every person of the cohort")


def _set(column: pa.ChunkedArray) -> pa.Array:
    unique: pa.Array = pc.unique(column.combine_chunks())
    return unique
