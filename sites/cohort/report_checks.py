"""
Does the delivered cohort look like real people, each of them one?

A wrong link joins one person's images to another's records. It shows where both sides say the sex
or the age and do not agree, and where somebody has events after death. None of it proves a wrong
link: each commons has its own errors too.

Source: OHDSI Data Quality Dashboard, plausibleBeforeDeath (60 days after death for records that are
written later) and plausibleAfterBirth; Kahn et al. 2016, doi:10.13063/2327-9214.1244.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sites.cohort import cdm
from sites.cohort.disclosure import HIDDEN, CellRule, Shown

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

AFTER_DEATH_DAYS = 60
AGE_TOLERANCE_YEARS = 2.0
"""PatientAge is in whole years, and of a birth date the year alone may be known."""

EVENTS = (
    "visit_occurrence",
    "condition_occurrence",
    "procedure_occurrence",
    "drug_exposure",
    "measurement",
    "observation",
)


def plausibility(folder: Path, rule: CellRule) -> list[dict[str, Any]]:
    """
    Return the checks of a delivered folder: `check`, `persons` for whom it fails, `of` how many
    it could be made for, and `meaning`. Counts are of persons, as they may be read.
    """
    person = _rows(folder, "person", "person_id", "gender_concept_id", "year_of_birth")
    born = {p: year for p, _, year in person}
    death = dict(_rows(folder, "death", "person_id", "death_date"))
    images = _images(folder, person)
    events = [
        event
        for name in EVENTS
        for event in _events(folder, name)
        if event[0] in death or event[1].year < born[event[0]]
    ]
    late = {p for p, day in events if p in death and (day - death[p]).days > AFTER_DEATH_DAYS}
    early = {p for p, day in events if day.year < born[p]}
    last = images.last_day()
    after = {p for p, day in death.items() if p in last and last[p] > day}
    everybody, dead = set(born), set(death)
    with_date = images.persons(images.exact)
    before = images.persons(images.exact & (images.years < images.born))
    comparable = images.persons(images.sexed)
    other_sex = images.persons(images.sexed & (images.said_female != images.female))
    aged_images = images.exact & ~np.isnan(images.age)
    apart = np.abs(images.years - images.born - images.age)
    other_age = images.persons(aged_images & (apart > AGE_TOLERANCE_YEARS))
    aged_persons = images.persons(aged_images)
    found = [
        (
            "sex differs between images and clinical records",
            "a wrong link, or an error of either commons",
            other_sex,
            (comparable, everybody),
        ),
        (
            f"age at the image is more than {AGE_TOLERANCE_YEARS:g} years off the birth year",
            "a wrong link, or an error of either commons; needs true dates",
            other_age,
            (aged_persons, with_date, everybody),
        ),
        (
            f"clinical events over {AFTER_DEATH_DAYS} days after death",
            "a wrong death date, or two persons in one record",
            late,
            (dead, everybody),
        ),
        (
            "images after death",
            "a wrong link, or a wrong death date; needs true dates",
            after,
            (dead & with_date, dead, with_date, everybody),
        ),
        (
            "clinical events before the year of birth",
            "a wrong birth year, or two persons in one record",
            early,
            (everybody,),
        ),
        (
            "images before the year of birth",
            "a wrong link, or a wrong birth year; needs true dates",
            before,
            (with_date, everybody),
        ),
    ]
    return [
        {
            "check": name,
            "persons": part(len(failing), [len(one) for one in within], rule),
            "of": part(len(within[0]), [len(one) for one in within[1:]], rule),
            "meaning": meaning,
        }
        for name, meaning, failing, within in found
    ]


def part(count: int, within: Sequence[int], rule: CellRule) -> Shown:
    """
    Return a count of people as it may be read beside larger ones that contain it.

    It is hidden where the rest of any of them is too few people, for that could be subtracted.
    """
    if any(rule.small(whole - count) for whole in within):
        return HIDDEN
    return rule.show(count)


@dataclass(frozen=True, slots=True, eq=False)
class _Images:
    """
    One entry a series. person, day (since 1970-01-01), born: int64[N]; years: float64[N], of day.

    exact: the date is a true one. sexed: images and clinical records both say female or male;
    said_female, female: what they say. age: float64[N] years, nan where not said.
    """

    person: Ints
    day: Ints
    years: Floats
    born: Ints
    exact: Flags
    sexed: Flags
    said_female: Flags
    female: Flags
    age: Floats

    def persons(self, these: Flags) -> set[int]:
        """Return whose series these are."""
        return set(np.unique(self.person[these]).tolist())

    def last_day(self) -> dict[int, dt.date]:
        """Return the day of each person's last image whose date is exact."""
        whose, days = self.person[self.exact], self.day[self.exact]
        order = np.lexsort((days, whose))
        whose, days = whose[order], days[order]
        ends = np.flatnonzero(np.append(whose[1:] != whose[:-1], [True] * min(1, len(whose))))
        origin = dt.date(1970, 1, 1)
        return {int(whose[n]): origin + dt.timedelta(int(days[n])) for n in ends}


def _images(folder: Path, person: Sequence[tuple[Any, ...]]) -> _Images:
    side = folder / "side"
    columns = ["image_occurrence_id", "person_id", "image_occurrence_date"]
    table = pq.read_table(folder / "omop" / "image_occurrence.parquet", columns=columns)
    for file, names in (
        ("image_occurrence_provenance", ("date_confidence",)),
        ("image_series", ("subject_sex", "subject_age")),
    ):
        more = pq.read_table(side / f"{file}.parquet", columns=[columns[0], *names])
        table = table.join(more, columns[0])
    told = sorted(person)
    ids = np.array([p for p, _, _ in told], np.int64)
    gender = np.array([g for _, g, _ in told], np.int64)
    whose = table["person_id"].to_numpy().astype(np.int64)
    at = np.searchsorted(ids, whose)
    day = table["image_occurrence_date"].cast(pa.int32()).to_numpy().astype(np.int64)
    said = pc.fill_null(table["subject_sex"], "").combine_chunks()
    female, male = (_flags(pc.equal(said, word)) for word in ("female", "male"))
    here = gender[at]
    return _Images(
        person=whose,
        day=day,
        years=day.astype("datetime64[D]").astype("datetime64[Y]").astype(np.float64) + 1970,
        born=np.array([year for _, _, year in told], np.int64)[at],
        exact=_flags(pc.starts_with(table["date_confidence"], "exact")),
        sexed=(female | male) & ((here == cdm.FEMALE) | (here == cdm.MALE)),
        said_female=female,
        female=here == cdm.FEMALE,
        age=pc.fill_null(table["subject_age"].cast(pa.float64()), float("nan")).to_numpy(),
    )


def _flags(values: Any) -> Flags:
    found: Flags = np.asarray(values.to_numpy(zero_copy_only=False), np.bool_)
    return found


def _events(folder: Path, name: str) -> Iterator[tuple[int, dt.date]]:
    """Yield each person's first and last day in a table, of the enclave's own rows."""
    table, start = cdm.BY_NAME[name], cdm.BY_NAME[name].start
    if start is None or table.key is None:
        return
    rows = pq.read_table(
        folder / "omop" / f"{name}.parquet", columns=[table.key, "person_id", start]
    )
    # Rows made of images, and the imaging commons' own events, have dates that may be no true ones.
    made = _not_own(folder, table.key).cast(rows[table.key].type)
    rows = rows.filter(pc.invert(pc.is_in(rows[table.key], value_set=made)))
    found = rows.group_by("person_id").aggregate([(start, "min"), (start, "max")])
    for person, low, high in zip(
        *(found[c].to_pylist() for c in ("person_id", f"{start}_min", f"{start}_max")), strict=True
    ):
        yield person, low
        yield person, high


_FROM_ELSEWHERE = ("image_occurrence_provenance", "commons_event")


def _not_own(folder: Path, key: str) -> pa.Array:
    """Return the ids of a table's rows that came of the imaging commons."""
    found: list[pa.Array] = []
    for name in _FROM_ELSEWHERE:
        found += _column(folder / "side" / f"{name}.parquet", key)
    if key in ("measurement_id", "observation_id"):  # ids of both: which one says a concept
        found += _column(folder / "omop" / "image_feature.parquet", "image_feature_event_id")
    whole = pa.chunked_array(found, pa.int64()) if found else pa.chunked_array([], pa.int64())
    return whole.combine_chunks()


def _column(path: Path, name: str) -> list[pa.Array]:
    """Return a column's values as they lie in a file; nothing where either is not there."""
    if not path.is_file() or name not in pq.read_schema(path).names:
        return []
    values = pq.read_table(path, columns=[name])[name].drop_null().cast(pa.int64())
    return list(values.chunks)


def _rows(folder: Path, name: str, *columns: str) -> Sequence[tuple[Any, ...]]:
    table = pq.read_table(folder / "omop" / f"{name}.parquet", columns=list(columns))
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))
