"""
Where the imaging commons' dates fall in the delivery: the rule of sites.cohort.dates, on columns.

    placed = place(rows, calendar, date="study_date", day="study_day")
    placed.date, placed.confidence, placed.comparable      one entry a row

A date in frame "true" or "shifted" stays as it came. Days from an index event become dates where
the enclave knows the event's record of that person; else they count from ANCHOR, which keeps the
intervals within the person and, being absurd, is not taken for a date.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import PackageRefused
from sites.cohort.dates import CONFIDENCE, LARGEST_OFFSET
from sites.cohort.received import OWNER

ANCHOR = dt.date(1900, 1, 1)
"""Day 0 of an index event that has no record in the enclave."""

_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """
    omop_frame: what the enclave's own dates are. index_dates: by index event, by cohort ID, the
    date of the person's first record of it.
    """

    omop_frame: str = "true"
    index_dates: Mapping[str, Mapping[str, dt.date]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """
    date: date32, null where there is none. confidence: one of dates.CONFIDENCE. comparable: bool,
    whether it may be set beside the enclave's clinical dates.
    """

    date: pa.Array
    confidence: pa.Array
    comparable: pa.Array


def place(rows: pa.Table, calendar: Calendar, *, date: str, day: str) -> Placed:
    """
    Place the dates of `rows`, which has `cohort_id`, `date_frame`, `index_event` and these two.

    Raises PackageRefused for days further from the index event than a life is long.
    """
    frames = _column(rows, "date_frame")
    dates = _column(rows, date)
    indexed = _flags(pc.equal(frames, "index"))
    values = _numbers(dates.cast(pa.int32()))
    known = _flags(pc.is_valid(dates))
    mapped = np.zeros(rows.num_rows, dtype=bool)
    if indexed.any():
        days = _column(rows, day)
        offsets = _numbers(days)
        if (np.abs(offsets) > LARGEST_OFFSET).any():
            raise PackageRefused(
                "days from the index event are longer than a life",
                hint="the imaging commons must correct its days_to_* columns",
            )
        starts, mapped = _starts(rows, calendar, indexed)
        values = np.where(indexed, starts + offsets, values)
        known = np.where(indexed, _flags(pc.is_valid(days)), known)
    comparable = known & (
        (indexed & mapped) | (_flags(pc.equal(frames, "true")) & (calendar.omop_frame == "true"))
    )
    return Placed(
        date=pa.array(values.astype(np.int32), pa.int32(), mask=~known).cast(pa.date32()),
        confidence=_confidence(frames, known, indexed & ~mapped),
        comparable=pa.array(comparable),
    )


def _starts(
    rows: pa.Table, calendar: Calendar, indexed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return, by row, day 0 of its index event since 1970-01-01, and whether the enclave knows."""
    starts = np.full(rows.num_rows, (ANCHOR - _EPOCH).days, dtype=np.int64)
    mapped = np.zeros(rows.num_rows, dtype=bool)
    owners, events = _column(rows, OWNER).to_pylist(), _column(rows, "index_event").to_pylist()
    for at in np.flatnonzero(indexed):
        found = calendar.index_dates.get(events[at] or "", {}).get(owners[at])
        if found is not None:
            starts[at], mapped[at] = (found - _EPOCH).days, True
    return starts, mapped


def _confidence(frames: pa.Array, known: np.ndarray, unmapped: np.ndarray) -> pa.Array:
    names = list(CONFIDENCE)
    coded = pc.index_in(frames, value_set=pa.array(names, pa.string()))
    codes = _numbers(coded)
    codes[unmapped] = names.index("index, unmapped")
    codes[~known] = names.index("absent")
    return pa.array([CONFIDENCE[name] for name in names], pa.string()).take(pa.array(codes))


def _column(rows: pa.Table, name: str) -> pa.Array:
    return rows[name].combine_chunks()


def _flags(values: pa.Array) -> np.ndarray:
    flags: np.ndarray = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return flags.astype(bool)


def _numbers(values: pa.Array) -> np.ndarray:
    numbers: np.ndarray = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    return numbers.astype(np.int64)
