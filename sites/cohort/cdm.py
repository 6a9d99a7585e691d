"""
The tables of the OMOP Common Data Model 5.4 that a cohort delivers, and those it reads.

Source: OHDSI CommonDataModel, CDM v5.4 field level specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Kind = Literal["id", "concept", "integer", "number", "date", "datetime", "text"]

_KINDS: Mapping[str, Kind] = {
    "i": "id",
    "c": "concept",
    "k": "integer",
    "n": "number",
    "d": "date",
    "t": "datetime",
    "s": "text",
}
ARROW_TYPES: Mapping[Kind, pa.DataType] = {
    "id": pa.int32(),
    "concept": pa.int32(),
    "integer": pa.int32(),
    "number": pa.float64(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "text": pa.string(),
}
"""What is delivered. CDM's `integer` has 32 bits; sources with wider ids are read as 64."""


@dataclass(frozen=True, slots=True)
class Column:
    """One CDM column. required: the CDM allows no null there."""

    name: str
    kind: Kind
    required: bool


@dataclass(frozen=True, slots=True)
class Table:
    """One CDM table. key: its primary key, None where it has none of its own (death)."""

    name: str
    key: str | None
    columns: tuple[Column, ...]

    @property
    def start(self) -> str | None:
        """The column that dates a row: the first required date."""
        return next((c.name for c in self.columns if c.kind == "date" and c.required), None)

    def of_kind(self, kind: Kind) -> Iterator[str]:
        """Yield the names of the columns of one kind."""
        return (column.name for column in self.columns if column.kind == kind)

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of a delivery; required columns are not nullable."""
        return pa.schema(
            pa.field(c.name, ARROW_TYPES[c.kind], nullable=not c.required) for c in self.columns
        )


def _table(name: str, key: str | None, columns: str) -> Table:
    """Read `column:kind` words; a `!` after the kind means required."""
    made = []
    for word in columns.split():
        column, _, kind = word.partition(":")
        made.append(Column(column, _KINDS[kind[0]], kind.endswith("!")))
    return Table(name, key, tuple(made))


_EVENT_ENDS = "provider_id:i visit_occurrence_id:i visit_detail_id:i"

TABLES: tuple[Table, ...] = (
    _table(
        "person",
        "person_id",
        "person_id:i! gender_concept_id:c! year_of_birth:k! month_of_birth:k day_of_birth:k "
        "birth_datetime:t race_concept_id:c! ethnicity_concept_id:c! location_id:i provider_id:i "
        "care_site_id:i person_source_value:s gender_source_value:s gender_source_concept_id:c "
        "race_source_value:s race_source_concept_id:c ethnicity_source_value:s "
        "ethnicity_source_concept_id:c",
    ),
    _table(
        "observation_period",
        "observation_period_id",
        "observation_period_id:i! person_id:i! observation_period_start_date:d! "
        "observation_period_end_date:d! period_type_concept_id:c!",
    ),
    _table(
        "visit_occurrence",
        "visit_occurrence_id",
        "visit_occurrence_id:i! person_id:i! visit_concept_id:c! visit_start_date:d! "
        "visit_start_datetime:t visit_end_date:d! visit_end_datetime:t visit_type_concept_id:c! "
        "provider_id:i care_site_id:i visit_source_value:s visit_source_concept_id:c "
        "admitted_from_concept_id:c admitted_from_source_value:s discharged_to_concept_id:c "
        "discharged_to_source_value:s preceding_visit_occurrence_id:i",
    ),
    _table(
        "condition_occurrence",
        "condition_occurrence_id",
        "condition_occurrence_id:i! person_id:i! condition_concept_id:c! condition_start_date:d! "
        "condition_start_datetime:t condition_end_date:d condition_end_datetime:t "
        "condition_type_concept_id:c! condition_status_concept_id:c stop_reason:s "
        f"{_EVENT_ENDS} condition_source_value:s condition_source_concept_id:c "
        "condition_status_source_value:s",
    ),
    _table(
        "procedure_occurrence",
        "procedure_occurrence_id",
        "procedure_occurrence_id:i! person_id:i! procedure_concept_id:c! procedure_date:d! "
        "procedure_datetime:t procedure_end_date:d procedure_end_datetime:t "
        "procedure_type_concept_id:c! modifier_concept_id:c quantity:k "
        f"{_EVENT_ENDS} procedure_source_value:s procedure_source_concept_id:c "
        "modifier_source_value:s",
    ),
    _table(
        "drug_exposure",
        "drug_exposure_id",
        "drug_exposure_id:i! person_id:i! drug_concept_id:c! drug_exposure_start_date:d! "
        "drug_exposure_start_datetime:t drug_exposure_end_date:d! drug_exposure_end_datetime:t "
        "verbatim_end_date:d drug_type_concept_id:c! stop_reason:s refills:k quantity:n "
        f"days_supply:k sig:s route_concept_id:c lot_number:s {_EVENT_ENDS} drug_source_value:s "
        "drug_source_concept_id:c route_source_value:s dose_unit_source_value:s",
    ),
    _table(
        "measurement",
        "measurement_id",
        "measurement_id:i! person_id:i! measurement_concept_id:c! measurement_date:d! "
        "measurement_datetime:t measurement_time:s measurement_type_concept_id:c! "
        "operator_concept_id:c value_as_number:n value_as_concept_id:c unit_concept_id:c "
        f"range_low:n range_high:n {_EVENT_ENDS} measurement_source_value:s "
        "measurement_source_concept_id:c unit_source_value:s unit_source_concept_id:c "
        "value_source_value:s measurement_event_id:i meas_event_field_concept_id:c",
    ),
    _table(
        "observation",
        "observation_id",
        "observation_id:i! person_id:i! observation_concept_id:c! observation_date:d! "
        "observation_datetime:t observation_type_concept_id:c! value_as_number:n "
        "value_as_string:s value_as_concept_id:c qualifier_concept_id:c unit_concept_id:c "
        f"{_EVENT_ENDS} observation_source_value:s observation_source_concept_id:c "
        "unit_source_value:s qualifier_source_value:s value_source_value:s "
        "observation_event_id:i obs_event_field_concept_id:c",
    ),
    _table(
        "death",
        None,
        "person_id:i! death_date:d! death_datetime:t death_type_concept_id:c cause_concept_id:c "
        "cause_source_value:s cause_source_concept_id:c",
    ),
)
"""The tables of the cohort's persons, in the order of delivery; person first."""

CONCEPT_ANCESTOR = _table(
    "concept_ancestor",
    None,
    "ancestor_concept_id:c! descendant_concept_id:c! min_levels_of_separation:k "
    "max_levels_of_separation:k",
)
CONCEPT = _table(
    "concept",
    None,
    "concept_id:c! concept_name:s domain_id:s vocabulary_id:s concept_class_id:s "
    "standard_concept:s concept_code:s invalid_reason:s",
)
COHORT = _table(
    "cohort",
    None,
    "cohort_definition_id:i! subject_id:i! cohort_start_date:d! cohort_end_date:d!",
)
BY_NAME: Mapping[str, Table] = {
    table.name: table for table in (*TABLES, CONCEPT_ANCESTOR, CONCEPT, COHORT)
}

RENAMED: Mapping[str, str] = {
    "admitting_source_concept_id": "admitted_from_concept_id",
    "admitting_source_value": "admitted_from_source_value",
    "discharge_to_concept_id": "discharged_to_concept_id",
    "discharge_to_source_value": "discharged_to_source_value",
}
"""CDM 5.3 column names and what 5.4 calls them (all of visit_occurrence)."""

DOMAINS: Mapping[str, tuple[str, str, str]] = {
    "condition": ("condition_occurrence", "condition_concept_id", "condition_start_date"),
    "procedure": ("procedure_occurrence", "procedure_concept_id", "procedure_date"),
    "drug": ("drug_exposure", "drug_concept_id", "drug_exposure_start_date"),
    "measurement": ("measurement", "measurement_concept_id", "measurement_date"),
    "observation": ("observation", "observation_concept_id", "observation_date"),
    "visit": ("visit_occurrence", "visit_concept_id", "visit_start_date"),
    "death": ("death", "cause_concept_id", "death_date"),
}
"""By domain of a cohort specification: table, concept column, date column."""

FEMALE, MALE = 8532, 8507
"""gender_concept_id, OMOP vocabulary Gender."""
