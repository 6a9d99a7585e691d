"""
Columns of the tables that a delivery has beyond the CDM tables of the source.

MI-CDM: Park et al. 2024, doi:10.1007/s10278-024-00982-6, DDL of OHDSI's imaging group. episode,
episode_event, cohort_definition: CDM 5.4. Side tables are this project's own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from sites.cohort.bundle import EVENTS_SCHEMA, FILES_SCHEMA, SERIES_SCHEMA

NO_DATE = dt.date(1900, 1, 1)
"""Stands for a missing image date, because MI-CDM allows no null there."""

_KINDS = {
    "i": pa.int32(),
    "d": pa.date32(),
    "t": pa.timestamp("us"),
    "s": pa.string(),
    "n": pa.float64(),
    "b": pa.bool_(),
}


def _schema(columns: str) -> pa.Schema:
    """Return the schema of "name:kind" columns; "!" after the kind: required."""
    fields = []
    for column in columns.split():
        name, _, kind = column.partition(":")
        fields.append(pa.field(name, _KINDS[kind[0]], nullable=not kind.endswith("!")))
    return pa.schema(fields)


IMAGE_OCCURRENCE = _schema(
    "image_occurrence_id:i! person_id:i! procedure_occurrence_id:i! visit_occurrence_id:i "
    "anatomic_site_concept_id:i wadors_uri:s local_path:s image_occurrence_date:d! "
    "image_study_uid:s! image_series_uid:s! modality_concept_id:i!"
)
IMAGE_FEATURE = _schema(
    "image_feature_id:i! person_id:i! image_occurrence_id:i! "
    "image_feature_event_field_concept_id:i image_feature_event_id:i image_feature_concept_id:i! "
    "image_feature_type_concept_id:i! image_finding_concept_id:i image_finding_id:i "
    "anatomic_site_concept_id:i alg_system:s alg_datetime:t"
)
EPISODE = _schema(
    "episode_id:i! person_id:i! episode_concept_id:i! episode_start_date:d! "
    "episode_start_datetime:t episode_end_date:d episode_end_datetime:t episode_parent_id:i "
    "episode_number:i episode_object_concept_id:i! episode_type_concept_id:i! "
    "episode_source_value:s episode_source_concept_id:i"
)
EPISODE_EVENT = _schema("episode_id:i! event_id:i! episode_event_field_concept_id:i!")
COHORT_DEFINITION = _schema(
    "cohort_definition_id:i! cohort_definition_name:s! cohort_definition_description:s "
    "definition_type_concept_id:i! cohort_definition_syntax:s subject_concept_id:i! "
    "cohort_initiation_date:d"
)

PROVENANCE = _schema(
    "image_occurrence_id:i! procedure_occurrence_id:i! procedure_rule:s! procedure_confidence:s! "
    "date_frame:s! date_confidence:s! comparable:b! study_day:i index_event:s"
)
"""
procedure_rule: "synthetic", or by which rule the enclave's own procedure was found (procedures.py).
date_confidence: one of dates.CONFIDENCE. comparable: the date may be set beside clinical dates.
"""
FEATURE_PROVENANCE = _schema(
    "image_feature_id:i! source:s! feature:s feature_code:s finding:s finding_code:s unit:s "
    "anatomic_site:s algorithm:s algorithm_version:s attached_to:s! date_confidence:s!"
)
"""attached_to: "series", or "study" where the feature names no series of the delivery."""

DESCRIBED = (
    *("modality", "collection", "body_part", "anatomic_site", "contrast", "manufacturer"),
    *("manufacturer_model", "study_description", "series_description", "slice_thickness", "kvp"),
    *("tube_current", "exposure_time", "pixel_spacing", "repetition_time", "echo_time"),
    *("magnetic_field_strength", "instances", "size_bytes", "subject_sex", "subject_age"),
)
"""Columns of SERIES_SCHEMA that MI-CDM has no place for, or another one."""

SERIES = pa.schema(
    [PROVENANCE.field("image_occurrence_id"), *(SERIES_SCHEMA.field(name) for name in DESCRIBED)]
)
"""The side table image_series: image_occurrence_id and DESCRIBED."""

COMMONS_EVENT = pa.schema(
    [
        *_schema("commons_event_id:i! person_id:i!"),
        *EVENTS_SCHEMA,
        *_schema(
            "date_confidence:s! comparable:b! omop_table:s measurement_id:i observation_id:i "
            "condition_occurrence_id:i drug_exposure_id:i procedure_occurrence_id:i "
            "visit_occurrence_id:i not_in_omop:s"
        ),
    ]
)
"""
Clinical events that the imaging commons itself holds, as they came. One of the ids says which row
of an OMOP table the event is, or not_in_omop why it is none.
"""
IMAGE_FILE = pa.schema(
    [
        *_schema("image_file_id:i! person_id:i! image_occurrence_id:i"),
        *FILES_SCHEMA,
    ]
)
"""Files that come with the images; image_occurrence_id: null where they are of no series here."""

COHORT_PERSON = _schema("cohort_id:s! person_id:i!")
"""Which cohort ID a delivered person is: the way back to the release, for audit."""


def filled(schema: pa.Schema, columns: Mapping[str, Any], count: int) -> pa.Table:
    """Return a table of `schema`: `columns` where given, elsewhere nulls; `count` rows."""
    made = {
        field.name: columns.get(field.name, pa.nulls(count, field.type))
        if field.name in columns
        else pa.nulls(count, field.type)
        for field in schema
    }
    return pa.table(made).cast(schema)
