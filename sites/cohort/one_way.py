"""
One-way tables of the persons whom a question finds: by sex, age, race or ethnicity.

Which of them there are at all says the enclave's site file. Categories are fixed, so that which
ones are listed tells nothing. Where categories are few, they are shown together with the smallest
other one, as "male or unknown": then total minus what is shown leaves nobody over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sites.cohort.disclosure import TOO_FEW, Shown
from sites.cohort.shown_sets import Ints

SEXES = ("female", "male", "unknown")
_BANDS = ((18, 29), *((low, low + 9) for low in range(30, 90, 10)))
AGE_BANDS = ("0-17", *(f"{low}-{high}" for low, high in _BANDS), "90 and over", "unknown")
_OTHER = "other or unknown"
_RACES = {
    8657: "American Indian or Alaska Native",
    8515: "Asian",
    8516: "Black or African American",
    8557: "Native Hawaiian or Other Pacific Islander",
    8527: "White",
}
_ETHNICITIES = {38003563: "Hispanic or Latino", 38003564: "Not Hispanic or Latino"}
CATEGORIES: dict[str, tuple[str, ...]] = {
    "sex": SEXES,
    "age": AGE_BANDS,
    "race": (*_RACES.values(), _OTHER),
    "ethnicity": (*_ETHNICITIES.values(), _OTHER),
}
"""Standard concepts of OMOP's domains Race and Ethnicity; bands of ten years."""


def category(variable: str, value: Any) -> str:
    """Return the category of a person's sex, age in years, race or ethnicity concept."""
    if variable == "sex":
        return str(value)
    if variable == "age":
        return age_band(value)
    return (_RACES if variable == "race" else _ETHNICITIES).get(value, _OTHER)


def age_band(age: int | None) -> str:
    """Return the band of an age in completed years; impossible ages are "unknown"."""
    if age is None or not 0 <= age <= 130:
        return "unknown"
    if age < 18:
        return AGE_BANDS[0]
    if age >= 90:
        return "90 and over"
    return next(f"{low}-{high}" for low, high in _BANDS if low <= age <= high)


def one_way(
    variable: str, values: pa.Array, numbers: Ints, show: Callable[[Ints], Shown]
) -> dict[str, Shown] | None:
    """
    Return how many persons each category has, as it may be read; None: not at all.

    values: of the variable, parallel to numbers, those of the persons. show: what may be read of a
    set of persons.
    """
    found = cells_of(categorized(variable, values, numbers), show)
    return None if found is None else {" or ".join(one.names): one.persons for one in found}


def categorized(variable: str, values: pa.Array, numbers: Ints) -> dict[str, Ints]:
    """Return the persons of each category; values: parallel to numbers."""
    words = {value: category(variable, value) for value in values.unique().to_pylist()}
    found = np.array([words[value] for value in values.to_pylist()], dtype=object)
    return {name: numbers[found == name] for name in CATEGORIES[variable]}


@dataclass(frozen=True, slots=True)
class Cell:
    """Categories that are shown as one, and their persons. few: those of them that are few."""

    names: tuple[str, ...]
    persons: Shown
    few: tuple[str, ...] = ()


def cells_of(members: Mapping[str, Ints], show: Callable[[Ints], Shown]) -> list[Cell] | None:
    """
    Return categories that share nobody as cells that may be read, each of few with the smallest
    other one; those come last. None: not at all.
    """
    told = {name: show(members[name]) for name in members}
    few = [name for name, value in told.items() if value == TOO_FEW]
    alone, together = tuple(few), few
    while together:
        rest = [name for name in members if name not in together]
        if not rest:
            return None
        # By what is shown: which of two is truly smaller would tell one person more or less.
        together.append(min(reversed(rest), key=lambda name: _as_number(told[name])))
        shown = show(np.concatenate([members[name] for name in together]))
        if shown != TOO_FEW:
            kept = [Cell((name,), told[name]) for name in members if name not in together]
            return [*kept, Cell(tuple(n for n in members if n in together), shown, alone)]
    return [Cell((name,), value) for name, value in told.items()]


def _as_number(shown: Shown) -> int:
    return shown if isinstance(shown, int) else 0
