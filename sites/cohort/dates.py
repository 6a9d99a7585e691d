"""
Dates of images: what a commons' days mean, and how the enclave may set them beside its own.

A commons states the frame of its imaging dates once, for all of its subjects:

    true      days of the calendar
    shifted   days of the calendar, moved per subject by what nobody else knows
    index     days counted from an index event of the subject, such as MIDRC's days_to_study
    unknown   nobody says which of these
    absent    (of one row only) there is no date

Rule 1: no frame is guessed. Only what is stated is used, and it is named beside every date.
Rule 2: what compares an image's day with a clinical date needs both in the enclave's calendar:
  a. "true" meets an enclave whose own dates are true: the day is taken as it is.
  b. "index" meets an enclave that says which of its records the index event is
     ([omop.index_events]): date = the person's first such record + days. Without such a record
     the person has no imaging date.
  c. all else is refused, by the imaging party before it answers and again by the enclave.

Days travel in cells of one width, so that their length tells nothing: `pack_days`, `unpack_days`.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from linkage.errors import PackageRefused, SourceRefused

Frame = Literal["true", "shifted", "index", "unknown"]
"""Of a commons as a whole."""

CONFIDENCE: Mapping[str, str] = {
    "true": "exact",
    "index": "exact to the day of the index event's record",
    "index, unmapped": "intervals within the person only",
    "shifted": "intervals within the person only",
    "unknown": "none",
    "absent": "none",
}
"""By frame, what a date is good for. "index, unmapped": the enclave has no such record."""

CELL_DAYS = 24
CELL_BYTES = 128
_CELL = struct.Struct(f">BBH{CELL_DAYS}i")
_VERSION = 1
_EPOCH = dt.date(1970, 1, 1)
_FIRST_DAY = (dt.date(1850, 1, 1) - _EPOCH).days
_LAST_DAY = (dt.date(2200, 1, 1) - _EPOCH).days
LARGEST_OFFSET = 73_000
"""Days from an index event, either way: 200 years. More is no day of a person's life."""


def pack_days(days: Collection[int]) -> bytes:
    """
    Return a cell: CELL_BYTES bytes, whatever number of days it holds.

    days: of one subject's fitting studies, since 1970-01-01 in frame "true", from the index event
    in frame "index". Each counts once; of more than CELL_DAYS the earliest go, see `is_cut`.
    Layout, big-endian: version 1 (uint8), count (uint8), how many were left out (uint16, at most
    65,535), CELL_DAYS days (int32, ascending, 0 from the count on), zeros.
    """
    ordered = sorted(set(days))
    kept = ordered[:CELL_DAYS]
    left_out = min(len(ordered) - len(kept), 0xFFFF)
    filled = (*kept, *[0] * (CELL_DAYS - len(kept)))
    return _CELL.pack(_VERSION, len(kept), left_out, *filled).ljust(CELL_BYTES, b"\0")


def is_cut(days: Collection[int]) -> bool:
    """Return whether a cell cannot hold all of these days."""
    return len(set(days)) > CELL_DAYS


def unpack_days(cell: bytes) -> tuple[int, ...]:
    """Return the days of a cell, ascending. Raises PackageRefused for anything else."""
    if len(cell) != CELL_BYTES:
        raise _malformed()
    version, count, _, *days = _CELL.unpack_from(cell)
    kept = tuple(days[:count])
    if version != _VERSION or count > CELL_DAYS or list(kept) != sorted(set(kept)):
        raise _malformed()
    return kept


def require_countable(frame: str, index_event: str | None) -> None:
    """
    Check, at the imaging party and before it answers, that its days can be compared at all.

    Raises SourceRefused for a frame that no enclave could set beside its own dates.
    """
    if frame == "true" or (frame == "index" and index_event):
        return
    why = {
        "shifted": "are shifted per subject: no enclave can compare them with clinical dates",
        "unknown": "are of unknown frame: they may be shifted",
        "index": "are days from an index event that has no name",
    }
    raise SourceRefused(
        file="imaging dates",
        rule=why.get(frame, f"have the unknown frame {frame!r}"),
        hint="ask without criteria in days from the image; or, if the commons knows better, state "
        'date_frame = "true" or "index" with the index event in [imaging] of its site file',
    )


def require_comparable(
    frame: str, index_event: str | None, *, omop_frame: str, mapped: Collection[str]
) -> None:
    """
    Check, in the enclave, rule 2: that imaging days and clinical dates can be compared.

    omop_frame: date_frame of [omop]. mapped: names of the index events in [omop.index_events].
    Raises SourceRefused otherwise.
    """
    require_countable(frame, index_event)
    if frame == "true" and omop_frame != "true":
        raise SourceRefused(
            file="omop",
            rule=f"the enclave's dates are {omop_frame!r} and those of the images true",
            hint="ask without criteria in days from the image; or, if the enclave's dates are as "
            'they happened, state date_frame = "true" in [omop] of its site file',
        )
    if frame == "index" and index_event not in mapped:
        raise SourceRefused(
            file="omop",
            rule=f"the images count their days from {index_event!r}, which the enclave can't date",
            hint="say in [omop.index_events] of the enclave's site file which records that event "
            "is, or ask without criteria in days from the image",
        )


def imaging_dates(
    days: Mapping[str, Sequence[int]],
    frame: str,
    *,
    index_dates: Mapping[str, dt.date] | None = None,
) -> dict[str, tuple[dt.date, ...]]:
    """
    Return, by unit, the imaging dates in the enclave's calendar, ascending, each once.

    days: by unit (a question ID or cohort ID), as its cells hold them; after `require_comparable`.
    index_dates: by unit, the date of the index event's first record; needed for frame "index",
    where a unit without one has no dates. Raises PackageRefused for days of no calendar.
    """
    require_countable(frame, "named" if index_dates is not None else None)
    made: dict[str, tuple[dt.date, ...]] = {}
    for unit, its in days.items():
        start = _EPOCH if frame == "true" else (index_dates or {}).get(unit)
        dates = () if start is None else tuple(to_date(day, frame, start) for day in set(its))
        made[unit] = tuple(sorted(dates))
    return made


def to_date(day: int, frame: str, start: dt.date = _EPOCH) -> dt.date:
    """Return the date that is `day` days from `start`. Raises PackageRefused for absurd days."""
    low, high = (_FIRST_DAY, _LAST_DAY) if frame == "true" else (-LARGEST_OFFSET, LARGEST_OFFSET)
    if not low <= day <= high:
        raise PackageRefused(
            "an imaging day lies outside any person's life",
            hint="the commons must say what its days are: date_frame in [imaging]",
        )
    return start + dt.timedelta(days=day)


def _malformed() -> PackageRefused:
    return PackageRefused(
        "a cell of imaging dates is malformed",
        hint="ask again; both ends must run the same version",
    )
