"""Normalisation: the table of docs/formats-encoding.md row by row, and what holds for any text."""

from __future__ import annotations

import datetime as dt
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.encoding.columns import Coded
from linkage.encoding.fields import REASONS, apply, normalise, require_normalised
from linkage.errors import EncodingRefused
from linkage.study import FIELDS

TODAY = dt.date(2026, 11, 1)

NAMES = {
    "first_name": {
        "Ann": "ann", " MARY-Ann ": "maryann", "Mary Ann": "maryann", "José": "jose",
        "Zoë": "zoe", "Øyvind": "oyvind", "Łukasz": "lukasz", "O\u2019Shea": "oshea",
        "Dr. John": "john", "John Jr.": "john", 'Robert "Bob"': "robert", "Robert (Bob)": "robert",
        "K": "k", "Nan": "nan", "Nat": "nat", "Md Rahman": "mdrahman", "Ke'lth": "kelth",
        "\u0130lker": "ilker", "Stra\u00dfe": "strasse", "\uff21nn": "ann", "Hon": "hon",
        "baby": "placeholder", "Baby Boy": "placeholder", "BabyGirl A": "placeholder",
        "Lady Of": "placeholder", "Man In The": "placeholder", "Adult Male": "placeholder",
        "unknown": "placeholder", "TEST": "placeholder", "n/a": "placeholder", "NA": "placeholder",
        "none": "placeholder", "not given": "placeholder", "No Name": "placeholder",
        "Mr": "placeholder", "Ms.": "placeholder", "xxx": "placeholder", "M a n": "placeholder",
        "NaN": "placeholder", "": "missing", "  ": "missing",
        "123": "invalid", "王": "invalid", "()": "invalid", "\u0301": "invalid",
    },
    "middle_name": {
        "Quentin": "quentin", "Q.": "q", "q": "q", "Anna Maria": "annamaria",
        "NMN": "placeholder", "nmi": "placeholder", "none": "placeholder",
    },
    "last_name": {
        "O'Brien": "obrien", "OBrien": "obrien", "D\u2019Angelo": "dangelo",
        "Smith-Jones": "smithjones", "Smith Jones": "smithjones", "Smith, Jr": "smith",
        "Smith III": "smith", "SMITH MD": "smith", "de la Cruz": "delacruz", "Ng": "ng",
        "Na": "na", "Minor": "minor", "Son": "son", "Muñoz": "munoz", "Ive": "ive",
        "Lady Of House": "placeholder", "Of The House": "placeholder", "Wife": "placeholder",
        "Unknown": "placeholder", "X": "placeholder", "A.": "placeholder", "Test": "placeholder",
        "Householder": "placeholder", "declined": "placeholder", "-": "placeholder",
    },
}  # fmt: skip

OTHERS = {
    "sex": {
        "M": "m", "Male": "m", "male ": "m", "8507": "m", "f": "f", "FEMALE": "f", "8532": "f",
        "U": "placeholder", "Other": "placeholder", "unknown": "placeholder", "0": "placeholder",
        "non-binary": "placeholder", "0000": "invalid", "Q": "invalid", "": "missing",
    },
    "ssn": {
        "447-20-7986": "447207986", "447 20 7986": "447207986", "447207986": "447207986",
        "O74-87-41O9": "074874109", "447-z0-7986": "447207986", "967-33-5100": "967335100",
        "999-99-9999": "placeholder", "123-45-6789": "placeholder", "000000000": "placeholder",
        "078-05-1120": "placeholder", "000-12-3456": "invalid", "666-12-3456": "invalid",
        "123-00-4567": "invalid", "123-45-0000": "invalid", "12345678": "invalid",
        "847-38-48458": "invalid", "XXX-XX-1234": "invalid",
    },
    "zip": {
        "02139": "02139", "02139-4307": "02139", "021394307": "02139", "2139": "02139",
        "21394307": "02139", "00000": "placeholder", "99999": "placeholder",
        "021": "invalid", "K1A 0B1": "invalid", "021390": "invalid",
    },
    "phone": {
        "(617) 253-1000": "6172531000", "+1 617.253.1000": "6172531000", "253-1000": "2531000",
        "617-253-1000 ext. 12": "6172531000", "617-253-1000x9": "6172531000",
        "+44 20 7946 0958": "2079460958", "000-000-0000": "placeholder",
        "617-555-1212": "placeholder", "1234567890": "placeholder", "12345": "invalid",
        "617-253-100": "invalid", "call me": "invalid",
    },
    "email": {
        " Ann.Lee@Site.ORG ": "ann.lee@site.org", "mailto:a@b.co": "a@b.co",
        "none@none.com": "placeholder", "noemail@site.org": "placeholder",
        "x@example.com": "placeholder", "ann.lee": "invalid", "a@b": "invalid", "a@@b.c": "invalid",
    },
    "street": {
        "536 McCampbell": "536 mccampbell", "3059 North Front Street": "3059 n front st",
        "123 N. MAIN ST., Apt. 4B": "123 n main st", "123 n main st #4": "123 n main st",
        "13330 bayberry drive": "13330 bayberry dr", "5805 whistler av nw": "5805 whistler ave nw",
        "40 forest valley crt ne": "40 forest vly ct ne", "12-34 56th Avenue": "1234 56th ave",
        "3 1/2 First Street": "3 1st st", "P.O. Box 12": "pobox 12", "PO BOX 12": "pobox 12",
        "21191 lotus # 923 pkwy": "21191 lotus 923 pkwy", "1 graft ro": "1 graft rd",
        "12 apt 4 apt 5": "invalid", "7 oak ln unit 4 #5": "7 oak ln",
        "7 oak ln apt # 4": "7 oak ln", "7 oak ln, Unit 4-B": "7 oak ln", "7 lot ln": "7 lot ln",
        "1 Peña Blvd": "1 pena blvd", "Saint John's Road": "st johns rd",
        "homeless": "placeholder", "General Delivery": "placeholder", "unknown": "placeholder",
        "No Fixed Address": "placeholder", "address unknown": "placeholder",
        "9": "invalid", "--- 2 -": "invalid",
    },
}  # fmt: skip

TABLE = [
    (field, text, expected)
    for field, rows in {**NAMES, **OTHERS}.items()
    for text, expected in rows.items()
]


def _check(found: tuple[list[str], list[str]], expected: list[str]) -> None:
    values, reasons = found
    for value, reason, wanted in zip(values, reasons, expected, strict=True):
        assert (value, reason) == (("", wanted) if wanted in REASONS else (wanted, ""))


@pytest.mark.parametrize(("field", "text", "expected"), TABLE)
def test_the_table(field: str, text: str, expected: str) -> None:
    _check(normalise(field, [text], date_format=None), [expected])


ROW = re.compile(r"^\| (\w+) \| `(.+)` \| (?:`(.+)`|(\w+)) \|$", re.MULTILINE)


def test_every_row_of_the_document_holds() -> None:
    text = (Path(__file__).parents[3] / "docs" / "formats-encoding.md").read_text(encoding="utf-8")
    rows = [row for row in ROW.findall(text) if row[0] in FIELDS]
    assert {row[0] for row in rows} == set(FIELDS)
    for field, given_text, value, reason in rows:
        column = [given_text.replace("\\|", "|")]
        _check(normalise(field, column, date_format="%m/%d/%Y"), [value or reason])


DATES = {
    "%m/%d/%Y": {
        "07/05/1971": "19710705", "7/5/1971": "19710705", "O4/20/|97O": "19700420",
        "13/10/1961": "19611013", "01/01/1900": "placeholder", "12/31/9999": "placeholder",
        "00/00/0000": "placeholder", "99/99/9999": "placeholder", "02/30/1980": "invalid",
        "08/29/01970": "invalid", "03/09/8993": "invalid", "12/31/1879": "invalid",
        "01/01/1880": "18800101", "11/01/2026": "20261101", "11/02/2026": "invalid",
        "05/06/1971 00:00:00": "19710506", "": "missing", "unknown": "placeholder",
        "02/29/2000": "20000229", "02/29/1900": "invalid", "1971-07-05": "invalid",
    },
    "%Y%m%d": {
        "19420409": "19420409", "|9541110": "19541110", "19s50530": "19550530",
        "19672510": "19671025", "1972052": "invalid", "519371206": "invalid",
        "19590600": "invalid", "00000000": "placeholder", "19000101": "placeholder",
    },
    "%Y-%m-%d": {
        "1971-07-05T00:00:00": "19710705", "1971-07-05 00:00:00.000": "19710705",
        "1971-25-07": "19710725", "1900-01-01": "placeholder",
    },
    "%d %b %Y": {"5 Jul 1971": "19710705", "05 jul 1971": "19710705", "5 Foo 1971": "invalid"},
    "%m/%d/%y": {
        "07/05/71": "19710705", "07/05/30": "19300705", "11/01/26": "20261101",
        "11/02/26": "19261102", "02/29/28": "19280229",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("date_format", "text", "expected"),
    [(form, text, wanted) for form, rows in DATES.items() for text, wanted in rows.items()],
)
def test_the_table_of_dates(date_format: str, text: str, expected: str) -> None:
    found = normalise("date_of_birth", [text], date_format=date_format, today=TODAY)
    _check(found, [expected])


def test_dates_that_are_dates_already() -> None:
    values = [dt.date(1971, 7, 5), pd.Timestamp("1971-07-05"), pd.NaT, dt.date(1900, 1, 1), None]
    values.append(dt.datetime(1971, 7, 5, 12, 30))
    found = normalise("date_of_birth", values, date_format="%m/%d/%Y")
    _check(found, ["19710705", "19710705", "missing", "placeholder", "missing", "19710705"])


def test_without_today_only_the_far_future_is_invalid() -> None:
    found = normalise("date_of_birth", ["2099-01-02", "2101-01-02"], date_format=None)
    _check(found, ["20990102", "invalid"])


@pytest.mark.parametrize(
    ("date_format", "today", "fault"),
    [
        ("%m/%Y", TODAY, "no full date"),
        ("%Y", TODAY, "no full date"),
        ("", None, ""),
        ("yyyy-mm-dd", TODAY, "no full date"),
        ("%m/%d/%y", None, "two digits"),
    ],
)
def test_a_format_that_cannot_serve_is_refused(
    date_format: str, today: dt.date | None, fault: str
) -> None:
    if not fault:
        normalise("date_of_birth", [], date_format=date_format)  # none given: ISO
        return
    with pytest.raises(EncodingRefused, match=fault):
        normalise("date_of_birth", [], date_format=date_format, today=today)


def _days(count: int, form: str) -> list[str]:
    first = dt.date(1950, 1, 13)
    return [(first + dt.timedelta(days=29 * i)).strftime(form) for i in range(count)]


def test_exchanged_day_and_month_throughout_is_a_wrong_format() -> None:
    with pytest.raises(EncodingRefused, match="do not fit the format"):
        normalise("date_of_birth", _days(200, "%d/%m/%Y"), date_format="%m/%d/%Y")
    with pytest.raises(EncodingRefused, match="no date of birth fits"):
        normalise("date_of_birth", _days(20, "%Y-%m-%d"), date_format="%m/%d/%Y")


def test_a_fifth_of_exchanged_dates_is_still_allowed() -> None:
    good = ["01/02/1980"] * 80
    found, _ = normalise("date_of_birth", good + ["13/02/1980"] * 20, date_format="%m/%d/%Y")
    assert found[-1] == "19800213"
    with pytest.raises(EncodingRefused):
        normalise("date_of_birth", good + ["13/02/1980"] * 21, date_format="%m/%d/%Y")


def test_a_good_date_equal_to_a_repaired_one_is_not_counted_as_repaired() -> None:
    column = ["02/13/1980"] * 99 + ["13/02/1980"]
    values, _ = normalise("date_of_birth", column, date_format="%m/%d/%Y")
    assert set(values) == {"19800213"}


def test_numbers_and_nulls_of_frames() -> None:
    frame = pd.DataFrame({"zip": [2139, 94110], "ssn": [12345678, 447207986]})
    _check(normalise("zip", frame["zip"], date_format=None), ["02139", "94110"])
    _check(normalise("ssn", frame["ssn"], date_format=None), ["placeholder", "447207986"])
    gaps = np.array([2139.0, math.nan, 94110.0])
    _check(normalise("zip", gaps, date_format=None), ["02139", "missing", "94110"])
    odd = np.array([pd.NA, None, math.nan, math.inf, "02139", 2139.5], dtype=object)
    _check(
        normalise("zip", odd, date_format=None),
        ["missing", "missing", "missing", "invalid", "02139", "invalid"],
    )
    _check(
        normalise("sex", [8507, 8532.0, 0, 8551], date_format=None),
        ["m", "f", *["placeholder"] * 2],
    )


@pytest.mark.parametrize("field", FIELDS)
@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.none(), st.text(max_size=20), st.floats(), st.integers()), max_size=8
    )
)
def test_any_input_gives_a_normalised_value_or_a_reason(field: str, values: list[object]) -> None:
    found, reasons = normalise(field, values, date_format="%Y%m%d", today=TODAY)
    assert len(found) == len(reasons) == len(values)
    for value, reason in zip(found, reasons, strict=True):
        assert (value == "") == (reason in REASONS)
    require_normalised(field, Coded.of(found))


@pytest.mark.parametrize(
    "field", ["first_name", "last_name", "ssn", "zip", "phone", "email", "sex"]
)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_normalising_twice_changes_nothing(field: str, data: st.DataObject) -> None:
    alphabet = {"ssn": "0123456789-", "zip": "0123456789-", "phone": "0123456789- x"}
    default = "abdmrsjiv '-.@()" if field != "email" else "ab.@<>"
    text = data.draw(st.text(alphabet=alphabet.get(field, default), max_size=14))
    once, _ = normalise(field, [text], date_format=None)
    twice, _ = normalise(field, once, date_format=None)
    assert twice == once


def test_names_lose_case_accents_and_hyphens_alike() -> None:
    for field in ("first_name", "middle_name", "last_name"):
        forms = ["María-José", "maria jose", "MARIA JOSE", "Mari\u0301a Jose\u0301", "Maria'Jose"]
        values, _ = normalise(field, forms, date_format=None)
        assert set(values) == {"mariajose"}


@pytest.mark.parametrize(
    ("ref", "value", "expected"),
    [
        ("first_name", "ann", "ann"),
        ("first_name:initial", "ann", "a"),
        ("first_name:sound", "robert", "R163"),
        ("last_name:sound", "tymczak", "T522"),
        ("last_name:sound", "pfister", "P236"),
        ("last_name:3", "lee", "lee"),
        ("last_name:3", "ng", "ng"),
        ("last_name:3", "tymczak", "tym"),
        ("date_of_birth:year", "19710705", "1971"),
        ("date_of_birth:month", "19710705", "07"),
        ("date_of_birth:day", "19710705", "05"),
        ("date_of_birth:year_month", "19710705", "197107"),
        ("date_of_birth:month_day", "19710705", "0705"),
        ("ssn:first5", "447207986", "44720"),
        ("ssn:last4", "447207986", "7986"),
        ("zip:3", "02139", "021"),
        ("phone:last7", "6172531000", "2531000"),
        ("phone:last7", "2531000", "2531000"),
        ("street:house_number", "123 n main st", "123"),
        ("street:house_number", "pobox 12", ""),
        ("street:house_number", "n main st", ""),
        ("street:house_number", "1st ave", ""),
        ("street:house_number", "255", "255"),
        ("street:street_name", "123 n main st", "main"),
        ("street:street_name", "111 nw 1st ter", "1st"),
        ("street:street_name", "1st ave", "1st"),
        ("street:street_name", "12 n st", "st"),
        ("street:street_name", "5 ave a", "ave a"),
        ("street:street_name", "69 s hwy 701", "hwy 701"),
        ("street:street_name", "255", "255"),
    ],
)
def test_transforms(ref: str, value: str, expected: str) -> None:
    assert apply(ref, Coded.of([value, "", value])).texts() == [expected, "", expected]


def test_unknown_fields_and_transforms_are_refused() -> None:
    with pytest.raises(EncodingRefused, match="no field"):
        normalise("mrn", [], date_format=None)
    for ref in ("mrn", "sex:initial", "first_name:", "last_name:0", "last_name:21"):
        with pytest.raises(EncodingRefused):
            apply(ref, Coded.of([]))
