"""
Normalisation of birth dates: YYYYMMDD.

Repairs, each only where the value would otherwise be no date at all: letters that look like digits
(O4/20/I970), day and month exchanged (23/10/1987 where months come first), an ISO date in a column
of another format. The last two hide a wrong format, so a source in which many dates need them is
refused (`require_fit`). Month names are English, whatever the machine's locale.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re

from linkage.encoding import whys
from linkage.encoding.date_formats import TOKENS, in_tokens, strptime_format
from linkage.encoding.numbers import LOOKALIKE_DIGITS
from linkage.encoding.rules import Found, null
from linkage.errors import EncodingRefused

ISO = "%Y-%m-%d"
EARLIEST = dt.date(1880, 1, 1)
"""Nobody born earlier is in a record of our time; the oldest person known was born in 1875."""
OLDEST = 120
"""Years of age that one person in history has passed (122)."""

_PLACEHOLDERS = frozenset(
    {dt.date(1900, 1, 1), dt.date(1901, 1, 1), dt.date(1899, 12, 30), dt.date(1899, 12, 31),
     dt.date(1800, 1, 1), dt.date(1753, 1, 1), dt.date(1111, 11, 11), dt.date(1, 1, 1),
     dt.date(9999, 12, 31), dt.date(9999, 9, 9), dt.date(2999, 12, 31), dt.date(2099, 12, 31)}
)  # fmt: skip
"""First days of calendars and spreadsheets, and what people type for "not known"."""
_FIRST_SURE, _LAST_SURE = dt.date(1901, 1, 2), dt.date(2099, 12, 30)
"""Days between which none is a placeholder: most need no look into the set."""

_DIRECTIVES = {
    "Y": r"(?P<year>[0-9]{4})", "y": r"(?P<year>[0-9]{4}|[0-9]{2})",
    "m": r"(?P<month>[0-9]{1,2})", "b": r"(?P<month>[a-z]{3,9})\.?", "d": r"(?P<day>[0-9]{1,2})",
}  # fmt: skip
_DIRECTIVES["B"] = _DIRECTIVES["b"]
_MONTHS = {
    name[:length].casefold(): number
    for number, name in enumerate(calendar.month_name[1:], start=1)
    for length in range(3, len(name) + 1)
} | {"sept": 9}

_TIME = re.compile(
    r"[ tT]+([0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?) ?([aApP][mM])?"
    r" ?(?:[zZ]|[+-][0-9]{2}:?[0-9]{2})?"
)
_HL7_TIME = re.compile(
    r"([0-9]{8})([0-9]{4}(?:[0-9]{2}(?:\.[0-9]{1,4})?)?)(?:[+-][0-9]{4})?"  # HL7 v2 DTM
)
_ZEROS_OR_NINES = re.compile(r"[09\W]+")
_PARTIAL = re.compile(r"[0-9]{4}(?:-?(?:0[1-9]|1[0-2]))?|(?:0?[1-9]|1[0-2])/[0-9]{4}|[0-9]{4}-")
"""YYYY, YYYY-MM, YYYYMM (FHIR, HL7 v2, DICOM), MM/YYYY."""
_DAY_NUMBER = re.compile(r"[1-4][0-9]{4}(?:\.[0-9]+)?")
"""1927 to 2036 as days after 1899-12-30, the spreadsheets' day zero."""


def _pattern(format: str) -> re.Pattern[str]:
    """Return the pattern of a strptime format; adjacent directives have a fixed width."""
    adjacent = re.search(r"%[a-zA-Z]%[a-zA-Z]", format) is not None
    made = ""
    for part in re.split(r"(%[a-zA-Z])", format):
        piece = _DIRECTIVES[part[1]] if part in TOKENS else re.escape(part)
        if adjacent:
            short = "[0-9]{2}" if part == "%y" else "[0-9]{4}|[0-9]{2}"
            piece = piece.replace("{1,2}", "{2}").replace("[0-9]{4}|[0-9]{2}", short)
        made += piece
    return re.compile(made, re.IGNORECASE if "[a-z]" in made else 0)


_OTHERS = {tokens: _pattern(strptime_format(tokens)) for tokens in whys.OTHER_FORMATS}


class DateRule:
    """
    The rule for one source, called with cleaned text.

    format: strptime format of %Y (or %y, which then needs two_digit_years_until), %m (or %b, %B)
    and %d. two_digit_years_until: the last year that two digits can mean. today: see `of_date`.
    plain: whether a cell may be read in the format without being cleaned. sure: the first and last
    day of which nothing needs to be asked.
    Raises EncodingRefused for a format that gives no full date.
    """

    def __init__(
        self, format: str | None, two_digit_years_until: int | None, today: dt.date | None
    ) -> None:
        self.format = format or ISO
        self._until, self._today = two_digit_years_until, today
        self._latest = today or dt.date(2100, 12, 31)
        self._too_old = _years_before(today, OLDEST + 1) if today else dt.date.min
        self._require_full_date()
        self._pattern = _pattern(self.format)
        self._numeric = "%m" in self.format
        short = _pattern(self.format.replace("%Y", "%y"))
        self._short = short if "%Y" in self.format else None
        plain = self._numeric and self.format.isascii() and self.format.isprintable()
        self.plain = plain and self.format == self.format.strip()
        self.sure = (
            max(_FIRST_SURE, self._too_old + dt.timedelta(1)),
            min(_LAST_SURE, self._latest),
        )
        self._width = 8 if re.fullmatch(r"(%[Ymd]){3}", self.format) else 0

    def __call__(self, text: str) -> Found:
        """Return the value of a text, or its null."""
        if found := self._pattern.fullmatch(text):
            return self._of_parts(found, "")
        stripped, why = _without_time(text)
        if self._numeric and not self._pattern.fullmatch(stripped):
            plain = stripped.translate(LOOKALIKE_DIGITS)
            if self._pattern.fullmatch(plain):
                stripped, why = plain, whys.DIGITS_READ
        if found := self._pattern.fullmatch(stripped):
            return self._of_parts(found, why)
        if _ZEROS_OR_NINES.fullmatch(stripped):
            return null(whys.DEFAULT_DATE)
        if self._short and (found := self._short.fullmatch(stripped)) and _in_calendar(found):
            return null(whys.TWO_DIGIT_YEAR) if self._until is None else self._of_parts(found, "")
        return self._in_another_format(stripped)

    def quick(self, raw: str) -> str:
        """
        Return the value of a cell as it is read, if it is a day in the source's own format that
        nothing is wrong with; else "".
        """
        if not self.plain or not (found := self._pattern.fullmatch(raw)):
            return ""
        year, month, day = found.group("year", "month", "day")
        try:
            born = dt.date(int(year), int(month), int(day))
        except ValueError:
            return ""
        first, last = self.sure
        if len(year) < 4 or not first <= born <= last:
            return ""
        return f"{year}{month:0>2}{day:0>2}"

    def of_number(self, text: str) -> Found:
        """Return the value of a whole number: 7051971 in MMDDYYYY has lost its leading zero."""
        return self(text.zfill(self._width) if len(text) == 7 else text)

    def of_date(self, found: dt.date, why: str = "") -> Found:
        """
        Return the value or the null of a date or of the date of a timestamp.

        A date after today, or of somebody older than 120 today, is invalid; without today, one
        after 2100. Dates before 1880 always are.
        """
        day = found.date() if isinstance(found, dt.datetime) else found
        if not _FIRST_SURE <= day <= _LAST_SURE and day in _PLACEHOLDERS:
            return null(whys.DEFAULT_DATE)
        if day < EARLIEST:
            return null(whys.TOO_EARLY)
        if day > self._latest:
            return null(whys.IN_THE_FUTURE)
        if day <= self._too_old:
            return null(whys.TOO_OLD)
        return day.isoformat().replace("-", ""), why

    def _of_parts(self, found: re.Match[str], why: str) -> Found:
        year, month, day = _numbers(found)
        if year < 100 and len(found["year"]) == 2:
            year = self._century(year, month, day)
            why = why if "%y" in self.format else whys.CENTURY
        try:
            return self.of_date(dt.date(year, month, day), why)
        except ValueError:
            pass  # no such day; the calendar is asked again below, the other way round
        if not (day and month and year):
            zeros = _ZEROS_OR_NINES.fullmatch(found[0])
            return null(whys.DEFAULT_DATE if zeros else whys.NOT_A_FULL_DATE)
        try:
            exchanged = dt.date(year, day, month)
        except ValueError:
            zeros = _ZEROS_OR_NINES.fullmatch(found[0])
            return null(whys.DEFAULT_DATE if zeros else whys.NOT_A_DATE)
        return self.of_date(exchanged, whys.EXCHANGED)

    def _century(self, year: int, month: int, day: int) -> int:
        """Return the year of two digits: the last one up to `until` that is not in the future."""
        until = self._until or 0
        full = until - (until - year) % 100
        today = self._today
        later = today is not None and (full, month, day) > (today.year, today.month, today.day)
        return full - 100 if later else full

    def _in_another_format(self, text: str) -> Found:
        if found := _OTHERS["YYYY-MM-DD"].fullmatch(text):
            value, why = self._of_parts(found, whys.ISO_DATE)
            return value, whys.ISO_DATE if value else why
        if _PARTIAL.fullmatch(text):
            return null(whys.NOT_A_FULL_DATE)
        if _DAY_NUMBER.fullmatch(text):
            return null(whys.DAY_NUMBER)
        for tokens, pattern in _OTHERS.items():
            if (
                (found := pattern.fullmatch(text))
                and _in_calendar(found)
                and 1880 <= int(found["year"]) <= 2100
            ):
                return null(whys.OTHER_FORMATS[tokens])
        return null(whys.NOT_A_DATE)

    def _require_full_date(self) -> None:
        used = re.findall(r"%-?[a-zA-Z%]?", self.format)
        kinds = sorted(TOKENS.get(one, "?").upper() for one in used)
        if kinds not in (["DD", "MM", year] for year in ("YY", "YYYY")) and kinds not in (
            ["DD", "MON", year] for year in ("YY", "YYYY")
        ):
            raise EncodingRefused(
                f"the date format {in_tokens(self.format)!r} gives no full date",
                hint='use year, month and day once each, e.g. "MM/DD/YYYY"',
            )
        if "%y" in self.format and self._until is None:
            raise EncodingRefused(
                f"the date format {in_tokens(self.format)!r} has a year of two digits",
                hint="export four digits, or set two_digit_years_until to the last year meant",
            )


def _without_time(text: str) -> Found:
    """Return the text without a time of day; said only where the time is not midnight."""
    if (found := _TIME.search(text)) and found.end() == len(text):
        midnight = not found[1].strip("0:.,") or (found[1].startswith("12:00") and found[2])
        return text[: found.start()].rstrip(), "" if midnight else whys.TIME_OF_DAY
    if found := _HL7_TIME.fullmatch(text):
        return found[1], "" if not found[2].strip("0.") else whys.TIME_OF_DAY
    return text, ""


def _numbers(found: re.Match[str]) -> tuple[int, int, int]:
    """Return year, month and day as written; a word that is no month is month 99."""
    year, month, day = found.group("year", "month", "day")
    return int(year), int(month) if month.isdigit() else _MONTHS.get(month.casefold(), 99), int(day)


def _years_before(day: dt.date, years: int) -> dt.date:
    """Return the day of that year; 28 February where there is no 29th."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)


def _in_calendar(found: re.Match[str]) -> bool:
    _, month, day = _numbers(found)
    return 1 <= month <= 12 and 1 <= day <= 31
