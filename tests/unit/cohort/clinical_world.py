"""
A small made OMOP world, the clinical criteria read out of it by plain loops, and random questions.

The loops follow docs/cohorts.md word by word and share nothing with sites.cohort.clinical: no
array, no query, no vocabulary table that a database joins.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from linkage.cohort.spec_clinical import ClinicalCriteria, ConceptCriterion
from sites.cohort.clinical import evaluate
from sites.cohort.omop import OmopSource

Row = dict[str, Any]

INT, F, D = pa.int32(), pa.float64(), pa.date32()
_EVENTS: dict[str, tuple[str, str, str, tuple[tuple[str, pa.DataType], ...]]] = {
    "condition": ("condition_occurrence", "condition_concept_id", "condition_start_date", ()),
    "procedure": ("procedure_occurrence", "procedure_concept_id", "procedure_date", ()),
    "drug": (
        "drug_exposure", "drug_concept_id", "drug_exposure_start_date",
        (("drug_exposure_end_date", D),),
    ),
    "measurement": (
        "measurement", "measurement_concept_id", "measurement_date",
        (("value_as_number", F), ("unit_concept_id", INT)),
    ),
    "observation": (
        "observation", "observation_concept_id", "observation_date",
        (("value_as_number", F), ("unit_concept_id", INT)),
    ),
    "visit": ("visit_occurrence", "visit_concept_id", "visit_start_date", (("visit_end_date", D),)),
    "death": ("death", "cause_concept_id", "death_date", ()),
}  # fmt: skip
CHILDREN = {1: (2, 3), 2: (4,), 5: (6,)}
"""Concepts 1 to 8: 4 is below 2, 2 and 3 below 1, 6 below 5; 7 and 8 stand alone."""


@dataclass(frozen=True)
class World:
    """Tables by name, the units of some persons, and the days of their studies by unit."""

    tables: dict[str, pa.Table]
    among: dict[int, str]
    imaging_days: dict[str, tuple[dt.date, ...]]

    def rows(self, table: str) -> list[Row]:
        return self.tables[table].to_pylist()  # type: ignore[no-any-return]

    def write(self, folder: Path) -> Path:
        """Write one Parquet file a table."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            pq.write_table(table, folder / f"{name}.parquet")
        return folder


def make_world(seed: int, persons: int = 60) -> World:
    """Draw a world: missing parts of dates, undated rows, persons who do not exist, twins."""
    draw = random.Random(seed)
    tables = {"person": _persons(draw, persons), "concept_ancestor": _ancestors()}
    for domain in _EVENTS:
        tables[_EVENTS[domain][0]] = _events(draw, domain, persons)
    among = {n: f"unit-{draw.randint(1, persons):03d}" for n in range(1, persons + 9)}
    days = {
        unit: tuple(_day(draw) for _ in range(draw.choice((0, 1, 1, 2, 5))))
        for unit in sorted(set(among.values()))
        if draw.random() < 0.8
    }
    return World(tables, among, {**days, "unit-of-nobody": (dt.date(2010, 1, 1),)})


def _day(draw: random.Random) -> dt.date:
    return dt.date(2010, 1, 1) + dt.timedelta(days=draw.randint(0, 90))


def _persons(draw: random.Random, count: int) -> pa.Table:
    rows = []
    for n in range(1, count + 1):
        when = dt.datetime(draw.randint(1940, 2000), draw.randint(1, 12), draw.randint(1, 28))
        rows.append(
            {
                "person_id": n,
                "gender_concept_id": draw.choice((8532, 8507, 8507, 0, 8551)),
                "year_of_birth": draw.choice((when.year, when.year, None)),
                "month_of_birth": draw.choice((when.month, when.month, None)),
                "day_of_birth": draw.choice((when.day, when.day, None)),
                "birth_datetime": draw.choice((when, None, None)),
                "race_concept_id": draw.choice((8527, 8516, 0)),
                "ethnicity_concept_id": draw.choice((38003563, 38003564)),
            }
        )
    kinds = dict.fromkeys(rows[0], INT) | {"birth_datetime": pa.timestamp("us")}
    return pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))


def _events(draw: random.Random, domain: str, persons: int) -> pa.Table:
    table, concept, date, more = _EVENTS[domain]
    rows = []
    for n in range(persons * 3):
        row: Row = {
            f"{table}_id": n,
            "person_id": draw.randint(1, persons + 4),
            concept: draw.choice((0, 1, 2, 3, 4, 5, 6, 7, 8)),
            date: None if draw.random() < 0.03 else _day(draw),
            concept.replace("concept", "type_concept"): 0,
        }
        if domain == "death":
            del row["death_id"]
        for name, kind in more:
            values = {
                F: draw.choice((None, 0.0, 1.0, 1.5, 2.0)),
                INT: draw.choice((None, 0, 9, 10)),
            }
            row[name] = _day(draw) if kind == D else values[kind]
        rows.append(row)
    kinds = dict.fromkeys(rows[0], INT) | {date: D} | dict(more)
    return pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))


def _ancestors() -> pa.Table:
    pairs = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (2, 4), (5, 6), (7, 7)]
    columns = {"ancestor_concept_id": INT, "descendant_concept_id": INT}
    rows = [dict(zip(columns, pair, strict=True)) for pair in pairs]
    return pa.Table.from_pylist(rows, pa.schema(list(columns.items())))


def reference(
    asked: ClinicalCriteria, world: World, among: Mapping[int, str]
) -> tuple[list[Row], list[int]]:
    """Return the persons who meet all, by unit, and how many are left after each step."""
    people: dict[str, list[Row]] = {}
    for person in sorted(world.rows("person"), key=lambda row: int(row["person_id"])):
        if person["person_id"] in among:
            people.setdefault(among[person["person_id"]], []).append(person)
    alive = sorted(people)
    steps = [len(alive)]
    studies = {unit: sorted(world.imaging_days.get(unit, ())) for unit in alive}
    if asked.needs_imaging_dates:
        alive = [unit for unit in alive if studies[unit]]
        steps.append(len(alive))
    records = {
        unit: [
            _records(one, world, {p["person_id"] for p in people[unit]}, studies[unit])
            for one in asked.concepts
        ]
        for unit in people
    }
    for i, one in enumerate(asked.concepts):
        alive = [unit for unit in alive if _has(one, records[unit][i]) != one.exclude]
        steps.append(len(alive))
    described = {
        unit: _described(asked, unit, people[unit][0], studies[unit], records[unit])
        for unit in people
    }
    if age := asked.age:
        alive = [
            unit
            for unit in alive
            if (years := described[unit]["age"]) is not None
            and (0 if age.min is None else age.min)
            <= years
            <= (999 if age.max is None else age.max)
        ]
        steps.append(len(alive))
    for name in ("sex", "race", "ethnicity"):
        if wanted := getattr(asked, name):
            alive = [unit for unit in alive if described[unit][name] in wanted]
            steps.append(len(alive))
    return [described[unit] for unit in alive], steps


def _below(concept: int) -> set[int]:
    return {concept}.union(*(_below(child) for child in CHILDREN.get(concept, ())))


def _records(
    one: ConceptCriterion, world: World, persons: set[int], studies: list[dt.date]
) -> list[dt.date | None]:
    """Return the day of every record that meets a criterion."""
    table, concept, date, _ = _EVENTS[one.domain]
    wanted: set[int] = set()
    for excluded in (False, True):
        for item in one.items:
            if item.exclude == excluded:
                named = _below(item.concept_id) if item.descendants else {item.concept_id}
                wanted = wanted - named if excluded else wanted | named
    found = []
    for row in world.rows(table):
        if row["person_id"] not in persons or (one.items and row[concept] not in wanted):
            continue
        if one.unit and row["unit_concept_id"] not in one.unit:
            continue
        if one.value and not _within(row["value_as_number"], one.value.min, one.value.max):
            continue
        if window := one.days_from_imaging:
            day = row[date]
            gaps = [(day - study).days for study in studies] if day else []
            if not any(_within(gap, window.min, window.max) for gap in gaps):
                continue
        found.append(row[date])
    return found


def _within(value: float | None, low: float | None, high: float | None) -> bool:
    if value is None:
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def _has(one: ConceptCriterion, days: list[dt.date | None]) -> bool:
    if one.at_least == 1:
        return bool(days)
    return len({day for day in days if day}) >= one.at_least


def _described(
    asked: ClinicalCriteria,
    unit: str,
    person: Row,
    studies: list[dt.date],
    records: list[list[dt.date | None]],
) -> Row:
    index = None
    if asked.index == "imaging":
        index = studies[0] if studies else None
    elif asked.index_concept:
        at = asked.concepts.index(asked.index_concept)
        if _has(asked.index_concept, records[at]):
            index = min((day for day in records[at] if day), default=None)
    when = asked.age_at
    day = studies[0] if when == "imaging" and studies else index if when == "index" else None
    if isinstance(when, dt.date):
        day = when
    return {
        "unit": unit,
        "person_id": person["person_id"],
        "sex": {8532: "female", 8507: "male"}.get(person["gender_concept_id"], "unknown"),
        "age": _age(person, day),
        "index_date": index,
        "race": person["race_concept_id"],
        "ethnicity": person["ethnicity_concept_id"],
    }


def _age(person: Row, at: dt.date | None) -> int | None:
    if at is None or person["year_of_birth"] is None:
        return None
    birth, (month, day) = person["birth_datetime"], (7, 1)
    if known := person["month_of_birth"] or (birth.month if birth else None):
        month, day = known, person["day_of_birth"] or (birth.day if birth else 15)
    return int(at.year - person["year_of_birth"] - ((at.month, at.day) < (month, day)))


def assert_agrees(asked: ClinicalCriteria, world: World, source: OmopSource, *, all_: bool) -> None:
    """The source and the loops say the same of all persons, or of those in world.among."""
    everyone = {p["person_id"]: str(p["person_id"]) for p in world.rows("person")}
    persons, steps = reference(asked, world, everyone if all_ else world.among)
    days = world.imaging_days if asked.needs_imaging_dates else None
    found = evaluate(asked, source, among=None if all_ else world.among, imaging_days=days)
    assert found.persons.to_pylist() == persons
    assert [step.subjects for step in found.attrition.steps] == steps
    gone = [row["step"] for row in found.everyone.to_pylist() if row["step"] is not None]
    lost = [before - after for before, after in itertools.pairwise(steps)]
    assert [gone.count(n) for n in range(1, len(steps))] == lost


_concept = st.integers(1, 8)
_day_range = st.tuples(st.none() | st.integers(-60, 60), st.none() | st.integers(-60, 60))


def _range(values: tuple[float | None, float | None]) -> dict[str, float] | None:
    low, high = values
    if low is not None and high is not None and low > high:
        low, high = high, low
    bounds = {name: one for name, one in (("min", low), ("max", high)) if one is not None}
    return bounds or None


@st.composite
def _one_concept(draw: st.DrawFn) -> Row:
    domain = draw(st.sampled_from(sorted(_EVENTS)))
    one: Row = {"domain": domain, "exclude": draw(st.integers(0, 3)) == 0}
    kind = draw(st.sampled_from(("ids", "set", "any"))) if domain == "death" else "ids"
    kind = draw(st.sampled_from((kind, "set")))
    if kind == "ids":
        one["concept_id"] = draw(st.lists(_concept, min_size=1, max_size=3))
        one["descendants"] = draw(st.booleans())
    if kind == "set":
        item = st.fixed_dictionaries(
            {"concept_id": _concept, "descendants": st.booleans(), "exclude": st.booleans()}
        )
        first = {"concept_id": draw(_concept), "descendants": True}
        one["concept_set"] = [first, *draw(st.lists(item, max_size=3))]
    if domain in ("measurement", "observation"):
        number = st.none() | st.sampled_from((0.0, 1.0, 1.5, 2.0))
        one["value"] = _range(draw(st.tuples(number, number)))
        one["unit"] = draw(st.sampled_from(((), (), (9,), (9, 10))))
    one["at_least"] = draw(st.sampled_from((1, 1, 1, 2, 3)))
    one["days_from_imaging"] = draw(st.none() | _day_range.map(_range))
    return one


@st.composite
def questions(draw: st.DrawFn) -> ClinicalCriteria:
    """Draw clinical criteria over the concepts of a world."""
    asked: Row = {"concepts": draw(st.lists(_one_concept(), max_size=3))}
    asked["sex"] = draw(st.sampled_from(((), (), ("female",), ("male", "unknown"))))
    asked["race"] = draw(st.sampled_from(((), (), (8527,), (8516, 8527))))
    asked["ethnicity"] = draw(st.sampled_from(((), (), (), (38003563,))))
    asked["index"] = draw(st.sampled_from(("concept", "imaging")))
    dated = asked["index"] == "imaging" or not all(one["exclude"] for one in asked["concepts"])
    at = ["imaging", "2010-02-28", *(["index"] * 2 if dated else [])]
    years = st.none() | st.integers(10, 70)
    asked["age"] = draw(st.none() | st.tuples(years, years).map(_range).map(lambda one: one or {}))
    if asked["age"] is not None:
        asked["age"]["at"] = draw(st.sampled_from(at))
    if not any((asked["concepts"], asked["sex"], asked["race"], asked["ethnicity"], asked["age"])):
        asked["any"] = True
    return ClinicalCriteria.model_validate(asked)


def _one(domain: str, concept: int = 1, **more: Any) -> Row:
    return {"concepts": [{"domain": domain, "concept_id": [concept], **more}]}


_SET = [
    {"concept_id": 1, "descendants": True},
    {"concept_id": 2, "descendants": True, "exclude": True},
]
CASES: dict[str, Row] = {
    "everybody": {"any": True},
    "descendants": _one("condition"),
    "no descendants": _one("condition", descendants=False),
    "excluded": _one("drug", 5, exclude=True),
    "set with exclusion": {"concepts": [{"domain": "procedure", "concept_set": _SET}]},
    "value and unit": _one("measurement", value={"min": 1, "max": 1.5}, unit=[9]),
    "value below": _one("observation", value={"max": 1.5}, exclude=True),
    "visit on several days": _one("visit", at_least=2),
    "not on several days": _one("visit", at_least=2, exclude=True),
    "death of any cause": {"concepts": [{"domain": "death"}]},
    "death by a cause": _one("death", 5),
    "on the day of the image": _one("condition", days_from_imaging={"min": 0, "max": 0}),
    "after the image": _one("condition", 5, days_from_imaging={"min": 1}),
    "before the image": _one("drug", days_from_imaging={"max": -1}, at_least=2),
    "never around the image": _one(
        "measurement", days_from_imaging={"min": -30, "max": 30}, exclude=True
    ),
    "age at the first image": {"age": {"min": 40, "max": 60, "at": "imaging"}},
    "age on a day": {"age": {"min": 20, "at": "2010-07-01"}},
    "index at the image": {**_one("condition", at_least=2), "index": "imaging"},
    "first record around the image": {
        **_one("procedure", days_from_imaging={"min": -20, "max": 20}),
        "age": {"max": 50},
    },
    "sex, race, ethnicity": {"sex": "unknown", "race": [8527, 8516], "ethnicity": 38003563},
}
"""One question a criterion and a boundary, for every database alike."""
