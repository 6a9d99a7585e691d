"""Dates of birth: formats, repairs, centuries, and when a format does not fit its source."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.encoding import whys
from linkage.encoding.fields import Normaliser, Reading, require_fit
from linkage.errors import EncodingRefused

TODAY = dt.date(2026, 11, 1)


def one(value: object, format: str | None = "%m/%d/%Y", **reading: object) -> tuple[str, str]:
    made = Reading(format, **{"today": TODAY, **reading})  # type: ignore[arg-type]
    found = Normaliser("date_of_birth", made).column([value])
    return found.column.texts()[0], found.why.texts()[0]


TABLE = {
    "%m/%d/%Y": {
        "07/05/1971": ("19710705", ""),
        "02/29/2000": ("20000229", ""),
        "02/29/1900": ("", whys.NOT_A_DATE),
        "12/31/9999": ("", whys.DEFAULT_DATE),
        "00/00/0000": ("", whys.DEFAULT_DATE),
        "08/29/01970": ("", whys.NOT_A_DATE),
        "03/09/8993": ("", whys.IN_THE_FUTURE),
        "11/01/2026": ("20261101", ""),
        "11/02/2026": ("", whys.IN_THE_FUTURE),
        "11/02/1905": ("19051102", ""),
        "11/01/1905": ("", whys.TOO_OLD),
        "07/05/1971T00:00:00Z": ("19710705", ""),
        "07/05/1971 12:00:00 AM": ("19710705", ""),
        "07/05/1971 4:30 pm": ("19710705", whys.TIME_OF_DAY),
        "07.05.1971": ("", whys.OTHER_FORMATS["DD.MM.YYYY"]),
        "05-JUL-1971": ("", whys.OTHER_FORMATS["DD-MON-YYYY"]),
        "1971": ("", whys.NOT_A_FULL_DATE),
        "07/1971": ("", whys.NOT_A_FULL_DATE),
        "unknown": ("", whys.NOT_KNOWN),
        "next week": ("", whys.NOT_A_DATE),
    },
    "%Y%m%d": {
        "19420409": ("19420409", ""),
        "|9541110": ("19541110", whys.DIGITS_READ),
        "19672510": ("19671025", whys.EXCHANGED),
        "1972052": ("", whys.NOT_A_DATE),
        "519371206": ("", whys.NOT_A_DATE),
        "19590600": ("", whys.NOT_A_FULL_DATE),
        "00000000": ("", whys.DEFAULT_DATE),
        "197107051200": ("19710705", whys.TIME_OF_DAY),
        "19710705000000.0000-0500": ("19710705", ""),
        "197107": ("", whys.NOT_A_FULL_DATE),
    },
    None: {
        "1971-07-05": ("19710705", ""),
        "1971-07-05T00:00:00+01:00": ("19710705", ""),
        "1971-07-05 00:00:00.000": ("19710705", ""),
        "1971-25-07": ("19710725", whys.EXCHANGED),
        "07/05/1971": ("", whys.OTHER_FORMATS["MM/DD/YYYY"]),
        "25/07/1971": ("", whys.OTHER_FORMATS["DD/MM/YYYY"]),
    },
    "%d %b %Y": {
        "5 Jul 1971": ("19710705", ""),
        "05 JULY 1971": ("19710705", ""),
        "5 Sept. 1971": ("19710905", ""),
        "5 Foo 1971": ("", whys.NOT_A_DATE),
    },
    "%d%b%Y": {"05JUL1971": ("19710705", "")},
    "%m%d%Y": {"07051971": ("19710705", ""), 7051971: ("19710705", "")},
}


@pytest.mark.parametrize(
    ("format", "value", "expected"),
    [(form, value, wanted) for form, rows in TABLE.items() for value, wanted in rows.items()],
)
def test_the_table(format: str | None, value: object, expected: tuple[str, str]) -> None:
    assert one(value, format) == expected


@pytest.mark.parametrize(
    ("text", "until", "expected"),
    [
        ("07/05/26", 2026, "20260705"),
        ("07/05/27", 2026, "19270705"),
        ("07/05/27", 2027, "19270705"),  # 2027 is in the future
        ("07/05/99", 2026, "19990705"),
        ("11/01/26", 2026, "20261101"),
        ("11/02/26", 2026, "19261102"),
        ("02/29/00", 2026, "20000229"),
        ("07/05/10", 2005, "19100705"),
        ("07/05/1971", 2026, "19710705"),
    ],
)
def test_years_of_two_digits(text: str, until: int, expected: str) -> None:
    assert one(text, "%m/%d/%y", two_digit_years_until=until) == (expected, "")


def test_a_short_year_among_long_ones_needs_to_be_told() -> None:
    assert one("07/05/71") == ("", whys.TWO_DIGIT_YEAR)
    assert one("07/05/71", two_digit_years_until=2026) == ("19710705", whys.CENTURY)


@given(st.dates(dt.date(1906, 1, 1), TODAY), st.sampled_from(["%m/%d/%Y", "%Y%m%d", "%d-%b-%Y"]))
def test_every_date_is_read_as_it_was_written(day: dt.date, format: str) -> None:
    assert one(day.strftime(format), format) == (day.strftime("%Y%m%d"), "")


def test_dates_that_are_dates_already() -> None:
    values = [dt.date(1971, 7, 5), pd.Timestamp("1971-07-05"), pd.NaT, dt.date(1900, 1, 1), None]
    values.append(dt.datetime(1971, 7, 5, 12, 30))
    column = Normaliser("date_of_birth", Reading("%m/%d/%Y")).column(values).column
    assert column.texts() == ["19710705", "19710705", "", "", "", "19710705"]


@pytest.mark.parametrize(
    "kind", [pa.date32(), pa.date64(), pa.timestamp("us"), pa.timestamp("ns", tz="UTC")]
)
def test_dates_of_columnar_files(kind: pa.DataType) -> None:
    values = pa.array([dt.datetime(1971, 7, 5), None, dt.datetime(1900, 1, 1)]).cast(kind)
    found = Normaliser("date_of_birth", Reading("%d.%m.%Y")).column(values)
    assert found.column.texts() == ["19710705", "", ""]
    assert found.why.texts() == ["", "missing", whys.DEFAULT_DATE]


def test_without_today_only_the_far_future_is_invalid() -> None:
    assert one("2100-12-30", None, today=None) == ("21001230", "")
    assert one("2101-01-02", None, today=None) == ("", whys.IN_THE_FUTURE)
    assert one("1880-01-01", None, today=None) == ("18800101", "")
    assert one("1879-12-31", None, today=None) == ("", whys.TOO_EARLY)


def test_month_names_do_not_follow_the_machines_language(monkeypatch: pytest.MonkeyPatch) -> None:
    from linkage.encoding import dates

    assert dates._MONTHS["may"] == 5
    assert dates._MONTHS["december"] == 12
    assert dates._MONTHS["sept"] == 9
    assert len(set(dates._MONTHS.values())) == 12


@pytest.mark.parametrize(
    ("format", "fault"),
    [
        ("%m/%Y", "no full date"),
        ("%Y", "no full date"),
        ("%m/%d/%d/%Y", "no full date"),
        ("%Y-%m-%d %H", "no full date"),
        ("yyyy-mm-dd", "no full date"),
        ("%m/%d/%y", "two digits"),
    ],
)
def test_a_format_that_cannot_serve_is_refused(format: str, fault: str) -> None:
    with pytest.raises(EncodingRefused, match=fault):
        Normaliser("date_of_birth", Reading(format))


def fit(values: list[str], format: str) -> None:
    reading = Reading(format, today=TODAY)
    why = Normaliser("date_of_birth", reading).column(values).why.texts()
    require_fit("date_of_birth", Counter(why), reading)


def days(count: int, form: str) -> list[str]:
    first = dt.date(1950, 1, 13)
    return [(first + dt.timedelta(days=29 * i)).strftime(form) for i in range(count)]


@pytest.mark.parametrize(
    ("written", "format", "hint"),
    [
        ("%d/%m/%Y", "%m/%d/%Y", "exchanged; try 'DD/MM/YYYY'"),
        ("%Y-%m-%d", "%m/%d/%Y", 'date_format = "YYYY-MM-DD"'),
        ("%Y%m%d", "%m/%d/%Y", 'date_format = "YYYYMMDD"'),
        ("%m/%d/%Y", "%Y%m%d", 'date_format = "MM/DD/YYYY"'),
        ("%d/%m/%Y", "%Y-%m-%d", 'date_format = "DD/MM/YYYY"'),
        ("%d-%b-%Y", "%Y-%m-%d", 'date_format = "DD-MON-YYYY"'),
        ("%m/%d/%y", "%m/%d/%Y", "two_digit_years_until"),
        ("%Y-%m", "%Y-%m-%d", "only full dates"),
    ],
)
def test_a_wrong_format_is_refused_and_the_likely_one_named(
    written: str, format: str, hint: str
) -> None:
    fit(days(200, format), format)
    with pytest.raises(EncodingRefused) as refused:
        fit(days(200, written), format)
    assert hint in refused.value.hint


def test_day_numbers_of_a_spreadsheet_are_named() -> None:
    with pytest.raises(EncodingRefused) as refused:
        fit([str(20000 + 29 * i) for i in range(100)], "%m/%d/%Y")
    assert "spreadsheet" in refused.value.hint


def test_a_column_without_any_date_is_refused_from_20_on() -> None:
    fit(["never"] * 19, "%m/%d/%Y")
    with pytest.raises(EncodingRefused, match="no date of birth fits"):
        fit(["never"] * 20, "%m/%d/%Y")
    fit(["unknown"] * 200, "%m/%d/%Y")


def test_a_fifth_of_exchanged_dates_is_still_allowed() -> None:
    good = ["01/02/1980"] * 80
    fit(good + ["13/02/1980"] * 20, "%m/%d/%Y")
    with pytest.raises(EncodingRefused, match="do not fit the format"):
        fit(good + ["13/02/1980"] * 21, "%m/%d/%Y")


def test_a_good_date_equal_to_a_repaired_one_is_not_counted_as_repaired() -> None:
    fit(["02/13/1980"] * 99 + ["13/02/1980"], "%m/%d/%Y")
