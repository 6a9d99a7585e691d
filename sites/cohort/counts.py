"""
Answer a question: how many persons have fitting images and meet the clinical criteria.

Made in the enclave, on persons, from the question IDs that the imaging party sealed to it. Only
what `Counts.to_json` holds may leave: every number in it went through the small-cell rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sites.cohort.attrition import Step
from sites.cohort.clinical import evaluate
from sites.cohort.disclosure import CellRule, Shown
from sites.cohort.omop import OmopSource
from sites.cohort.spec import ClinicalCriteria

ROUNDING = 5
"""Counts of a question are rounded to multiples of 5: two questions give no exact difference."""

SEXES = ("female", "male", "unknown")
_BANDS = ((18, 29), *((low, low + 9) for low in range(30, 90, 10)))
AGE_BANDS = ("0-17", *(f"{low}-{high}" for low, high in _BANDS), "90 and over", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """
    The answer to one question, fit to be read. Counts are of persons, after the small-cell rule.

    sex, age: one-way tables, None where even the table would tell too much or no age was defined.
    attrition: (criterion, persons left). exact: the true number, for the enclave only; it is not
    in to_json().
    """

    minimum_cell: int
    rounding: int
    persons: Shown
    sex: dict[str, Shown] | None
    age: dict[str, Shown] | None
    attrition: tuple[tuple[str, Shown], ...]
    notes: tuple[str, ...]
    exact: int

    def to_json(self) -> dict[str, Any]:
        """Return what may leave the enclave."""
        return {
            "minimum_cell": self.minimum_cell,
            "rounding": self.rounding,
            "persons": self.persons,
            "sex": self.sex,
            "age": self.age,
            "attrition": [{"step": label, "persons": shown} for label, shown in self.attrition],
            "notes": list(self.notes),
        }


def answer_counts(
    qualifying: Collection[str],
    question_ids: Mapping[int, str],
    criteria: ClinicalCriteria,
    source: OmopSource,
    *,
    minimum_cell: int,
    rounding: int = ROUNDING,
) -> Counts:
    """
    Count the persons who fit both halves of a specification.

    qualifying: question IDs that fit at the imaging party. question_ids: this enclave's question
    ID by OMOP person_id; two OMOP persons with one question ID are one person.
    The same input always gives the same answer. Raises SourceRefused for an unusable source.
    """
    rule = CellRule(minimum_cell, rounding)
    fits = set(qualifying)
    among = {person: name for person, name in question_ids.items() if name in fits}
    result = evaluate(criteria, source, among=among)
    steps = [
        Step(label="persons of the enclave", subjects=len(set(question_ids.values()))),
        Step(label="who have images that fit", subjects=len(fits & set(question_ids.values()))),
        *result.attrition.steps,
    ]
    shown = rule.show_steps([step.subjects for step in steps])
    sexes = result.persons["sex"].to_pylist()
    ages = [age_band(age) for age in result.persons["age"].to_pylist()]
    return Counts(
        minimum_cell=minimum_cell,
        rounding=rounding,
        persons=rule.show(len(sexes)),
        sex=one_way(sexes, SEXES, rule),
        age=one_way(ages, AGE_BANDS, rule) if criteria.age_at else None,
        attrition=tuple((step.label, one) for step, one in zip(steps, shown, strict=True)),
        notes=result.attrition.notes,
        exact=len(sexes),
    )


def one_way(
    values: Collection[str], categories: Collection[str], rule: CellRule
) -> dict[str, Shown] | None:
    """Return how many values each category has, as it may be read; None: not at all."""
    counted = Counter(values)
    return rule.show_table({category: counted[category] for category in categories})


def age_band(age: int | None) -> str:
    """Return the band of an age in completed years; impossible ages are "unknown"."""
    if age is None or not 0 <= age <= 130:
        return "unknown"
    if age < 18:
        return AGE_BANDS[0]
    if age >= 90:
        return "90 and over"
    return next(f"{low}-{high}" for low, high in _BANDS if low <= age <= high)
