"""
When index events happened, by the enclave's own records: rule 2b of sites.cohort.dates.

    index_dates(source, {person_id: unit}, {"COVID-19 Test"})     {event: {unit: date}}
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from linkage.cohort.spec_clinical import ConceptCriterion
from sites.cohort.calendar import Calendar, place
from sites.cohort.clinical import matching_records
from sites.cohort.dates import require_comparable
from sites.cohort.omop import OmopSource
from sites.cohort.received import OWNER, Received
from sites.cohort.tables import no_values_in_errors


def mapped_events(source: OmopSource) -> Mapping[str, ConceptCriterion]:
    """Return, by name of an index event, the concept criterion that says which records it is."""
    return source.config.index_events


def omop_frame(source: OmopSource) -> str:
    """Return what the enclave's own dates are: "true", "shifted" or "unknown"."""
    return source.config.date_frame


def index_dates(
    source: OmopSource, among: Mapping[int, str], events: Collection[str]
) -> dict[str, dict[str, dt.date]]:
    """
    Return, by event and by unit, the date of the unit's first record of the event.

    among: unit by person_id. Events that [omop.index_events] does not name are left out. Raises
    SourceRefused where the source lacks the table or the vocabulary.
    """
    mapped = mapped_events(source)
    people = source.person_rows(
        {
            "person_id": pa.array(list(among), pa.int64()),
            "unit": pa.array(list(among.values()), pa.string()),
        }
    )
    found = {}
    for event in sorted(set(events) & set(mapped)):
        with no_values_in_errors("index_events"):
            records = matching_records(mapped[event], source).inner_join(people, "person_id")
            first = records.group_by("unit").agg(day=records.day.min()).to_pyarrow()
        pairs = zip(first["unit"].to_pylist(), first["day"].to_pylist(), strict=True)
        found[event] = {unit: day for unit, day in pairs if day is not None}
    return found


def calendar_of(source: OmopSource, units: Mapping[int, str], came: Received) -> Calendar:
    """Return how imaging dates fall in the enclave's calendar."""
    events = set(pc.unique(came.series["index_event"]).to_pylist()) - {None}
    return Calendar(omop_frame(source), index_dates(source, units, events) if events else {})


def study_dates(
    came: Received, calendar: Calendar, source: OmopSource
) -> dict[str, tuple[dt.date, ...]]:
    """
    Return the days of the fitting studies by cohort ID, for criteria that count from them.

    Raises SourceRefused where the imaging dates cannot be compared with the enclave's.
    """
    kinds = came.series.group_by(["date_frame", "index_event"]).aggregate([]).to_pylist()
    for kind in kinds:
        if kind["date_frame"] != "absent":
            require_comparable(
                kind["date_frame"],
                kind["index_event"],
                omop_frame=calendar.omop_frame,
                mapped=mapped_events(source),
            )
    placed = place(came.series, calendar, date="study_date", day="study_day")
    days = pa.table({OWNER: came.series[OWNER], "day": placed.date}).filter(placed.comparable)
    listed = days.group_by([OWNER, "day"]).aggregate([]).sort_by("day")
    found: dict[str, list[dt.date]] = {}
    for owner, day in zip(listed[OWNER].to_pylist(), listed["day"].to_pylist(), strict=True):
        found.setdefault(owner, []).append(day)
    return {owner: tuple(its) for owner, its in found.items()}
