"""
Normalisation of birth dates: YYYYMMDD.

Two repairs, each only where the value would otherwise be no date at all: letters that look
like digits (O4/20/I970), and day and month exchanged (23/10/1987 in a %m/%d/%Y column). The
second hides a wrong format, so a column in which many dates need it is refused.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping

from linkage.encoding.rules import INVALID, PLACEHOLDER, null
from linkage.errors import EncodingRefused

EARLIEST = dt.date(1880, 1, 1)
"""Nobody born earlier is in a record of our time; the oldest person known was born in 1875."""

_PLACEHOLDERS = frozenset(
    {dt.date(1900, 1, 1), dt.date(1901, 1, 1), dt.date(1899, 12, 30), dt.date(1899, 12, 31),
     dt.date(1800, 1, 1), dt.date(1753, 1, 1), dt.date(1111, 11, 11), dt.date(1, 1, 1),
     dt.date(9999, 12, 31), dt.date(9999, 9, 9), dt.date(2999, 12, 31), dt.date(2099, 12, 31)}
)  # fmt: skip
"""First days of calendars and spreadsheets, and what people type for "not known"."""

_TIME = re.compile(r"[ T]00:00(:00(\.0+)?)?(Z|[+-]00:?00)?$")
_ZEROS_OR_NINES = re.compile(r"[09\W]+")
MOST_EXCHANGED = 0.2
"""Share of dates that need day and month exchanged, above which the format must be wrong."""
_ENOUGH_TO_JUDGE = 20


EXCHANGED = "repaired: day and month exchanged"


class DateRule:
    """
    The rule for one column of dates, called with its text.

    format: strptime format with %Y (or %y, which then needs today), month and day.
    Raises EncodingRefused for a format that gives no full date.
    """

    def __init__(self, format: str, today: dt.date | None, digits: Mapping[int, int]) -> None:
        self.format, self.today, self._digits = format, today, digits
        self._exchanged_format = _exchange(format)
        self._fixed_width = re.search(r"%[a-zA-Z]%[a-zA-Z]", format) is not None
        self._numeric = re.search(r"%[aAbBp]", format) is None
        self._require_full_date()

    def __call__(self, text: str) -> tuple[str, str]:
        stripped = _TIME.sub("", text) if "%H" not in self.format else text
        found = self._parsed(stripped, self.format)
        if found is None and self._numeric:
            stripped = stripped.translate(self._digits)
            found = self._parsed(stripped, self.format)
        if found is None and self._exchanged_format:
            found = self._parsed(stripped, self._exchanged_format)
            if found:
                value, why = self.of_date(found)
                return value, why or EXCHANGED
        if found is None:
            return null(PLACEHOLDER if _ZEROS_OR_NINES.fullmatch(text) else INVALID)
        return self.of_date(found)

    def of_date(self, found: dt.date) -> tuple[str, str]:
        """Return the value or the null of a date."""
        day = dt.date(found.year, found.month, found.day)
        if day in _PLACEHOLDERS:
            return null(PLACEHOLDER)
        if day < EARLIEST or (self.today is not None and day > self.today) or day.year > 2100:
            return null(INVALID)
        return day.strftime("%Y%m%d"), ""

    def _parsed(self, text: str, format: str) -> dt.date | None:
        try:
            found = dt.datetime.strptime(text, format)
        except ValueError:
            return None
        # Without separators strptime reads "1972052" as 1972-05-02; only full width is a date.
        if self._fixed_width and found.strftime(format) != text:
            return None
        if "%y" in format and self.today is not None and found.date() > self.today:
            return found.date().replace(year=found.year - 100) if _leap_safe(found) else None
        return found.date()

    def _require_full_date(self) -> None:
        used = set(re.findall(r"%-?([a-zA-Z])", self.format))
        full = (used & {"Y", "y"}) and ((used & {"m", "b", "B"} and "d" in used) or "j" in used)
        if not full and not used & {"x", "c", "D", "F"}:
            raise EncodingRefused(
                f"the date format {self.format!r} gives no full date",
                hint='use year, month and day, e.g. "%m/%d/%Y"',
            )
        if "y" in used and self.today is None:
            raise EncodingRefused(
                f"the date format {self.format!r} has a year of two digits",
                hint="give today's date too, so that 30 can be told from 1930",
            )


def _exchange(format: str) -> str | None:
    """Return the format with day and month exchanged, None where the month is a word."""
    if "%m" not in format or "%d" not in format:
        return None
    return format.replace("%m", "\0").replace("%d", "%m").replace("\0", "%d")


def _leap_safe(found: dt.datetime) -> bool:
    """Return whether the day exists a hundred years earlier (29 February 2000 does not)."""
    return (found.month, found.day) != (2, 29) or found.year % 400 != 0


def require_fit(tally: Mapping[str, int], format: str) -> None:
    """
    Raise EncodingRefused if `format` does not fit a source: above 20 % of its dates (of 20 and
    more) had to have day and month exchanged, or none could be read at all.

    tally: number of records by why-text, "" included.
    """
    kept = sum(n for why, n in tally.items() if not why or why.startswith("repaired"))
    said = kept + sum(n for why, n in tally.items() if why.startswith(INVALID))
    if said < _ENOUGH_TO_JUDGE:
        return
    if not kept:
        raise EncodingRefused(
            f"no date of birth fits the format {format!r}",
            hint='correct date_format in the site file, e.g. "MM/DD/YYYY" or "YYYYMMDD"',
        )
    if tally.get(EXCHANGED, 0) > MOST_EXCHANGED * said:
        raise EncodingRefused(
            f"more than a fifth of the dates of birth do not fit the format {format!r}",
            hint=f"day and month seem to be exchanged; try {_exchange(format)!r}",
        )
