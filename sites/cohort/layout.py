"""
The tables of a delivered folder: columns, keys, what refers to what, and what a null means.

    for table in TABLES: table.path, table.schema, table.key, table.links, table.nulls

One list serves the check of a delivery, its DuckDB file and its data dictionary. Every id column
is the key, a link, or always null with a reason; a link that may be null has a reason, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from sites.cohort import cdm
from sites.cohort import mi_cdm_tables as mi
from sites.cohort.commons_events import NODES
from sites.cohort.features import (
    MEASUREMENT_ID,
    MEASUREMENT_TABLE,
    OBSERVATION_ID,
    OBSERVATION_TABLE,
)

OMOP_FOLDER = "omop"
SIDE_FOLDER = "side"


@dataclass(frozen=True, slots=True)
class Link:
    """Values of `column` are keys of `table`; `where`: only in rows whose column has that value."""

    column: str
    table: str
    key: str
    where: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredTable:
    """
    path: in the folder, without suffix. key: columns that together occur once; () if it has none.
    nulls: by id column, what a null there means. about: for the data dictionary.
    """

    path: str
    schema: pa.Schema
    about: str
    key: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    nulls: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The table's name; unique in a delivery."""
        return self.path.rpartition("/")[2]

    def ids(self) -> list[str]:
        """The columns that hold ids of rows; concepts and definitions are none."""
        numbers = [f.name for f in self.schema if pa.types.is_integer(f.type)]
        return [n for n in numbers if n.endswith("_id") and not n.endswith("_concept_id")]


_NOT_DELIVERED = "not delivered: it tells of the place of care, or is a link that is not kept"
_NO_VISIT = "the record names no visit, or one that is not delivered"
_ALWAYS_NULL = frozenset(
    "provider_id care_site_id location_id visit_detail_id measurement_event_id "
    "observation_event_id".split()
)


def _omop(name: str) -> str:
    return f"{OMOP_FOLDER}/{name}"


_PERSON = Link("person_id", _omop("person"), "person_id")
_IMAGE = Link("image_occurrence_id", _omop("image_occurrence"), "image_occurrence_id")
_PROCEDURE = Link(
    "procedure_occurrence_id", _omop("procedure_occurrence"), "procedure_occurrence_id"
)


def _cdm_table(table: cdm.Table) -> DeliveredTable:
    links, nulls = [], {}
    for name in table.of_kind("id"):
        if name == table.key:
            continue
        if name == "person_id":
            links.append(_PERSON)
        elif name in _ALWAYS_NULL:
            nulls[name] = _NOT_DELIVERED
        else:
            links.append(Link(name, _omop("visit_occurrence"), "visit_occurrence_id"))
            nulls[name] = _NO_VISIT
    return DeliveredTable(
        path=_omop(table.name),
        schema=table.schema(),
        key=(table.key,) if table.key else (),
        links=tuple(links),
        nulls=nulls,
        about=f"OMOP CDM 5.4 {table.name} of the cohort's persons",
    )


_FIELD = "image_feature_event_field_concept_id"
_FEATURE_VALUES = tuple(
    Link("image_feature_event_id", _omop(table), f"{table}_id", (_FIELD, concept))
    for table, concept in (("measurement", MEASUREMENT_TABLE), ("observation", OBSERVATION_TABLE))
)
_EPISODE_VALUES = tuple(
    Link("event_id", _omop(table), f"{table}_id", ("episode_event_field_concept_id", concept))
    for table, concept in (("measurement", MEASUREMENT_ID), ("observation", OBSERVATION_ID))
)

TABLES: tuple[DeliveredTable, ...] = (
    *(_cdm_table(table) for table in cdm.TABLES),
    DeliveredTable(
        path=_omop("cohort"),
        schema=cdm.COHORT.schema(),
        key=("cohort_definition_id", "subject_id"),
        links=(
            Link("subject_id", _omop("person"), "person_id"),
            Link("cohort_definition_id", _omop("cohort_definition"), "cohort_definition_id"),
        ),
        about="who is in the cohort, from the index date to the end of observation",
    ),
    DeliveredTable(
        path=_omop("cohort_definition"),
        schema=mi.COHORT_DEFINITION,
        key=("cohort_definition_id",),
        about="what was asked, in words, and its specification hash",
    ),
    DeliveredTable(
        path=_omop("episode"),
        schema=mi.EPISODE,
        key=("episode_id",),
        links=(_PERSON,),
        nulls={"episode_parent_id": "episodes of findings have no parent"},
        about="a finding followed over time, one row each",
    ),
    DeliveredTable(
        path=_omop("episode_event"),
        schema=mi.EPISODE_EVENT,
        key=("episode_id", "event_id", "episode_event_field_concept_id"),
        links=(Link("episode_id", _omop("episode"), "episode_id"), *_EPISODE_VALUES),
        about="the measurements and observations of a finding",
    ),
    DeliveredTable(
        path=_omop("image_occurrence"),
        schema=mi.IMAGE_OCCURRENCE,
        key=("image_occurrence_id",),
        links=(
            _PERSON,
            _PROCEDURE,
            Link("visit_occurrence_id", _omop("visit_occurrence"), "visit_occurrence_id"),
        ),
        nulls={"visit_occurrence_id": "the procedure is synthetic, or has no visit"},
        about="MI-CDM: one row a DICOM series",
    ),
    DeliveredTable(
        path=_omop("image_feature"),
        schema=mi.IMAGE_FEATURE,
        key=("image_feature_id",),
        links=(
            _PERSON,
            _IMAGE,
            *_FEATURE_VALUES,
            Link("image_finding_id", _omop("episode"), "episode_id"),
        ),
        nulls={"image_finding_id": "the finding is not followed over time"},
        about="MI-CDM: one row a measurement, finding or acquisition parameter of an image",
    ),
    DeliveredTable(
        path=f"{SIDE_FOLDER}/image_occurrence_provenance",
        schema=mi.PROVENANCE,
        key=("image_occurrence_id",),
        links=(_IMAGE, _PROCEDURE),
        about="by which rule an image has its date and procedure, and what these are good for",
    ),
    DeliveredTable(
        path=f"{SIDE_FOLDER}/image_series",
        schema=mi.SERIES,
        key=("image_occurrence_id",),
        links=(_IMAGE,),
        about="what the imaging commons says of a series and MI-CDM has no column for",
    ),
    DeliveredTable(
        path=f"{SIDE_FOLDER}/image_feature_provenance",
        schema=mi.FEATURE_PROVENANCE,
        key=("image_feature_id",),
        links=(Link("image_feature_id", _omop("image_feature"), "image_feature_id"),),
        about="where a feature was read, how the commons names it, what its date is good for",
    ),
    DeliveredTable(
        path=f"{SIDE_FOLDER}/commons_event",
        schema=mi.COMMONS_EVENT,
        key=("commons_event_id",),
        links=(
            _PERSON,
            *(Link(f"{table}_id", _omop(table), f"{table}_id") for table in NODES.values()),
        ),
        nulls={
            f"{table}_id": "the event is in another table, or see not_in_omop"
            for table in NODES.values()
        },
        about="clinical events that the imaging commons itself holds, as they came",
    ),
    DeliveredTable(
        path=f"{SIDE_FOLDER}/image_file",
        schema=mi.IMAGE_FILE,
        key=("image_file_id",),
        links=(_PERSON, _IMAGE),
        nulls={"image_occurrence_id": "the file is of no series of the delivery"},
        about="files beside the images: annotations, DICOM SR and SEG, radiology reports",
    ),
    DeliveredTable(
        path=f"{SIDE_FOLDER}/cohort_person",
        schema=mi.COHORT_PERSON,
        key=("person_id",),
        links=(_PERSON,),
        about="which cohort ID a person is: the way back to the release, for audit",
    ),
)
"""Every Parquet table of a delivery."""

BY_PATH: Mapping[str, DeliveredTable] = {table.path: table for table in TABLES}


def expected_tables() -> dict[str, pa.Schema]:
    """Return, by path in the folder, the schema of every Parquet table of a delivery."""
    return {table.path: table.schema for table in TABLES}
