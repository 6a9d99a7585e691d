"""Normalisation: every row of docs/normalisation.md, and what holds for any field and text."""

from __future__ import annotations

import datetime as dt
import math
import pickle
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linkage.encoding import fields, whys
from linkage.encoding.columns import Coded
from linkage.encoding.fields import Normaliser, Reading, apply, require_fit, require_normalised
from linkage.errors import EncodingRefused
from linkage.schema import NORMALISATION_VERSION
from linkage.study import FIELDS

TODAY = dt.date(2026, 11, 1)
READING = Reading(date_format="%m/%d/%Y", today=TODAY)
PAGE = Path(__file__).parents[3] / "docs" / "normalisation.md"
ROW = re.compile(r"^\| (\w+) \| `(.+)` \| (?:`(.*)`)? ?\| (.*?) ?\|$", re.MULTILINE)
TAKEN = re.compile(r"^\| (\w+(?::\w+)?) \| `(.+)` \| (?:`(.*)`)? ?\|$", re.MULTILINE)


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def one(field: str, value: object, reading: Reading = READING) -> tuple[str, str]:
    found = Normaliser(field, reading).column([value])
    return found.column.texts()[0], found.why.texts()[0]


ROWS = [row for row in ROW.findall(page()) if row[0] in FIELDS]


@pytest.mark.parametrize(("field", "text", "value", "why"), ROWS)
def test_a_row_of_the_page(field: str, text: str, value: str, why: str) -> None:
    assert one(field, text.replace("\\|", "|")) == (value, why)


def test_the_page_is_of_the_version_in_the_schema_hash() -> None:
    assert page().startswith(f"# Normalisation, version {NORMALISATION_VERSION}\n")
    assert f"\n**{NORMALISATION_VERSION}**:" in page().partition("## Versions")[2]


def test_the_page_has_every_field_and_reason() -> None:
    assert {row[0] for row in ROWS} == set(FIELDS)
    words = " ".join(page().split())
    formats = set(whys.OTHER_FORMATS.values())
    assert [why for why in whys.WHYS if why not in words and why not in formats] == []
    assert all(tokens in words for tokens in whys.OTHER_FORMATS)


TAKES = TAKEN.findall(page().partition("| reference | given | gives |")[2])


@pytest.mark.parametrize(("ref", "text", "value"), TAKES)
def test_what_a_rule_takes(ref: str, text: str, value: str) -> None:
    column = Normaliser(ref.partition(":")[0], READING).column([text]).column
    assert apply(ref, column).texts() == [value]


def test_the_page_shows_every_kind_of_part() -> None:
    assert len(TAKES) >= 14


def test_every_reason_has_a_known_kind() -> None:
    assert {whys.kind_of(why) for why in whys.WHYS} == set(whys.KINDS)
    assert len(set(whys.WHYS)) == len(whys.WHYS)


ODD = st.one_of(
    st.text(max_size=24),
    st.text(alphabet="0123456789/-. xX*#", max_size=14),
    st.text(alphabet="abdmrsjivo '-.,@()|58", max_size=16),
    st.text(alphabet="stjrmdchonylae -.", max_size=16),
    st.text(alphabet="\x00\u200f\u0301\ufffd\ud800éÃ©ßİ٣ﷺ- ", max_size=8),
)
ANY = st.one_of(
    ODD, st.none(), st.floats(), st.integers(), st.booleans(), st.dates(), st.datetimes(),
    st.decimals(), st.binary(max_size=8), st.lists(st.integers(), max_size=2),
)  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@settings(max_examples=150, deadline=None)
@given(values=st.lists(ANY, max_size=6))
@example(values=["9" * 5000, "\x00", "\ud800", Decimal("NaN"), Decimal("1e400"), 10**400])
def test_any_value_is_normal_or_null_for_a_listed_reason(field: str, values: list[object]) -> None:
    found = Normaliser(field, READING).column(values)
    require_normalised(field, found.column)
    for value, why in zip(found.column.texts(), found.why.texts(), strict=True):
        assert why in whys.WHYS
        assert (value == "") == (whys.kind_of(why) in whys.NULL_KINDS)


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "date_of_birth"])
@settings(max_examples=250, deadline=None)
@given(text=ODD)
def test_a_normal_value_is_its_own_normal_form(field: str, text: str) -> None:
    value, _ = one(field, text)
    again, why = one(field, f"+{value}" if field == "phone" and len(value) > 7 else value)
    assert again == value
    assert whys.kind_of(why) in ("", "missing", "repaired")


def test_a_normal_date_is_its_own_normal_form() -> None:
    assert one("date_of_birth", "19710705", Reading("%Y%m%d")) == ("19710705", "")


FULL = st.text(alphabet="abdeorstuy -.,'/#123456789", max_size=24)


@pytest.mark.parametrize("field", FIELDS)
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.one_of(FULL, st.none()), max_size=12))
def test_batches_arrow_and_lists_agree_with_one_value_alone(
    field: str, values: list[str | None]
) -> None:
    alone = [one(field, value) for value in values]
    array = pa.array(values, pa.string())
    normaliser = Normaliser(field, READING)
    for column in (
        values, array, array, array.dictionary_encode(), pa.chunked_array([array, array[:0]]),
        array.cast(pa.large_string()), pa.concat_arrays([array, array])[len(values) :],
    ):  # fmt: skip
        found = normaliser.column(column)
        assert list(zip(found.column.texts(), found.why.texts(), strict=True)) == alone
        assert len(set(found.column.values)) == len(found.column.values)


def test_an_empty_batch_has_no_rows() -> None:
    for empty in ([], pa.array([], pa.string()), pa.nulls(0)):
        assert len(Normaliser("first_name").column(empty).column) == 0


def test_what_is_remembered_is_neither_shown_nor_pickled() -> None:
    normaliser = Normaliser("last_name")
    found = normaliser.column(["canary"])
    assert "canary" not in repr(normaliser) + repr(found)
    for one_of in (normaliser, found):
        with pytest.raises(TypeError):
            pickle.dumps(one_of)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "REMEMBERED", 10)
    normaliser = Normaliser("last_name")
    for start in range(0, 60, 6):
        names = ["a" * i + "b" for i in range(start + 1, start + 7)]
        assert normaliser.column(names).column.texts() == names
        assert len(normaliser._known) <= 10


def test_types_of_frames_and_columnar_files() -> None:
    gaps = np.array([2139.0, math.nan, 94110.0])
    assert Normaliser("zip").column(gaps).column.texts() == ["02139", "", "94110"]
    zips = pa.array([2139, 94110, None, 501, 10001, 21394307], pa.int64())
    assert Normaliser("zip").column(zips).column.texts() == [
        "02139", "94110", "", "00501", "10001", "02139",
    ]  # fmt: skip
    ssns = Normaliser("ssn").column(pa.array([12345679, 447207986, 7986, 5]))
    assert ssns.column.texts() == ["012345679", "447207986", "7986", "0005"]
    assert ssns.why.texts()[0] == whys.ZERO_RESTORED
    decimals = pa.array([Decimal("8507.0"), Decimal(8532)], pa.decimal128(10, 1))
    assert Normaliser("sex").column(decimals).column.texts() == ["m", "f"]
    odd = [pd.NA, None, math.nan, math.inf, "02139", 2139.5, b"02139"]
    found = Normaliser("zip").column(odd)
    assert found.column.texts() == ["", "", "", "", "02139", "", "02139"]
    assert found.why.texts()[:4] == ["missing"] * 3 + [whys.NOT_A_ZIP]


def test_equal_numbers_of_other_types_stay_apart() -> None:
    found = Normaliser("sex").column([1, True, 0, 0.0, False])
    assert found.why.texts()[2:4] == [whys.UNKNOWN_SEX] * 2
    assert found.why.texts()[4] == whys.UNKNOWN_CODE


def test_text_that_is_not_utf8_is_refused_without_its_bytes() -> None:
    broken = pa.array([b"Mu\xf1oz-canary"], pa.binary()).view(pa.string())
    with pytest.raises(EncodingRefused, match="not UTF-8") as refused:
        Normaliser("last_name").column(broken)
    assert "canary" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_overlong_values_are_invalid_at_201_characters() -> None:
    assert one("last_name", "ab" * 100)[0] == "ab" * 100
    assert one("last_name", " " + "ab" * 100 + "c")[1] == whys.TOO_LONG
    assert one("street", "1 " + "ﷺ" * 150)[1] == whys.TOO_LONG  # one letter becomes 18


FULL_WIDTH = "".join(chr(0xFF10 + int(digit)) for digit in "447207986")


def test_marks_that_nobody_sees_change_nothing() -> None:
    assert one("first_name", "\u200fAnn\u200b\ufeff") == ("ann", "")
    assert one("ssn", FULL_WIDTH) == ("447207986", "")
    assert one("ssn", "447\u201120\u20137986") == ("447207986", "")
    assert one("zip", "٠٢١٣٩") == ("02139", "")
    assert one("first_name", "An\x00n") == ("ann", whys.CONTROL)
    assert one("first_name", "Ann 😀") == ("ann", whys.STRAY)
    assert one("first_name", "😀")[1] == whys.PUNCTUATION
    assert one("last_name", "Mu\ufffdoz") == ("muoz", whys.STRAY)


def test_unknown_fields_transforms_and_regions_are_refused() -> None:
    with pytest.raises(EncodingRefused, match="no field"):
        Normaliser("mrn")
    with pytest.raises(EncodingRefused, match="region"):
        Normaliser("phone", Reading(phone_region="XX"))
    for ref in ("mrn", "sex:initial", "first_name:", "last_name:0", "last_name:21", "zip:formal"):
        with pytest.raises(EncodingRefused):
            apply(ref, Coded.of([]))


def test_columns_that_were_not_normalised_are_refused_without_a_value() -> None:
    for field, value in {
        "first_name": "Ann-canary", "last_name": "canary-", "date_of_birth": "1971-07-05",
        "ssn": "12345", "zip": "0213", "phone": "+16172531000",
        "sex": "canary", "street": "1  main",
        "email": "Ann@site.org",
    }.items():  # fmt: skip
        with pytest.raises(EncodingRefused, match=field) as refused:
            require_normalised(field, Coded.of(["", value]))
        assert value not in str(refused.value)


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "date_of_birth"])
def test_only_dates_have_a_format_to_fit(field: str) -> None:
    require_fit(field, {whys.NOT_A_PHONE: 10_000}, READING)


CELLS = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[A-Za-z]{1,12}|[0-9]{1,4} [A-Za-z ]{1,12}", fullmatch=True),
    st.dates(dt.date(1890, 1, 1)).map(lambda day: day.strftime("%m/%d/%Y")),
    st.dates(dt.date(1890, 1, 1)).map(lambda day: f"{day.month}/{day.day}/{day.year}"),
    st.sampled_from(["nan", "NaN", "Nan", "None", "unknown", "Mrs", "aaa", "Baby", "ab"]),
    st.sampled_from(
        ["01/01/1900", "02/30/1971", "12/31/9999", "11/02/2026", "\u0660\u0661/01/1971"]
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["first_name", "last_name", "street", "date_of_birth"]),
    CELLS,
)
def test_the_short_way_gives_what_the_rule_gives(field: str, raw: str) -> None:
    normaliser = Normaliser(field, READING)
    if quick := normaliser._quick(raw):
        assert normaliser._of_text(raw, normaliser._rule) == (quick, "")


def test_the_short_way_takes_what_is_plain() -> None:
    plain = {
        "first_name": "Ada", "last_name": "BYRON", "date_of_birth": "07/05/1971",
        "street": "12 Main Street",
    }  # fmt: skip
    assert [Normaliser(f, READING)._quick(raw) for f, raw in plain.items()] == [
        "ada", "byron", "19710705", "12 main st",
    ]  # fmt: skip
    for other in ("%d %B %Y", "%m/%d/%y", " %Y%m%d"):
        reading = Reading(date_format=other, two_digit_years_until=2026)
        assert not Normaliser("date_of_birth", reading)._quick("07/05/71")


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["first_name", "last_name", "street", "date_of_birth"]),
    st.lists(st.one_of(st.none(), CELLS), max_size=8),
)
def test_a_column_at_once_is_that_of_its_cells_one_by_one(
    field: str, cells: list[str | None]
) -> None:
    at_once = Normaliser(field, READING).column(pa.array(cells, pa.string()))
    one_by_one = Normaliser(field, READING).column(cells)
    assert at_once.column.texts() == one_by_one.column.texts()
    assert at_once.why.texts() == one_by_one.why.texts()


def test_plain_cells_are_found_at_once() -> None:
    for field, cells in {
        "last_name": ["BYRON", "byron", "O'Neil", "Unknown", "aaaa", "Li", "x" * 30, "Byrön"],
        "date_of_birth": ["07/05/1971", "02/29/1972", "02/29/1971", "01/01/1900", "7/5/1971"],
        "street": ["12 Main Street", "12 Main Street Apt 4", "Main Street", "12", "12  Main", "7Ä"],
    }.items():  # fmt: skip
        normaliser = Normaliser(field, READING)
        assert normaliser._plain is not None
        values, found = normaliser._plain(pa.array(cells, pa.string()))
        quick = [normaliser._quick(cell) for cell in cells]
        assert values.to_pylist() == [
            value if one else "" for value, one in zip(quick, found, strict=True)
        ]
        assert found.tolist()[:2] == [True, True]
