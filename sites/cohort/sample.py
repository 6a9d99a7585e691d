"""
A small OMOP source and a series table for simulated people, as odd as the real ones.

    files = write_sample(folder, imaging=subjects, enclave=persons, seed=1)

For `linkage-site demo` and for tests; the same people and seed give the same bytes. The oddities
are those of the GiBleed sample and of the Imaging Data Commons: headers in mixed case and with SQL
in place of a name, rows of persons that do not exist, visits that resolve to nothing, texts that
are unique to a person, shifted image dates, missing ages and body parts, a study that two subjects
claim. Nothing in here is real.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from linkage.errors import Conflict

CHEST_XRAY = 4163872
"""Plain chest X-ray, SNOMED 399208008."""

CHEST_XRAY_CHILD = 2000000001
"""A local concept below it, known to concept_ancestor only."""

_LAST_DAY = dt.date(2019, 7, 1)
_CONDITIONS = (4112343, 192671, 317576, 81893, 255848)
_DRUGS = (1118084, 40213160, 1127078, 40213154)
_MEASUREMENTS = (3006322, 3038553, 4024958)
_FEMALE, _MALE = 8532, 8507

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class SamplePerson:
    """One simulated person at one commons. sex: "f", "m" or None. birth_year: None if unknown."""

    record_id: str
    sex: str | None
    birth_year: int | None


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """What was written. person_ids: OMOP person_id by the enclave's record id."""

    omop: Path
    imaging_series: Path
    person_ids: dict[str, int]


def write_sample(
    folder: Path,
    *,
    imaging: Sequence[SamplePerson],
    enclave: Sequence[SamplePerson],
    seed: int = 1,
) -> SampleFiles:
    """
    Write folder/omop/*.csv(.gz) for `enclave` and folder/imaging_series.parquet for `imaging`.

    A record id of the enclave that is a whole number from 1 to 999,999 is its person_id as it
    stands; otherwise all persons are numbered, and the record id is person_source_value (site
    file: [omop] record_id = "person_source_value"). Raises Conflict if a record id repeats or a
    file is already there.
    """
    for people in (imaging, enclave):
        if len({one.record_id for one in people}) != len(people):
            raise Conflict("a record id occurs twice", hint="give every simulated person its own")
    omop, series = folder / "omop", folder / "imaging_series.parquet"
    if omop.exists() or series.exists():
        raise Conflict("a sample is already there", hint="name a new folder")
    omop.mkdir(parents=True)
    numeric = all(p.record_id.isdecimal() and 0 < int(p.record_id) < 10**6 for p in enclave)
    person_ids = {
        one.record_id: int(one.record_id) if numeric else number
        for number, one in enumerate(enclave, start=1)
    }
    _Omop(omop, random.Random(seed)).write(enclave, person_ids, numeric)  # noqa: S311
    pq.write_table(_series(imaging, random.Random(seed + 1)), series)  # noqa: S311
    return SampleFiles(omop, series, person_ids)


class _Omop:
    """Writes the tables; `draw` decides everything."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self.folder, self.draw = folder, draw

    def write(
        self, people: Sequence[SamplePerson], person_ids: dict[str, int], numeric: bool
    ) -> None:
        ids = [person_ids[one.record_id] for one in people]
        births = [self._birth(one) for one in people]
        self._persons(people, ids, births, numeric)
        self._periods(ids, births)
        self._visits(ids, births)
        self._events(ids, births)
        self._save(
            "death",
            "PERSON_ID,DEATH_DATE,DEATH_DATETIME,DEATH_TYPE_CONCEPT_ID,CAUSE_CONCEPT_ID,"
            "CAUSE_SOURCE_VALUE,CAUSE_SOURCE_CONCEPT_ID".split(","),
            [
                (person, self._day(born), "", 32817, 0, "", 0)
                for person, born in self._some(ids, births, 0.04)
            ],
        )
        below = [(CHEST_XRAY, CHEST_XRAY, 0, 0), (CHEST_XRAY, CHEST_XRAY_CHILD, 1, 1)]
        header = "ANCESTOR_CONCEPT_ID DESCENDANT_CONCEPT_ID MIN_LEVELS_OF_SEPARATION"
        self._save("concept_ancestor", [*header.split(), "MAX_LEVELS_OF_SEPARATION"], below)

    def _birth(self, one: SamplePerson) -> dt.date:
        year = one.birth_year or 1970
        return dt.date(year, self.draw.randint(1, 12), self.draw.randint(1, 28))

    def _day(self, born: dt.date) -> dt.date:
        return born + dt.timedelta(self.draw.randint(0, max(1, (_LAST_DAY - born).days)))

    def _some(
        self, ids: Iterable[int], births: Iterable[dt.date], share: float
    ) -> list[tuple[int, dt.date]]:
        pairs = zip(ids, births, strict=True)
        return [pair for pair in pairs if self.draw.random() < share]

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.draw.getrandbits(128), version=4))

    def _persons(
        self,
        people: Sequence[SamplePerson],
        ids: Sequence[int],
        births: Sequence[dt.date],
        numeric: bool,
    ) -> None:
        header = [
            *("PERSON_ID", "GENDER_CONCEPT_ID", "YEAR_OF_BIRTH", "MONTH_OF_BIRTH", "DAY_OF_BIRTH"),
            *("date(birth_datetime,'unixepoch')", "RACE_CONCEPT_ID", "ETHNICITY_CONCEPT_ID"),
            *("LOCATION_ID", "PROVIDER_ID", "CARE_SITE_ID", "PERSON_SOURCE_VALUE"),
            *("GENDER_SOURCE_VALUE", "GENDER_SOURCE_CONCEPT_ID", "RACE_SOURCE_VALUE"),
        ]
        rows = []
        for one, person, born in zip(people, ids, births, strict=True):
            gender = {"f": _FEMALE, "m": _MALE}.get(one.sex or "", 0)
            known = one.birth_year is not None and self.draw.random() < 0.95
            parts = (born.month, born.day, born) if known else ("", "", "")
            source = self._uuid() if numeric else one.record_id
            letter = {"f": "F", "m": "M"}.get(one.sex or "", "")
            race, text = self.draw.choice([(8527, "white"), (8516, "black"), (8515, "asian")])
            places = (self.draw.randint(1, 99), "", "")
            rows.append(
                (person, gender, born.year, *parts, race, 0, *places, source, letter, 0, text)
            )
        self._save("person", header, rows, packed=True)

    def _periods(self, ids: Sequence[int], births: Sequence[dt.date]) -> None:
        strangers = [max(ids, default=0) + n for n in range(1, len(ids) // 5 + 1)]
        rows = [
            (number, person, born, _LAST_DAY, 44814724)
            for number, (person, born) in enumerate(
                [*zip(ids, births, strict=True), *((one, _LAST_DAY) for one in strangers)], start=1
            )
        ]
        header = [
            *("OBSERVATION_PERIOD_ID", "PERSON_ID"),
            "date(observation_period_start_date,'unixepoch')",
            "date(observation_period_end_date,'unixepoch')",
            "PERIOD_TYPE_CONCEPT_ID",
        ]
        self._save("observation_period", header, rows, packed=True)

    def _visits(self, ids: Sequence[int], births: Sequence[dt.date]) -> None:
        rows: list[Row] = []
        for person, born in self._some(ids, births, 0.5):
            day = self._day(born)
            rows.append((len(rows) + 500, person, 9201, day, day, day, day, 44818517, self._uuid()))
        days = [f"date(visit_{end}_{kind},'unixepoch')" for end in ("start", "end") for kind in _DT]
        header = ["VISIT_OCCURRENCE_ID", "PERSON_ID", "VISIT_CONCEPT_ID", *days]
        self._save(
            "visit_occurrence", [*header, "VISIT_TYPE_CONCEPT_ID", "VISIT_SOURCE_VALUE"], rows
        )
        self._visit_of = {row[1]: row[0] for row in rows}

    def _events(self, ids: Sequence[int], births: Sequence[dt.date]) -> None:
        everybody = list(zip(ids, births, strict=True))
        pictures = [
            (person, born, CHEST_XRAY_CHILD if self.draw.random() < 0.2 else CHEST_XRAY)
            for person, born in self._some(ids, births, 0.6)
        ]
        others = [(p, b, 4107731) for p, b in everybody]
        self._table(
            "procedure_occurrence",
            "PROCEDURE_OCCURRENCE_ID PERSON_ID PROCEDURE_CONCEPT_ID "
            "date(procedure_date,'unixepoch') PROCEDURE_TYPE_CONCEPT_ID VISIT_OCCURRENCE_ID "
            "PROVIDER_ID PROCEDURE_SOURCE_VALUE",
            pictures + others,
        )
        self._table(
            "condition_occurrence",
            "condition_occurrence_id person_id condition_concept_id condition_start_date "
            "condition_type_concept_id visit_occurrence_id provider_id condition_source_value",
            [(p, b, self.draw.choice(_CONDITIONS)) for p, b in everybody * 3],
        )
        self._table(
            "drug_exposure",
            "drug_exposure_id person_id drug_concept_id drug_exposure_start_date "
            "drug_type_concept_id visit_occurrence_id provider_id drug_source_value",
            [(p, b, self.draw.choice(_DRUGS)) for p, b in everybody * 2],
            more={"drug_exposure_end_date": ""},
        )
        self._table(
            "measurement",
            "MEASUREMENT_ID PERSON_ID MEASUREMENT_CONCEPT_ID measurement_date "
            "MEASUREMENT_TYPE_CONCEPT_ID VISIT_OCCURRENCE_ID PROVIDER_ID MEASUREMENT_SOURCE_VALUE",
            [(p, b, self.draw.choice(_MEASUREMENTS)) for p, b in everybody * 2],
            more={"VALUE_AS_NUMBER": 1.5},
        )
        self._table(
            "observation",
            "OBSERVATION_ID PERSON_ID OBSERVATION_CONCEPT_ID date(observation_date,'unixepoch') "
            "OBSERVATION_TYPE_CONCEPT_ID VISIT_OCCURRENCE_ID PROVIDER_ID OBSERVATION_SOURCE_VALUE",
            [(p, b, 4323208) for p, b in self._some(ids, births, 0.3)],
        )

    def _table(
        self,
        name: str,
        header: str,
        events: Iterable[tuple[int, dt.date, int]],
        more: dict[str, Any] | None = None,
    ) -> None:
        """Write events; most visit ids lead nowhere, a few texts belong to one person only."""
        rows = []
        for number, (person, born, concept) in enumerate(events, start=1):
            dangling = self.draw.randint(90_000, 99_999)
            visit = self._visit_of.get(person) if self.draw.random() < 0.1 else dangling
            text = self._uuid() if self.draw.random() < 0.02 else f"code-{concept}"
            day = self._day(born)
            rows.append((number, person, concept, day, 32817, visit or dangling, 0, text))
        extra = more or {}
        self._save(
            name,
            [*header.split(), *extra],
            [(*row, *extra.values()) for row in rows],
            packed=len(rows) > 1000,
        )

    def _save(
        self, name: str, header: Sequence[str], rows: Iterable[Row], *, packed: bool = False
    ) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        content = text.getvalue().encode()
        if packed:  # without a time in the header, so that the bytes repeat
            (self.folder / f"{name}.csv.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (self.folder / f"{name}.csv").write_bytes(content)


_DT = ("date", "datetime")


def _series(people: Sequence[SamplePerson], draw: random.Random) -> pa.Table:
    """Return an index like that of the Imaging Data Commons: 1 to 3 studies of 1 to 3 series."""
    rows: list[dict[str, Any]] = []
    for one in people:
        collection = draw.choice(["sample_chest", "sample_covid"])
        shift = dt.date(1900, 1, 1) + dt.timedelta(draw.randint(0, 500))
        for _ in range(draw.randint(1, 3)):
            study = _uid(draw)
            day = shift + dt.timedelta(draw.randint(0, 60))
            modality = draw.choices(["CR", "DX", "CT", "MR"], [5, 2, 2, 1])[0]
            part = draw.choices(["CHEST", "Chest", "ABDOMEN", None], [80, 5, 10, 5])[0]
            rows += [
                _series_row(one, collection, study, day, modality, part, number, draw)
                for number in range(1, draw.randint(1, 3) + 1)
            ]
    if len(people) > 1:  # one study that two subjects claim, as in the Imaging Data Commons
        claimed = {**rows[0], "PatientID": people[-1].record_id, "SeriesInstanceUID": _uid(draw)}
        rows.append({**claimed, "collection_id": rows[-1]["collection_id"]})
    columns = list(rows[0]) if rows else list(_SERIES_COLUMNS)
    made = {name: [row[name] for row in rows] for name in columns}
    types = {"instanceCount": pa.int64(), "series_size_MB": pa.float64()}
    return pa.table({name: pa.array(v, types.get(name, pa.string())) for name, v in made.items()})


_SERIES_COLUMNS = (
    *("collection_id", "PatientID", "SeriesInstanceUID", "StudyInstanceUID", "PatientAge"),
    *("PatientSex", "StudyDate", "StudyDescription", "BodyPartExamined", "Modality"),
    *("Manufacturer", "ManufacturerModelName", "SeriesDescription", "instanceCount"),
    *("series_aws_url", "series_size_MB"),
)


def _series_row(
    one: SamplePerson,
    collection: str,
    study: str,
    day: dt.date,
    modality: str,
    part: str | None,
    number: int,
    draw: random.Random,
) -> dict[str, Any]:
    folder = uuid.UUID(int=draw.getrandbits(128), version=4)
    sex = "O" if draw.random() < 0.005 else (one.sex or "O").upper()
    age = f"{min(max(2020 - one.birth_year, 0), 89):03d}Y" if one.birth_year else None
    # About one description in fifty names the subject, which a delivery must not repeat.
    description = f"PATIENT {one.record_id}" if draw.random() < 0.02 else f"{part or 'BODY'} AP"
    values = (
        *(collection, one.record_id, _uid(draw), study, age if draw.random() < 0.95 else None),
        *(sex, day.isoformat(), f"{part or 'BODY'} {modality}", part, modality),
        *(draw.choice(["CARESTREAM HEALTH", "GE MEDICAL SYSTEMS", None]), "DRX-REVOLUTION"),
        *(description, 300 if modality in ("CT", "MR") else number),
        *(f"s3://sample-open-data/{folder}/*", round(draw.uniform(1, 60), 6)),
    )
    return dict(zip(_SERIES_COLUMNS, values, strict=True))


def _uid(draw: random.Random) -> str:
    """Return a UID below 2.25, as DICOM PS3.5 B.2 makes them from a UUID."""
    return f"2.25.{draw.getrandbits(128)}"
