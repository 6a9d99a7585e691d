"""The clinical half of a cohort specification, which only the enclave sees."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from linkage.cohort import circe
from linkage.cohort.spec_values import DayRange, NumberRange, as_list, something
from linkage.strict_toml import Fault, FaultHere, Strict

Domain = Literal["condition", "procedure", "drug", "measurement", "observation", "visit", "death"]
Sex = Literal["female", "male", "unknown"]
LARGEST_CONCEPT = 2**31 - 1
LARGEST_AGE = 130
MEANT = {
    "condition": "diagnosis diagnoses disease conditions condition_occurrence",
    "procedure": "procedures surgery operation procedure_occurrence",
    "drug": "drugs medication medications medicine prescription drug_exposure",
    "measurement": "lab labs laboratory measurements test",
    "observation": "observations",
    "visit": "visits encounter encounters admission visit_occurrence",
    "death": "deaths died mortality",
}
"""Words that people write for an OMOP domain, by the domain that they mean."""


def _domain(value: Any) -> Any:
    """Refuse what is no domain of a criterion, with the one that is meant."""
    if value in get_args(Domain):
        return value
    said = value.lower() if isinstance(value, str) else ""
    meant = [domain for domain, words in MEANT.items() if said in words.split()]
    raise Fault(
        "is no domain of OMOP",
        (f'write "{meant[0]}"; ' if meant else "") + f"known here: {', '.join(get_args(Domain))}",
    )


def _concept_numbers(value: Any) -> Any:
    """Refuse a source code, or a name, where a number of the OMOP vocabulary is meant."""
    for one in as_list(value) if isinstance(value, str | int | list | tuple) else []:
        if isinstance(one, str) and not one.strip().isdigit():
            raise Fault(
                f"{one!r} is no concept id",
                "OMOP numbers every concept: look the code or name up in the vocabulary (ATLAS,"
                " Search) and write the id of its standard concept, as in 4163872",
            )
    return as_list(value)


def _concepts(value: tuple[int, ...]) -> tuple[int, ...]:
    if not all(0 < concept <= LARGEST_CONCEPT for concept in value):
        raise Fault(
            "a concept id is a whole number from 1",
            "0 means 'no matching concept' in OMOP and can't be asked for",
        )
    return tuple(sorted(set(value)))


Concepts = Annotated[
    tuple[int, ...],
    Field(max_length=5000),
    BeforeValidator(_concept_numbers),
    AfterValidator(_concepts),
]


class ConceptItem(Strict):
    """
    One item of a concept set. descendants: concepts below it in concept_ancestor too. exclude:
    taken out of the set again, with its descendants if so said; that wins over inclusion.
    """

    concept_id: int = Field(gt=0, le=LARGEST_CONCEPT)
    descendants: bool = False
    exclude: bool = False


_DAYS = (
    "write days_from_imaging = { min = -30, max = 30 } for within 30 days, { min = 1 } for after"
)
_CODE = "write concept_id, the number of its standard concept in the enclave's vocabulary"


class ConceptCriterion(Strict):
    """
    One [[clinical.concepts]]: the person has a record in `domain` with any of these concepts.

    concept_id: any of these; descendants: concepts below them in concept_ancestor count too.
    concept_set: instead, items of a set; in a file also the name of an ATLAS export
    (linkage.cohort.circe), "file.json" or "file.json#name or id of the set", whose items are read
    when the specification is. name: what readers are told that the concepts are; no criterion.
    domain "death" may go without either: any cause. exclude: the person has none.
    value, unit: value_as_number within, unit_concept_id any of these; measurements and
    observations only. at_least: so many records, each on another day.
    days_from_imaging: the record's day, counted from a study that fits; any of them suffices.
    """

    remedies: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("within_days", "days", "within", "days_from_image"), _DAYS),
        **dict.fromkeys(("code", "icd", "icd10", "loinc", "snomed"), _CODE),
        "domain": 'write domain = "condition", or procedure, drug, measurement, observation ...',
        "min": "write value = { min = ... }, or days_from_imaging = { min = ... }",
        "max": "write value = { max = ... }, or days_from_imaging = { max = ... }",
    }

    domain: Annotated[Domain, BeforeValidator(_domain)]
    name: str = Field(default="", max_length=100)
    concept_id: Concepts = ()
    concept_set: tuple[ConceptItem, ...] = Field(default=(), max_length=5000)
    descendants: bool = True
    exclude: bool = False
    value: NumberRange | None = None
    unit: Concepts = ()
    at_least: int = Field(default=1, ge=1, le=1000)
    days_from_imaging: DayRange | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_set(cls, value: Any, info: ValidationInfo) -> Any:
        """Put the items of an ATLAS file in the place of its name."""
        if not isinstance(value, dict) or not isinstance(value.get("concept_set"), str):
            return value
        base = (info.context or {}).get("base")
        if not isinstance(base, Path):  # what came over a wire never opens a file here
            raise FaultHere("is no list of concepts", "send the items, not a file", "concept_set")
        read = circe.read_named(base, value["concept_set"])
        return {"name": read.name} | value | {"concept_set": list(read.items)}

    @field_validator("concept_set")
    @classmethod
    def _set_in_order(cls, value: tuple[ConceptItem, ...]) -> tuple[ConceptItem, ...]:
        """A set has no order: the hash does not depend on it."""
        return tuple(
            sorted(set(value), key=lambda one: (one.concept_id, one.exclude, one.descendants))
        )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.concept_id and self.concept_set:
            raise FaultHere("names concepts and a concept set", "keep one of them", "concept_id")
        if not self.items and self.domain != "death":
            raise FaultHere(
                "names no concept",
                "add concept_id = 4163872, a whole number from 1, or a concept_set",
                "concept_id",
            )
        if self.concept_set and all(item.exclude for item in self.concept_set):
            raise Fault("excludes every item of its set", "include at least one concept")
        if (self.value or self.unit) and self.domain not in ("measurement", "observation"):
            raise FaultHere(
                f"a {self.domain} record has no value and no unit",
                "drop value and unit, or ask in domain measurement or observation",
                "value" if self.value else "unit",
            )
        return self

    @property
    def items(self) -> tuple[ConceptItem, ...]:
        """The concept set, however it was written; empty: any concept."""
        return self.concept_set or tuple(
            ConceptItem(concept_id=one, descendants=self.descendants) for one in self.concept_id
        )


_SEXES = {"f": "female", "w": "female", "woman": "female", "m": "male", "man": "male"}


def _sexes(value: Any) -> Any:
    for one in as_list(value) if isinstance(value, str | list | tuple) else []:
        if one not in get_args(Sex):
            meant = _SEXES.get(str(one).lower(), str(one).lower())
            near = f'write "{meant}"; ' if meant in get_args(Sex) else ""
            raise Fault(
                f"{one!r} is none of the values", f"{near}known here: {', '.join(get_args(Sex))}"
            )
    return as_list(value)


def _index_or_date(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            pass  # no such day: falls to the refusal below
    if value in ("index", "imaging") or (
        isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    ):
        return value
    raise Fault(
        "is neither 'index', 'imaging' nor a date", 'write "index", "imaging" or 2019-07-01'
    )


class AgeCriterion(Strict):
    """
    The table [clinical.age]: age in completed years, both bounds inclusive, at `at`.

    at = "index": on the index date (ClinicalCriteria.index); "imaging": on the day of the first
    study that fits; or a calendar date, the same for all. A birth date of which OMOP holds the year
    only counts as 1 July, year and month only as the 15th.
    """

    min: int | None = Field(default=None, ge=0, le=LARGEST_AGE)
    max: int | None = Field(default=None, ge=0, le=LARGEST_AGE)
    at: Annotated[Literal["index", "imaging"] | dt.date, BeforeValidator(_index_or_date)] = "index"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise Fault("min is above max", "both bounds are inclusive; exchange them")
        return self


class ClinicalCriteria(Strict):
    """
    The table [clinical]: a person must meet all of these.

    sex: any of these, from gender_concept_id (8532 female, 8507 male, all else unknown). race,
    ethnicity: race_concept_id, ethnicity_concept_id is any of these.
    index: what dates a person's index event: "concept", the earliest record that meets the first
    [[clinical.concepts]] without exclude; or "imaging", the first study that fits.
    """

    remedies: ClassVar[Mapping[str, str]] = {
        f"{one}s": f'write [[clinical.concepts]] with domain = "{one}" and concept_id'
        for one in ("condition", "procedure", "drug", "measurement", "observation", "visit")
    } | dict.fromkeys(
        ("concept", "criteria"), "write [[clinical.concepts]], once for each criterion"
    )

    any: bool = False
    concepts: tuple[ConceptCriterion, ...] = Field(default=(), max_length=50)
    age: AgeCriterion | None = None
    sex: Annotated[tuple[Sex, ...], BeforeValidator(_sexes)] = ()
    race: Concepts = ()
    ethnicity: Concepts = ()
    index: Literal["concept", "imaging"] = "concept"

    @field_validator("sex")
    @classmethod
    def _in_order(cls, value: tuple[Sex, ...]) -> tuple[Sex, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        asked = bool(self.concepts or self.sex or self.age or self.race or self.ethnicity)
        something(self.any, asked, "clinical", "concepts, age or sex")
        by_concept = self.age and self.age.at == "index" and self.index == "concept"
        if by_concept and self.index_concept is None:
            raise Fault(
                "age at the index date needs a concept that gives that date",
                'add a [[clinical.concepts]] without exclude, or write a date: at = "2019-07-01"',
                *("clinical", "age"),
            )
        return self

    @property
    def needs_imaging_dates(self) -> bool:
        """Whether any criterion is counted from the day of an image."""
        at_imaging = self.age is not None and self.age.at == "imaging"
        counted = any(one.days_from_imaging is not None for one in self.concepts)
        return at_imaging or counted or self.index == "imaging"

    @property
    def index_concept(self) -> ConceptCriterion | None:
        """The concept whose earliest record dates the index; None where nothing does."""
        return next((one for one in self.concepts if not one.exclude), None)

    @property
    def age_at(self) -> Literal["index", "imaging"] | dt.date | None:
        """When ages are taken: as asked, else at the index date if there is one, else never."""
        if self.age:
            return self.age.at
        return "index" if self.index == "imaging" or self.index_concept else None
