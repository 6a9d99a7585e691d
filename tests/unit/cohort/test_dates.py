"""Days of images: their cells, and the rule that sets them beside clinical dates."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.errors import PackageRefused, SourceRefused
from sites.cohort.dates import (
    CELL_BYTES,
    CELL_DAYS,
    imaging_dates,
    is_cut,
    pack_days,
    require_comparable,
    require_countable,
    to_date,
    unpack_days,
)

DAYS = st.lists(st.integers(min_value=-(2**31), max_value=2**31 - 1), max_size=40)


@given(days=DAYS)
def test_a_cell_keeps_the_earliest_days_and_its_width(days: list[int]) -> None:
    cell = pack_days(days)
    assert len(cell) == CELL_BYTES
    assert unpack_days(cell) == tuple(sorted(set(days))[:CELL_DAYS])
    assert is_cut(days) == (len(set(days)) > CELL_DAYS)


def test_the_bytes_of_a_cell_are_pinned() -> None:
    head = bytes.fromhex("01020000fffffffe00000007")
    assert pack_days([7, -2, 7]) == head.ljust(CELL_BYTES, b"\0")


@pytest.mark.parametrize(
    "cell",
    [
        b"",
        bytes(CELL_BYTES),
        pack_days([1])[:-1],
        b"\x01\x19" + bytes(CELL_BYTES - 2),
        bytes.fromhex("010200000000000200000001").ljust(CELL_BYTES, b"\0"),
    ],
    ids=["empty", "version 0", "short", "25 days", "not ascending"],
)
def test_another_cell_is_refused(cell: bytes) -> None:
    with pytest.raises(PackageRefused, match="malformed"):
        unpack_days(cell)


def test_true_dates_meet_true_dates_as_they_are() -> None:
    require_comparable("true", None, omop_frame="true", mapped=())
    day = (dt.date(2020, 2, 29) - dt.date(1970, 1, 1)).days
    assert imaging_dates({"a": (day, day), "b": ()}, "true") == {
        "a": (dt.date(2020, 2, 29),),
        "b": (),
    }


def test_days_from_an_index_event_need_its_record() -> None:
    require_comparable("index", "COVID-19 test", omop_frame="shifted", mapped={"COVID-19 test"})
    starts = {"a": dt.date(2021, 3, 1)}
    assert imaging_dates({"a": (5, -1), "b": (3,)}, "index", index_dates=starts) == {
        "a": (dt.date(2021, 2, 28), dt.date(2021, 3, 6)),
        "b": (),
    }


@pytest.mark.parametrize(
    ("frame", "event", "omop_frame", "mapped", "rule"),
    [
        ("shifted", None, "true", (), "shifted per subject"),
        ("unknown", None, "true", (), "unknown frame"),
        ("index", None, "true", ("test",), "has no name"),
        ("index", "test", "true", ("other",), "can't date"),
        ("true", None, "shifted", (), "enclave's dates are 'shifted'"),
        ("sidereal", None, "true", (), "unknown frame 'sidereal'"),
    ],
)
def test_other_frames_are_refused_with_the_remedy(
    frame: str, event: str | None, omop_frame: str, mapped: tuple[str, ...], rule: str
) -> None:
    with pytest.raises(SourceRefused, match=rule) as fault:
        require_comparable(frame, event, omop_frame=omop_frame, mapped=mapped)
    assert "ask without criteria" in fault.value.hint


def test_the_imaging_party_refuses_before_it_answers() -> None:
    require_countable("true", None)
    require_countable("index", "test")
    for frame in ("shifted", "unknown"):
        with pytest.raises(SourceRefused, match="imaging dates"):
            require_countable(frame, None)


def test_a_day_of_no_life_is_refused() -> None:
    assert to_date(0, "true") == dt.date(1970, 1, 1)
    assert to_date(-73_000, "index", dt.date(2020, 1, 1)).year == 1820
    for frame, day in (("true", 100_000), ("true", -50_000), ("index", 73_001)):
        with pytest.raises(PackageRefused, match="outside any person's life"):
            to_date(day, frame, dt.date(1970, 1, 1))
