"""
The enclave's side: which of its persons meet the clinical criteria.

    result = evaluate(criteria, source, among={person_id: unit})
    result.persons        unit, person_id, sex, age, index_date of those who meet all
    result.attrition      persons after every criterion

Order: the persons asked for that exist, each concept as written, age, sex. Dates of images play no
part: imaging commons shift them, so "before" and "after" between image and diagnosis can't be
asked.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import pyarrow as pa

from linkage.errors import SourceRefused
from sites.cohort import cdm
from sites.cohort.attrition import Attrition, Step
from sites.cohort.omop import OmopSource
from sites.cohort.spec import (
    AgeCriterion,
    ClinicalCriteria,
    ConceptCriterion,
    clinical_in_words,
    concept_in_words,
)
from sites.cohort.tables import count_of, no_values_in_errors


@dataclass(frozen=True, slots=True, eq=False)
class ClinicalResult:
    """
    Who meets the clinical criteria.

    persons: Arrow table by ascending unit: unit, string; person_id int64, the unit's smallest;
    sex "female", "male" or "unknown"; age int64, completed years at the specification's reference,
    null where there is none or the birth year is missing; index_date date32, null where no concept
    was asked. attrition: exact, not yet suppressed; its notes are for the researcher.
    """

    persons: pa.Table
    attrition: Attrition


def evaluate(
    criteria: ClinicalCriteria, source: OmopSource, *, among: Mapping[int, str] | None = None
) -> ClinicalResult:
    """
    Evaluate the clinical half of a specification.

    among: by person_id, the unit that the person is (a question ID, a cohort ID): two OMOP persons
    with one unit are one person, who meets a criterion if either does, and whose sex and birth
    date are those of the smaller person_id. Default: every OMOP person, each its own unit.
    Raises SourceRefused where a table is needed that the source has not.
    """
    with no_values_in_errors("clinical criteria"):
        return _evaluate(criteria, source, among)


def _evaluate(
    criteria: ClinicalCriteria, source: OmopSource, among: Mapping[int, str] | None
) -> ClinicalResult:
    members = _members(source, among)
    persons = _described(members, source.table("person"))
    notes: list[str] = []
    steps = [_step("who are in the OMOP table person", persons, "not in the OMOP table person")]
    for one in criteria.concepts:
        found = matching_records(one, source, notes).inner_join(members, "person_id")
        join = persons.anti_join if one.exclude else persons.semi_join
        persons = join(found, "unit")
        steps.append(_step(concept_in_words(one), persons))
    persons = _with_age(_with_index(persons, members, criteria, source), criteria)
    if criteria.age:
        persons = persons.filter(_age_fits(persons.age, criteria.age))
        steps.append(_step(_age_words(criteria), persons))
    if criteria.sex:
        persons = persons.filter(persons.sex.isin(criteria.sex))
        steps.append(_step(f"sex is {' or '.join(criteria.sex)}", persons))
    columns = persons.select("unit", "person_id", "sex", "age", "index_date").order_by("unit")
    attrition = Attrition(side="clinical", steps=tuple(steps), notes=tuple(notes))
    return ClinicalResult(columns.to_pyarrow(), attrition)


def _members(source: OmopSource, among: Mapping[int, str] | None) -> Any:
    """Return person_id and unit of the persons asked for that exist."""
    persons = source.table("person")
    if among is None:
        return persons.select(person_id=persons.person_id, unit=persons.person_id.cast("string"))
    asked = source.person_rows(
        {
            "person_id": pa.array(list(among), pa.int64()),
            "unit": pa.array(list(among.values()), pa.string()),
        }
    )
    return asked.semi_join(persons, "person_id")


def matching_records(one: ConceptCriterion, source: OmopSource, notes: list[str]) -> Any:
    """
    Return person_id and day (date) of every record that meets a concept criterion.

    Adds a note where no record and no line of the vocabulary knows a concept: it may be mistyped.
    """
    name, concept, date = cdm.DOMAINS[one.domain]
    if not source.has(name):
        raise SourceRefused(
            file=name, rule="is not in the source", hint="drop that criterion, or add the table"
        )
    events = source.known(name)
    fits = events[concept].isin(one.concept_id)
    if one.descendants:
        below = _descendants(one.concept_id, source)
        fits = fits | events[concept].isin(below.descendant_concept_id)
    found = events.filter(fits)
    if count_of(found.limit(1).count()) == 0:
        notes.append(
            f"no {one.domain} record has concept {', '.join(map(str, one.concept_id))}"
            f"{' or a descendant' if one.descendants else ''}: check the concept id and the domain"
        )
    return found.select("person_id", day=found[date])


def _descendants(concepts: tuple[int, ...], source: OmopSource) -> Any:
    if not source.has("concept_ancestor"):
        raise SourceRefused(
            file="concept_ancestor",
            rule="is not in the source, and descendants were asked for",
            hint="load the vocabulary, or ask with descendants = false",
        )
    ancestors = source.table("concept_ancestor")
    return ancestors.filter(ancestors.ancestor_concept_id.isin(concepts))


def _described(members: Any, persons: Any) -> Any:
    """Return one row a unit: sex and birth date, with what stands for a missing part of it."""
    gender = persons.gender_concept_id
    sex = ibis.cases(
        (gender == cdm.FEMALE, "female"), (gender == cdm.MALE, "male"), else_="unknown"
    )
    month = persons.month_of_birth.coalesce(persons.birth_datetime.month().cast("int64"))
    day = persons.day_of_birth.coalesce(persons.birth_datetime.day().cast("int64"))
    described = persons.select(
        person_id=persons.person_id,
        sex=sex,
        birth_year=persons.year_of_birth,
        birth_month=month.coalesce(7),
        birth_day=ibis.ifelse(month.isnull(), 1, day.coalesce(15)),
    )
    first = members.group_by("unit").agg(person_id=members.person_id.min())
    return first.inner_join(described, "person_id")


def _with_index(persons: Any, members: Any, criteria: ClinicalCriteria, source: OmopSource) -> Any:
    if criteria.index_concept is None:
        return persons.mutate(index_date=ibis.null("date"))
    records = matching_records(criteria.index_concept, source, [])
    of_units = records.inner_join(members, "person_id")
    first = of_units.group_by("unit").agg(index_date=of_units.day.min())
    return persons.left_join(first, "unit").drop("unit_right")


def _with_age(persons: Any, criteria: ClinicalCriteria) -> Any:
    """Add age in completed years: a year less while the birthday of that year is still to come."""
    when = criteria.age_at
    if when is None:
        return persons.mutate(age=ibis.null("int64"))
    at = persons.index_date if not isinstance(when, dt.date) else ibis.literal(when)
    to_come = at.month() * 100 + at.day() < persons.birth_month * 100 + persons.birth_day
    years = at.year().cast("int64") - persons.birth_year
    return persons.mutate(age=ibis.ifelse(to_come, years - 1, years))


def _age_fits(age: Any, asked: AgeCriterion) -> Any:
    low = 0 if asked.min is None else asked.min
    fits = age >= low
    return fits if asked.max is None else fits & (age <= asked.max)


def _age_words(criteria: ClinicalCriteria) -> str:
    return next(line for line in clinical_in_words(criteria) if line.startswith("age "))


def _step(label: str, persons: Any, reason: str = "") -> Step:
    count = count_of(persons.unit.nunique())
    return Step(label=label, subjects=count, reason=reason or f"criterion not met: {label}")
