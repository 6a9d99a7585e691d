"""
What is odd about birth dates as a whole: heaps on one day, missing decades, impossible ages.

Heaping on first days and round numbers is how forms and estimates show (age heaping: Shryock and
Siegel, The Methods and Materials of Demography). A heap is told only where chance cannot explain
it: far above its ordinary share and six standard deviations beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sites.profiling.cells import SMALL, small
from sites.profiling.dates import DateShape
from sites.profiling.findings import Finding
from sites.profiling.words import percent, records

OLDEST = 110
YEAR_HEAP, YEAR_SHARE = 4.0, 0.003
DAY_HEAP = 1.5
FIRST_JANUARY_HEAP = 3.0
GAP = 0.05
"""A decade with under 5 % of the lesser of its neighbours is a gap."""

_STEP = 5 * SMALL
"""A decade's births are told in these steps: exact, they would give the few in a gap away."""

_SIGMAS = 6.0
_ENOUGH = 200
_DAY_OF_YEAR = 1 / 365.25
_DAY_OF_MONTH = 12 / 365.25


def of_dates(shape: DateShape, this_year: int) -> Iterator[Finding]:
    """Yield what is odd in the spread of birth dates; nothing below 200 dates but old ages."""
    old = shape.born_by(this_year - OLDEST - 1)
    if old:
        said = f"Fewer than {SMALL} records" if small(old) else records(old)
        yield _finding(
            "age-over-110", "fix", max(old, SMALL - 1),
            f"{said} would be of somebody over {OLDEST} years old.",
            "Dates typed for 'not known' look like this, and two-digit years of another century.",
        )  # fmt: skip
    if shape.records < _ENOUGH:
        return
    yield from _first_of_january(shape)
    yield from _days(shape)
    yield from _years(shape)
    yield from _gaps(shape)


def _first_of_january(shape: DateShape) -> Iterator[Finding]:
    first = int(shape.by_day[1, 1])
    if _heap(first, shape.records, _DAY_OF_YEAR, FIRST_JANUARY_HEAP):
        yield _finding(
            "first-of-january", "look", first,
            f"{percent(first, shape.records)} of the dates are a 1 January (expected:"
            f" {100 * _DAY_OF_YEAR:.1f} %).",
            "Where only the year is known, systems fill in 1 January. Such dates agree by chance.",
        )  # fmt: skip


def _days(shape: DateShape) -> Iterator[Finding]:
    days = shape.by_day_of_month()
    if not any(days[12:]):
        yield _finding(
            "no-day-after-12", "fix", shape.records,
            "No date is after the 12th of its month.",
            "Day and month are exchanged, or the day is lost: check [source] date_format.",
        )  # fmt: skip
        return
    for day in (1, 15):
        found = days[day - 1] - (int(shape.by_day[1, 1]) if day == 1 else 0)
        if _heap(found, shape.records, _DAY_OF_MONTH, DAY_HEAP):
            yield _finding(
                "day-of-month", "look", found,
                f"{percent(found, shape.records)} of the dates are on day {day} of a month"
                f" (expected: {100 * _DAY_OF_MONTH:.1f} %).",
                "Where only month and year are known, systems fill in a day. If this is"
                " de-identified data, its dates cannot be used to link.",
            )  # fmt: skip


def _years(shape: DateShape) -> Iterator[Finding]:
    for year, count in sorted(shape.by_year.items()):
        beside = [n for step in (-2, -1, 1, 2) if (n := shape.by_year.get(year + step, 0))]
        usual = sum(beside) / len(beside) if beside else 1.0
        large = count >= max(SMALL, YEAR_SHARE * shape.records)
        if large and _beyond(count, usual, YEAR_HEAP):
            yield _finding(
                "birth-year", "look", count,
                f"{percent(count, shape.records)} were born in {year}, over"
                f" {YEAR_HEAP:.0f} times as many as in the years beside it.",
                "A default or an epoch (1900, 1970) looks like this.",
            )  # fmt: skip


def _gaps(shape: DateShape) -> Iterator[Finding]:
    decades = shape.by_decade()
    names = list(decades)
    for before, at, after in zip(names, names[1:], names[2:], strict=False):
        usual = min(decades[before], decades[after])
        if usual < 5 * SMALL or decades[at] >= GAP * usual:
            continue
        # A decade with a few people in it is a value of fewer than ten records: not named.
        named = f"in the {at}s" if decades[at] == 0 else "in a decade between two full ones"
        yield _finding(
            "decade-missing", "look", usual // _STEP * _STEP,
            f"{'Nobody' if decades[at] == 0 else 'Almost nobody'} was born {named}.",
            "Check whether a part of the records was lost in the export.",
        )  # fmt: skip


def _heap(count: int, total: int, share: float, factor: float) -> bool:
    return count >= SMALL and _beyond(count, total * share, factor)


def _beyond(count: int, usual: float, factor: float) -> bool:
    return count > factor * usual and count > usual + _SIGMAS * math.sqrt(usual)


def _finding(code: str, weight: str, number: int, text: str, remedy: str) -> Finding:
    return Finding(code, weight, "date_of_birth", number, text, remedy)  # type: ignore[arg-type]
