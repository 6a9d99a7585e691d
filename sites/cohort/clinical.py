"""
The enclave's side: which of its persons meet the clinical criteria.

    result = evaluate(criteria, source, among={person_id: unit}, imaging_days={unit: (day, ...)})
    result.persons        unit, person_id, sex, age ... of those who meet all
    result.everyone       the same of all who were asked for, and the step at which they left
    result.attrition      persons after every criterion

Order: the persons asked for that exist, with a dated image where any criterion counts from one,
each concept as written, age, sex, race, ethnicity. The database finds and groups the records; one
row a person comes back, and the rest is the same arithmetic whatever the database.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkage.cohort.spec_clinical import ClinicalCriteria, ConceptCriterion
from linkage.cohort.spec_words import clinical_in_words, concept_in_words
from linkage.errors import CohortRefused, SourceRefused
from sites.cohort import cdm
from sites.cohort.attrition import Attrition, Step
from sites.cohort.concepts import among as among_concepts
from sites.cohort.concepts import concepts_of, vocabulary_notes
from sites.cohort.omop import OmopSource
from sites.cohort.people import Days, Flags, People, StudyDays, asked_people
from sites.cohort.tables import no_values_in_errors

ImagingDays = Mapping[str, tuple[dt.date, ...]]
"""By unit, the days of the studies that fit, in the enclave's calendar."""


@dataclass(frozen=True, slots=True, eq=False)
class ClinicalResult:
    """
    Who meets the clinical criteria.

    persons: Arrow table by ascending unit: unit, string; person_id int64, the unit's smallest;
    sex "female", "male" or "unknown"; age int64, completed years at the specification's reference,
    null where there is none or the birth year is missing; index_date date32, null where nothing
    dates an index event; race, ethnicity int64, concept ids as the source has them.
    everyone: the same of all persons asked for that exist, and step int64: the index in
    attrition.steps at which the person left, null for those in `persons`.
    attrition: exact, not yet suppressed; its notes are for the researcher.
    """

    persons: pa.Table
    everyone: pa.Table
    attrition: Attrition


def evaluate(
    criteria: ClinicalCriteria,
    source: OmopSource,
    *,
    among: Mapping[int, str] | None = None,
    imaging_days: ImagingDays | None = None,
) -> ClinicalResult:
    """
    Evaluate the clinical half of a specification.

    among: by person_id, the unit that the person is (a question ID, a cohort ID): two OMOP persons
    with one unit are one person, who meets a criterion if either does, and whose sex, race and
    birth date are those of the smaller person_id. Default: every OMOP person, each its own unit.
    imaging_days: by unit, needed where criteria.needs_imaging_dates. Units without a day then
    meet nothing: not even an exclusion can be shown for them.
    Raises SourceRefused where a table is needed that the source has not, CohortRefused where days
    of images are needed and not given.
    """
    if criteria.needs_imaging_dates and imaging_days is None:
        raise CohortRefused(
            file="the question's clinical part",
            line=0,
            key="",
            rule="counts days from an image, and no dates of images came with the answer",
            hint="the imaging commons must declare true dates or days from an index event",
        )
    with no_values_in_errors("clinical criteria"):
        return _Evaluation(criteria, source, among, imaging_days or {}).run()


class _Evaluation:
    """One evaluation. alive: who still meets everything, by number of the unit."""

    def __init__(
        self,
        criteria: ClinicalCriteria,
        source: OmopSource,
        among: Mapping[int, str] | None,
        imaging_days: ImagingDays,
    ) -> None:
        self._criteria, self._source = criteria, source
        self._people: People = asked_people(source, among)
        self._members = source.person_rows(
            {"person_id": self._people.member_ids, "unit": self._people.member_units}
        )
        self._images = StudyDays.of_units(self._people.units, imaging_days)
        self._alive: Flags = np.ones(len(self._people.units), dtype=np.bool_)
        self._left = np.full(len(self._alive), -1, dtype=np.int64)
        self._steps: list[Step] = []
        self._notes: list[str] = []
        self._windows: dict[tuple[int | None, int | None], Any] = {}

    def run(self) -> ClinicalResult:
        """Apply every criterion in order."""
        asked, people = self._criteria, self._people
        self._step("who are in the OMOP table person", self._alive, "not in the OMOP table person")
        if asked.needs_imaging_dates:
            dated = self._images.first.known
            self._step("whose images have a date", dated, "no usable date of an image")
        index = self._images.first if asked.index == "imaging" else Days.unknown(len(self._alive))
        for one in asked.concepts:
            meets, first = self._meeting(one)
            if asked.index == "concept" and one is asked.index_concept:
                index = first
            self._step(concept_in_words(one), ~meets if one.exclude else meets)
        age = people.age_at(self._reference(index))
        if asked.age:
            low, high = asked.age.min, asked.age.max
            fits = age.known & (age.values >= (0 if low is None else low))
            self._step(self._words("age "), fits if high is None else fits & (age.values <= high))
        named: list[tuple[str, tuple[Any, ...], pa.Array]] = [
            ("sex ", asked.sex, people.sex),
            ("race ", asked.race, people.race),
            ("ethnicity ", asked.ethnicity, people.ethnicity),
        ]
        for word, wanted, found in named:
            if wanted:
                fits = pc.is_in(found, value_set=pa.array(wanted, found.type))
                self._step(self._words(word), fits.to_numpy(zero_copy_only=False))
        return self._result(age.to_arrow(pa.int64()), index.to_arrow(pa.date32()))

    def _result(self, age: pa.Array, index_date: pa.Array) -> ClinicalResult:
        people = self._people
        everyone = pa.table(
            {
                "unit": people.units,
                "person_id": people.person_id,
                "sex": people.sex,
                "age": age,
                "index_date": index_date,
                "race": people.race,
                "ethnicity": people.ethnicity,
                "step": pa.array(self._left, pa.int64(), mask=self._alive),
            }
        )
        persons = everyone.filter(pa.array(self._alive)).drop_columns(["step"])
        attrition = Attrition(
            side="clinical", steps=tuple(self._steps), notes=tuple(dict.fromkeys(self._notes))
        )
        return ClinicalResult(persons, everyone, attrition)

    def _step(self, label: str, fits: Flags, reason: str = "") -> None:
        self._left[self._alive & ~fits] = len(self._steps)
        self._alive = self._alive & fits
        count = int(self._alive.sum())
        reason = reason or f"criterion not met: {label}"
        self._steps.append(Step(label=label, subjects=count, reason=reason))

    def _words(self, start: str) -> str:
        words = clinical_in_words(self._criteria)
        return next((line for line in words if line.startswith(start)), start.strip())

    def _reference(self, index: Days) -> Days:
        """Return the day at which each person's age is taken."""
        when = self._criteria.age_at
        if isinstance(when, dt.date):
            return Days.all_on(when, len(self._alive))
        if when == "imaging":
            return self._images.first
        return index if when == "index" else Days.unknown(len(self._alive))

    def _meeting(self, one: ConceptCriterion) -> tuple[Flags, Days]:
        """Return who meets a concept criterion, `exclude` apart, and their first such record."""
        self._notes += vocabulary_notes(one, self._source)
        found = matching_records(one, self._source).inner_join(self._members, "person_id")
        if one.days_from_imaging:
            bounds = one.days_from_imaging.min, one.days_from_imaging.max
            within = self._window(*bounds)
            found = found.inner_join(
                within, [found.unit == within.of, found.day >= within.low, found.day <= within.high]
            )
        days = found.day.nunique() if one.at_least > 1 else found.unit.count()
        grouped = found.group_by("unit").agg(first=found.day.min(), days=days)
        rows = grouped.filter(grouped.days >= one.at_least).to_pyarrow()
        meets = np.zeros(len(self._alive), dtype=np.bool_)
        units = rows["unit"].to_numpy()
        meets[units] = True
        return meets, Days.scattered(units, rows["first"].combine_chunks(), len(self._alive))

    def _window(self, low: int | None, high: int | None) -> Any:
        """Return, per study day of a unit, the days that lie `low` to `high` days from it."""
        if (low, high) not in self._windows:
            self._windows[low, high] = self._source.person_rows(self._images.around(low, high))
        return self._windows[low, high]


def matching_records(one: ConceptCriterion, source: OmopSource) -> Any:
    """
    Return person_id and day (date) of every record that meets a concept criterion.

    Days from an image and at_least are not looked at: they concern persons, not records.
    """
    name, concept, date = cdm.DOMAINS[one.domain]
    needed = ["value_as_number"] if one.value else []
    needed += ["unit_concept_id"] if one.unit else []
    needed += [concept] if one.items else []
    if not source.has(name):
        raise SourceRefused(
            file=name, rule="is not in the source", hint="drop that criterion, or add the table"
        )
    for column in needed:
        if column in source.absent(name):
            raise SourceRefused(
                file=name,
                rule=f"has no column {column!r}, and a criterion asks for it",
                hint="drop that criterion, or add the column",
            )
    events = source.table(name)
    found = events
    if one.items:
        found = found.filter(
            among_concepts(events[concept], concepts_of(one.items, source), source)
        )
    if one.value and one.value.min is not None:
        found = found.filter(events.value_as_number >= one.value.min)
    if one.value and one.value.max is not None:
        found = found.filter(events.value_as_number <= one.value.max)
    if one.unit:
        found = found.filter(events.unit_concept_id.isin(one.unit))
    return found.select("person_id", day=found[date])
