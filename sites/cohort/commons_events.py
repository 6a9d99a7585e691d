"""
Clinical events that the imaging commons itself holds: MIDRC's condition, medication, procedure,
measurement, observation and visit nodes.

    made = event_tables(events, persons, series, book, calendar, next_ids)
    made.events        side/commons_event: every event as it came
    made.omop          rows for OMOP tables, by table

Rule. Every event is in the side table. It is a row of the OMOP table of its node, too, where its
day is in the enclave's calendar (sites.cohort.dates, rule 2): OMOP tables hold dates, and a shifted
day among true ones would be wrong and look right. `not_in_omop` says why an event is not there.
The row's text is the node's name; whose it is shows commons_event, not the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sites.cohort import cdm
from sites.cohort.calendar import Calendar, place
from sites.cohort.codes import Codebook, coded, type_concept, ucum
from sites.cohort.mi_cdm_tables import COMMONS_EVENT, filled
from sites.cohort.received import OWNER

NODES: Mapping[str, str] = {
    "condition": "condition_occurrence",
    "medication": "drug_exposure",
    "procedure": "procedure_occurrence",
    "measurement": "measurement",
    "observation": "observation",
    "visit": "visit_occurrence",
}
"""The OMOP table of each node."""

NO_DAY = "it has no day"
OTHER_CALENDAR = "its day is not in the enclave's calendar"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventTables:
    """events: COMMONS_EVENT, by person. omop: by table of NODES, rows of that table."""

    events: pa.Table
    omop: dict[str, pa.Table]


def event_tables(
    events: pa.Table,
    persons: Mapping[str, int],
    series: pa.Table,
    book: Codebook,
    calendar: Calendar,
    next_ids: Mapping[str, int],
    first: int,
) -> EventTables:
    """
    Make the tables of the persons' events.

    events: EVENTS_SCHEMA and cohort_id. series: the persons' series, which name the index event.
    next_ids: by OMOP table, the id of its next row. first: the first commons_event_id.
    """
    rows = _with_event(_numbered(events, persons), series)
    start = place(rows, calendar, date="start_date", day="start_day")
    end = place(rows, calendar, date="end_date", day="end_day")
    omop, ids = {}, {}
    node = rows["node"].combine_chunks()
    for name, table in NODES.items():
        here = pc.and_(start.comparable, pc.equal(node, name))
        count = pc.sum(here).as_py() or 0
        numbers = np.full(rows.num_rows, -1, dtype=np.int64)
        flags = here.to_numpy(zero_copy_only=False)
        numbers[flags] = np.arange(next_ids[table], next_ids[table] + count)
        ids[f"{table}_id"] = pa.array(numbers, pa.int64(), mask=~flags).cast(pa.int32())
        chosen = rows.filter(here)
        last = pc.if_else(end.comparable, end.date, None).filter(here)
        omop[table] = _omop_rows(table, chosen, numbers[flags], start.date.filter(here), last, book)
    why = pc.if_else(pc.is_null(start.date), NO_DAY, OTHER_CALENDAR)
    tables = pa.array([NODES[one] for one in node.to_pylist()], pa.string())
    columns = {
        "commons_event_id": pa.array(np.arange(first, first + rows.num_rows), pa.int32()),
        **{name: rows[name] for name in COMMONS_EVENT.names if name in rows.column_names},
        "date_confidence": start.confidence,
        "comparable": start.comparable,
        "omop_table": pc.if_else(start.comparable, tables, None),
        "not_in_omop": pc.if_else(start.comparable, None, why),
        **ids,
    }
    return EventTables(events=filled(COMMONS_EVENT, columns, rows.num_rows), omop=omop)


def _numbered(events: pa.Table, persons: Mapping[str, int]) -> pa.Table:
    """Return the events with person_id, ordered by person, node, day and the rest."""
    ids = pa.array(list(persons), pa.string())
    at = pc.index_in(events[OWNER], value_set=ids)
    numbers = pa.array(persons.values(), pa.int32())
    if not len(numbers):
        numbers, at = pa.nulls(1, pa.int32()), at.filter(pc.is_valid(at))
    rows = events.append_column("person_id", numbers.take(at.combine_chunks()))
    names = ["person_id", *(name for name in events.column_names if name != OWNER)]
    return rows.sort_by([(name, "ascending") for name in names]).combine_chunks()


def _with_event(rows: pa.Table, series: pa.Table) -> pa.Table:
    """Add the index event from which the person's days count: that of the person's series."""
    named = series.filter(pc.is_valid(series["index_event"]))
    firsts = named.group_by(OWNER).aggregate([("index_event", "min")])
    at = pc.index_in(rows[OWNER], value_set=firsts[OWNER].combine_chunks())
    return rows.append_column(
        "index_event", firsts["index_event_min"].combine_chunks().take(at.combine_chunks())
    )


def _omop_rows(
    table: str, rows: pa.Table, ids: np.ndarray, start: pa.Array, end: pa.Array, book: Codebook
) -> pa.Table:
    """Return the rows of an OMOP table for events of its node."""
    count = rows.num_rows
    schema = cdm.BY_NAME[table].schema()
    prefix = {"condition_occurrence": "condition", "drug_exposure": "drug"}.get(table, "")
    prefix = prefix or table.removesuffix("_occurrence")
    standard, original = book.look_up(
        "event", coded(rows["code_system"], rows["code"]), rows["name"]
    )
    unit, _ = book.look_up("unit", ucum(rows["unit"]), rows["unit"])
    ends = pc.coalesce(end, start) if table in ("drug_exposure", "visit_occurrence") else end
    dated = "drug_exposure" if table == "drug_exposure" else prefix
    single = table in ("measurement", "observation", "procedure_occurrence")
    columns = {
        f"{table}_id": pa.array(ids, pa.int32()),
        "person_id": rows["person_id"],
        f"{prefix}_concept_id": standard,
        f"{prefix}_type_concept_id": pa.repeat(
            pa.scalar(type_concept(book.concepts, "node"), pa.int32()), count
        ),
        f"{dated}_date" if single else f"{dated}_start_date": start,
        f"{dated}_end_date": ends,
        "value_as_number": rows["value"],
        "value_as_string": rows["value_text"],
        "value_source_value": rows["value_text"],
        "unit_concept_id": pc.if_else(pc.is_valid(rows["unit"]).combine_chunks(), unit, None),
        "unit_source_value": rows["unit"],
        f"{prefix}_source_value": pc.coalesce(rows["name"], rows["code"]),
        f"{prefix}_source_concept_id": original,
    }
    return filled(schema, {k: v for k, v in columns.items() if k in schema.names}, count)
