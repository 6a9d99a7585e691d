"""
The persons that a question asks about, as arrays: one entry a unit, by ascending unit.

    people = asked_people(source, {person_id: unit})
    people.age_at(days)              completed years, where birth year and day are known
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sites.cohort import cdm
from sites.cohort.omop import OmopSource

Ints = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

_EARLIEST = (dt.date.min - dt.date(1970, 1, 1)).days
_LATEST = (dt.date.max - dt.date(1970, 1, 1)).days


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """values: int64[N]; known: bool[N], whether the value means anything."""

    values: Ints
    known: Flags

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray) -> Self:
        """Read an Arrow column of whole numbers or dates (days since 1970-01-01); null: unknown."""
        if pa.types.is_date(column.type):
            column = column.cast(pa.date32()).cast(pa.int32())
        known = pc.is_valid(column).to_numpy(zero_copy_only=False)
        values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        return cls(values, known)

    def to_arrow(self, kind: pa.DataType) -> pa.Array:
        """Return int64 or date32, null where unknown."""
        found = pa.array(self.values, pa.int64(), mask=~self.known)
        return found.cast(pa.int32()).cast(kind) if pa.types.is_date(kind) else found.cast(kind)

    def otherwise(self, other: Self | int) -> Self:
        """Return these, and where unknown the others."""
        if isinstance(other, int):
            everywhere = np.ones(len(self.known), dtype=np.bool_)
            return type(self)(np.where(self.known, self.values, other), everywhere)
        values = np.where(self.known, self.values, other.values)
        return type(self)(values, self.known | other.known)


@dataclass(frozen=True, slots=True, eq=False)
class Days(Known):
    """Days since 1970-01-01, one a unit."""

    @classmethod
    def unknown(cls, size: int) -> Self:
        """Return no day for anybody."""
        return cls(np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.bool_))

    @classmethod
    def all_on(cls, day: dt.date, size: int) -> Self:
        """Return the same day for all."""
        number = (day - dt.date(1970, 1, 1)).days
        return cls(np.full(size, number, dtype=np.int64), np.ones(size, dtype=np.bool_))

    @classmethod
    def scattered(cls, units: Ints, days: pa.Array, size: int) -> Self:
        """Return `days` (dates) at the numbers `units`, unknown elsewhere."""
        found, given = cls.unknown(size), cls.of(days)
        found.values[units], found.known[units] = given.values, given.known
        return found


@dataclass(frozen=True, slots=True, eq=False)
class StudyDays:
    """
    Days of the studies that fit. units, days: int64[S], number of the unit and days since
    1970-01-01, by unit and day. first: the first of each unit.
    """

    units: Ints
    days: Ints
    first: Days

    @classmethod
    def of_units(cls, units: pa.Array, by_unit: Mapping[str, Sequence[dt.date]]) -> Self:
        """Read dates by unit; units that are not asked for are left out."""
        origin = dt.date(1970, 1, 1).toordinal()
        names = list(by_unit)
        at = Known.of(pc.index_in(pa.array(names, pa.string()), value_set=units))
        numbers = np.repeat(
            np.where(at.known, at.values, -1), [len(by_unit[name]) for name in names]
        )
        given = (day.toordinal() - origin for name in names for day in by_unit[name])
        days = np.fromiter(given, dtype=np.int64, count=len(numbers))
        order = np.lexsort((days, numbers))
        order = order[numbers[order] >= 0]
        numbers, days = numbers[order], days[order]
        first = Days.unknown(len(units))
        found, where = np.unique(numbers, return_index=True)
        first.values[found], first.known[found] = days[where], True
        return cls(numbers, days, first)

    def around(self, low: int | None, high: int | None) -> dict[str, pa.Array]:
        """Return columns of, low, high: the unit, and from which day to which around each study."""
        return {
            "of": pa.array(self.units, pa.int64()),
            "low": self._moved(low, _EARLIEST),
            "high": self._moved(high, _LATEST),
        }

    def _moved(self, by: int | None, open_end: int) -> pa.Array:
        if by is None:
            moved = np.full(len(self.days), open_end, dtype=np.int64)
        else:
            moved = np.clip(self.days + by, _EARLIEST, _LATEST)
        return pa.array(moved.astype(np.int32), pa.int32()).cast(pa.date32())


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """
    units: string[N], ascending, each once. person_id, sex, race, ethnicity: of the smallest
    person_id of each. birth_*: the same; a missing part is unknown. member_ids, member_units:
    every OMOP person asked for that exists, and the number of its unit.
    """

    units: pa.Array
    person_id: pa.Array
    sex: pa.Array
    race: pa.Array
    ethnicity: pa.Array
    birth_year: Known
    birth_month: Known
    birth_day: Known
    member_ids: pa.Array
    member_units: pa.Array

    def age_at(self, day: Days) -> Known:
        """
        Return completed years: one less while the birthday of that year is still to come.

        A birth date of which the year only is known counts as 1 July, year and month as the 15th.
        """
        month = self.birth_month.otherwise(7)
        birth_day = np.where(self.birth_month.known, self.birth_day.otherwise(15).values, 1)
        when = day.values.astype("datetime64[D]")
        months = when.astype("datetime64[M]")
        year = months.astype("datetime64[Y]").astype(np.int64) + 1970
        this_month = months.astype(np.int64) % 12 + 1
        this_day = (when - months).astype(np.int64) + 1
        to_come = this_month * 100 + this_day < month.values * 100 + birth_day
        age = year - self.birth_year.values - to_come
        return Known(age, day.known & self.birth_year.known)


def asked_people(source: OmopSource, among: Mapping[int, str] | None) -> People:
    """Read the persons of `among` that exist, or all, each its own unit."""
    persons = source.table("person")
    month, day = persons.birth_datetime.month(), persons.birth_datetime.day()
    asked = persons.select(
        *("person_id", "gender_concept_id", "race_concept_id", "ethnicity_concept_id"),
        *("year_of_birth", "month_of_birth", "day_of_birth"),
        datetime_month=month,
        datetime_day=day,
    )
    if among is not None:
        wanted = source.person_rows({"wanted": pa.array(list(among), pa.int64())})
        asked = asked.semi_join(wanted, asked.person_id == wanted.wanted)
    rows = asked.to_pyarrow().combine_chunks().sort_by("person_id")
    ids = rows["person_id"].cast(pa.int64()).combine_chunks()
    units, number = _numbered(ids, among)
    # Rows lie by person_id, so the first row of each number is its smallest person.
    _, firsts = np.unique(number, return_index=True)
    first = rows.take(pa.array(firsts, pa.int64()))
    return People(
        units=units,
        person_id=first["person_id"].cast(pa.int64()).combine_chunks(),
        sex=_sex(Known.of(first["gender_concept_id"])),
        race=first["race_concept_id"].cast(pa.int64()).combine_chunks(),
        ethnicity=first["ethnicity_concept_id"].cast(pa.int64()).combine_chunks(),
        birth_year=Known.of(first["year_of_birth"]),
        birth_month=Known.of(first["month_of_birth"]).otherwise(Known.of(first["datetime_month"])),
        birth_day=Known.of(first["day_of_birth"]).otherwise(Known.of(first["datetime_day"])),
        member_ids=ids,
        member_units=pa.array(number, pa.int64()),
    )


def _numbered(ids: pa.Array, among: Mapping[int, str] | None) -> tuple[pa.Array, Ints]:
    """Return the units that occur, ascending, and for each person the number of its unit."""
    if among is None:
        names = ids.cast(pa.string())
    else:
        names = pa.array([among[one] for one in ids.to_pylist()], pa.string())
    found = names.unique()
    units = found.take(pc.sort_indices(found))
    return units, Known.of(pc.index_in(names, value_set=units)).values


def _sex(gender: Known) -> pa.Array:
    is_female = gender.known & (gender.values == cdm.FEMALE)
    is_male = gender.known & (gender.values == cdm.MALE)
    kinds = np.where(is_female, 0, np.where(is_male, 1, 2)).astype(np.int8)
    words = pa.array(["female", "male", "unknown"], pa.string())
    return words.take(pa.array(kinds, pa.int8()))
