"""
First and last names in each other's columns: many last names are then usual first names.

    counts = Given.of(column)
    exchanged(first, last)

The names are those most frequent in the simulated population (linkage.evaluation.names).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np

from linkage.encoding.columns import Coded
from linkage.evaluation.names import first_names

NAMES = ("first_name", "last_name")
ENOUGH = 10
"""Last names that are usual first names, at least: fewer are errors of single records."""
GIVEN_AS_SURNAMES = 0.3
_MORE = 1.5


@dataclass(frozen=True, slots=True)
class Given:
    """How many records have a name, and of these how many a usual first name."""

    given: int = 0
    present: int = 0

    @classmethod
    def of(cls, column: Coded) -> Self:
        """Count a column of normalised names."""
        usual = usual_given()
        held = np.bincount(column.codes, minlength=len(column.values))
        given = np.fromiter((one in usual for one in column.values), bool, len(column.values))
        there = np.fromiter(map(bool, column.values), bool, len(column.values))
        return cls(int(held[given].sum()), int(held[there].sum()))

    def __add__(self, other: Given) -> Given:
        return Given(self.given + other.given, self.present + other.present)

    @property
    def share(self) -> float:
        return self.given / max(1, self.present)


def exchanged(names: Mapping[str, Given]) -> bool:
    """Return whether the last names are more likely first names than the first names are."""
    if any(field not in names for field in NAMES):
        return False
    first, last = (names[field] for field in NAMES)
    return last.given >= ENOUGH and last.share > max(GIVEN_AS_SURNAMES, _MORE * first.share)


def exchanged_warning(names: Mapping[str, Given]) -> tuple[str, ...]:
    """Return what to tell an operator of exchanged names, nothing where they are in place."""
    if not exchanged(names):
        return ()
    first, last = (names[field].share for field in NAMES)
    return (
        f"{last:.0%} of the last names are usual first names, of the first names {first:.0%}: they"
        " seem to be exchanged; check [source.columns]",
    )


@cache
def usual_given() -> frozenset[str]:
    """Return the usual first names, in small letters."""
    return frozenset(name.lower() for male in (True, False) for name in first_names(male)[0])
