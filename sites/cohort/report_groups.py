"""
Into which groups a report puts people: by sex, age, race and ethnicity.

Groups are fixed, so that which ones are listed tells nothing, and do not overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from sites.cohort.disclosure import CellRule, Shown

UNKNOWN = "unknown"
SEX_GROUPS = ("female", "male", UNKNOWN)

_BANDS = ((18, 29), *((low, low + 9) for low in range(30, 90, 10)))
AGE_GROUPS = ("0-17", *(f"{low}-{high}" for low, high in _BANDS), "90 and over", UNKNOWN)
COARSE_AGES = ("under 40", "40 to 64", "65 and over", UNKNOWN)

RACES: Mapping[int, str] = {
    8527: "White",
    8516: "Black or African American",
    8515: "Asian",
    8657: "American Indian or Alaska Native",
    8557: "Native Hawaiian or Other Pacific Islander",
}
"""OMOP's standard concepts of race, vocabulary Race."""

_NO_RACE = frozenset({0, 8552, 44814650, 44814653, 44814660})
"""None, unknown, no information, not said: not a race."""

OTHER_RACE = "another race, or several"
RACE_GROUPS = (*RACES.values(), OTHER_RACE, UNKNOWN)
ETHNICITIES: Mapping[int, str] = {
    38003563: "Hispanic or Latino",
    38003564: "not Hispanic or Latino",
}
ETHNICITY_GROUPS = (*ETHNICITIES.values(), UNKNOWN)


def age_group(age: int | None) -> str:
    """Return the group of AGE_GROUPS of an age in completed years; impossible ages are unknown."""
    if age is None or not 0 <= age <= 130:
        return UNKNOWN
    if age < 18:
        return AGE_GROUPS[0]
    if age >= 90:
        return "90 and over"
    return next(f"{low}-{high}" for low, high in _BANDS if low <= age <= high)


def coarse_age(age: int | None) -> str:
    """Return the group of COARSE_AGES."""
    if age is None or not 0 <= age <= 130:
        return UNKNOWN
    return COARSE_AGES[0] if age < 40 else COARSE_AGES[1] if age < 65 else COARSE_AGES[2]


def race_group(concept: int | None) -> str:
    """Return the group of RACE_GROUPS that a race concept belongs to."""
    if concept is None or concept in _NO_RACE:
        return UNKNOWN
    return RACES.get(concept, OTHER_RACE)


def ethnicity_group(concept: int | None) -> str:
    """Return the group of ETHNICITY_GROUPS that an ethnicity concept belongs to."""
    return ETHNICITIES.get(concept or 0, UNKNOWN)


def table_of(
    values: Sequence[str], groups: Collection[str], rule: CellRule
) -> dict[str, Shown] | None:
    """Return how many values each group has, as it may be read; None: not at all."""
    counted = Counter(values)
    return rule.show_table({group: counted[group] for group in groups})
