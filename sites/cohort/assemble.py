"""
All tables of a delivery, in memory: the enclave's rows and the imaging commons', joined by person.

    made = assemble(chosen, came, calendar, source, ...)
    made.tables["omop/measurement"]       of layout.TABLES, each by its path

The enclave's own rows come first in every table; rows made of imaging data follow, so that ids of
the former do not depend on the latter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sites.cohort import cdm
from sites.cohort import mi_cdm_tables as mi
from sites.cohort.calendar import Calendar
from sites.cohort.codes import Codebook
from sites.cohort.commons_events import EventTables, event_tables
from sites.cohort.delivered import Deliverer, Numbering, TableFacts
from sites.cohort.features import FeatureTables, First, feature_tables
from sites.cohort.layout import OMOP_FOLDER, SIDE_FOLDER
from sites.cohort.mi_cdm import ImageTables, image_tables
from sites.cohort.omop import OmopSource
from sites.cohort.received import OWNER, Received

COHORT_DEFINITION_ID = 1
"""A delivery holds one cohort; which one says cohort_definition."""

PERSON_TABLE = 1147314
"""
subject_concept_id: the concept of the CDM table person. OMOP vocabulary CDM, which numbers tables
and columns; found so in public fact_relationship code (1147333 is condition_occurrence there).
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assembled:
    """tables: by path, of layout.TABLES. facts: by name, of the tables that have persons."""

    tables: dict[str, pa.Table]
    facts: dict[str, TableFacts]
    images: ImageTables
    features: FeatureTables
    events: EventTables


def assemble(
    *,
    persons: Mapping[int, str],
    described: pa.Table,
    numbering: Numbering,
    came: Received,
    calendar: Calendar,
    book: Codebook,
    source: OmopSource,
    minimum_cell: int,
    mirror_root: str | None,
    hide_addresses: bool,
    definition: Mapping[str, str],
    made_on: dt.date,
) -> Assembled:
    """
    Make the tables of the persons to deliver.

    persons: cohort ID by person_id of the source. described: ClinicalResult.persons of them.
    came: of these persons. hide_addresses: side/image_file names no address, because fetching just
    these files would tell who matched. definition: name, description, syntax of the cohort.
    """
    own, facts = Deliverer(source, persons, numbering, minimum_cell=minimum_cell).all_tables()
    images = image_tables(
        came.series,
        numbering.persons,
        book,
        base=numbering.base,
        procedures=own["procedure_occurrence"],
        calendar=calendar,
        source=source,
        mirror_root=mirror_root,
    )
    omop = {**own, "procedure_occurrence": _more(own["procedure_occurrence"], images.procedures)}
    events = event_tables(
        came.events,
        numbering.persons,
        came.series,
        book,
        calendar,
        {name: numbering.base + 1 + table.num_rows for name, table in omop.items()},
        numbering.base + 1,
    )
    omop |= {name: _more(omop[name], rows) for name, rows in events.omop.items()}
    first = numbering.base + 1
    features = feature_tables(
        images.rows,
        came.features,
        book,
        First(
            image_feature=first,
            measurement=first + omop["measurement"].num_rows,
            observation=first + omop["observation"].num_rows,
            episode=first,
        ),
        calendar,
    )
    omop["measurement"] = _more(omop["measurement"], features.measurement)
    omop["observation"] = _more(omop["observation"], features.observation)
    omop |= {
        "cohort": _cohort_table(described, numbering, own["observation_period"]),
        "cohort_definition": _definition(definition, made_on),
        "image_occurrence": images.image_occurrence,
        "image_feature": features.image_feature,
        "episode": features.episode,
        "episode_event": features.episode_event,
    }
    side = {
        "image_occurrence_provenance": images.provenance,
        "image_series": images.series,
        "image_feature_provenance": features.provenance,
        "commons_event": events.events,
        "image_file": _files(came.files, images.rows, numbering, hide_addresses),
        "cohort_person": _cohort_person(numbering),
    }
    tables = {f"{OMOP_FOLDER}/{name}": table for name, table in omop.items()}
    tables |= {f"{SIDE_FOLDER}/{name}": table for name, table in side.items()}
    return Assembled(
        tables=tables,
        facts=_facts({**omop, **side}, facts),
        images=images,
        features=features,
        events=events,
    )


_PERSONS_OF = {
    "episode_event": "episode",
    "image_occurrence_provenance": "image_occurrence",
    "image_series": "image_occurrence",
    "image_feature_provenance": "image_feature",
}
"""Tables without person_id, and the table that has the persons of their rows."""


def _facts(tables: Mapping[str, pa.Table], own: Mapping[str, TableFacts]) -> dict[str, TableFacts]:
    """
    Return rows and persons of every table that has persons, as it is delivered.

    The report hides how many rows a table has where too few persons have any.
    """
    found = {}
    for name, table in tables.items():
        people = tables[_PERSONS_OF.get(name, name)]
        column = next((c for c in ("person_id", "subject_id") if c in people.column_names), None)
        if column is not None:
            before = own.get(name, TableFacts(rows=0, persons=0))
            persons = len(pc.unique(people[column]))
            found[name] = replace(before, rows=table.num_rows, persons=persons)
    return found


def _more(own: pa.Table, rows: pa.Table) -> pa.Table:
    return pa.concat_tables([own, rows]) if rows.num_rows else own


def _definition(definition: Mapping[str, str], made_on: dt.date) -> pa.Table:
    row = {
        "cohort_definition_id": COHORT_DEFINITION_ID,
        "cohort_definition_name": definition["name"],
        "cohort_definition_description": definition["description"],
        "definition_type_concept_id": 0,
        "cohort_definition_syntax": definition["syntax"],
        "subject_concept_id": PERSON_TABLE,
        "cohort_initiation_date": made_on,
    }
    return pa.Table.from_pylist([row], schema=mi.COHORT_DEFINITION)


def _cohort_person(numbering: Numbering) -> pa.Table:
    by_number = sorted(numbering.persons.items(), key=lambda pair: pair[1])
    columns = {
        "cohort_id": pa.array([cohort_id for cohort_id, _ in by_number], pa.string()),
        "person_id": pa.array([number for _, number in by_number], pa.int32()),
    }
    return pa.table(columns).cast(mi.COHORT_PERSON)


_ADDRESSES = ("object_id", "file_name", "md5sum", "reference")


def _files(files: pa.Table, rows: pa.Table, numbering: Numbering, hide: bool) -> pa.Table:
    """Return side/image_file: files that came, beside the series that they name."""
    persons = pa.table(
        {
            OWNER: pa.array(list(numbering.persons), pa.string()),
            "person_id": pa.array(numbering.persons.values(), pa.int32()),
        }
    )
    of_series = rows.select([OWNER, "study_uid", "series_uid", "image_occurrence_id"])
    found = files.join(persons, keys=OWNER, join_type="inner").join(
        of_series, keys=[OWNER, "study_uid", "series_uid"], join_type="left outer"
    )
    names = [n for n in mi.IMAGE_FILE.names if n in found.column_names and n != "person_id"]
    found = found.sort_by([(name, "ascending") for name in ("person_id", *names)])
    count = found.num_rows
    first = numbering.base + 1
    columns = {
        "image_file_id": pa.array(np.arange(first, first + count), pa.int32()),
        **{n: found[n] for n in ("person_id", *names) if not (hide and n in _ADDRESSES)},
    }
    return mi.filled(mi.IMAGE_FILE, columns, count)


def _cohort_table(described: pa.Table, numbering: Numbering, periods: pa.Table) -> pa.Table:
    """
    Return the OMOP cohort: from the index date to the end of the observation period it lies in.

    Without an index date the first observation period counts; a person without either is not in
    the table. An index date outside all periods ends on the same day.
    """
    numbers = pa.array(
        [numbering.persons[unit] for unit in described["unit"].to_pylist()], pa.int32()
    )
    people = pa.table({"person_id": numbers, "index": described["index_date"].cast(pa.date32())})
    spans = periods.select(
        ["person_id", "observation_period_start_date", "observation_period_end_date"]
    ).rename_columns(["person_id", "first", "last"])
    start = spans.group_by("person_id").aggregate([("first", "min")])
    people = people.join(start, keys="person_id", join_type="left outer")
    people = people.append_column("start", pc.coalesce(people["index"], people["first_min"]))
    people = people.filter(pc.is_valid(people["start"])).select(["person_id", "start"])
    both = people.join(spans, keys="person_id", join_type="inner")
    within = pc.and_(
        pc.less_equal(both["first"], both["start"]), pc.less_equal(both["start"], both["last"])
    )
    ends = both.filter(within).group_by("person_id").aggregate([("last", "max")])
    made = people.join(ends, keys="person_id", join_type="left outer").sort_by("person_id")
    columns = {
        "cohort_definition_id": pa.repeat(pa.scalar(COHORT_DEFINITION_ID), made.num_rows),
        "subject_id": made["person_id"],
        "cohort_start_date": made["start"],
        "cohort_end_date": pc.coalesce(made["last_max"], made["start"]),
    }
    return mi.filled(cdm.COHORT.schema(), columns, made.num_rows)
