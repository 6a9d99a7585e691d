"""
Quality by subgroup: among the persons who have one value in a column of the truth.

A pair is of a subgroup if either of its two records is: a false pair may so be of two. Persons of
values that fewer than ten share are taken together, for figures of so few say nothing but who they
are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linkage.errors import SourceRefused
from linkage.evaluation.compared import Case, Compared
from linkage.evaluation.quality import PairQuality, together
from linkage.evaluation.quality_files import Ints, TruthFile

LEAST_PEOPLE = 10
MOST_GROUPS, MOST_GROUPS_ASKED = 20, 100
"""Different values of a column that is taken for a subgroup unasked, and when asked for."""
RELATIONS = {
    "twins": "twins",
    "household": "one household",
    "household_id": "one household",
    "family": "one family",
    "family_id": "one family",
}
"""Columns whose equal values mean relatives, closest first; and what a false link of them is."""
FEW, UNTOLD = "fewer than 10 each", "not told"


@dataclass(frozen=True, slots=True)
class Group:
    """Quality among the persons who have one value in a column of the truth."""

    column: str
    value: str
    people: int
    overall: PairQuality
    pairs: tuple[PairQuality, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "value": self.value,
            "people": self.people,
            "overall": self.overall.as_json(),
            "pairs": [pair.as_json() for pair in self.pairs],
        }


def groups(
    case: Case, truth: TruthFile, compared: Sequence[Compared], by: Sequence[str]
) -> tuple[Group, ...]:
    """
    Return the quality in every group of the columns `by`, by default those of 2 to 20 values.

    Raises SourceRefused for a column that is none, or has too many values.
    """
    made: list[Group] = []
    for column in _group_columns(case, truth, by):
        codes, values = _coded(case, truth, column)
        people = np.bincount(codes, minlength=len(values))
        counts = [_counts(case, one, codes, len(values)) for one in compared]
        for g, value in enumerate(values):
            if people[g] < LEAST_PEOPLE:
                continue
            pairs = tuple(
                PairQuality(case.parties[one.left], case.parties[one.right], *count[:, g].tolist())
                for one, count in zip(compared, counts, strict=True)
            )
            made.append(Group(column, value, int(people[g]), together(pairs), pairs))
    return tuple(made)


def _counts(case: Case, one: Compared, codes: Ints, values: int) -> Ints:
    """Return found, true and correct pairs by group, int64[3, G]."""
    of = np.append(codes, values)  # person -1, unknown, is in no group
    left, right = (
        of[case.person[side][rows[one.linked]]]
        for side, rows in zip((one.left, one.right), one.pairs, strict=True)
    )
    found = sum(np.bincount(side, minlength=values + 1) for side in (left, right))
    found = found - np.bincount(left[left == right], minlength=values + 1)
    right_ones = one.pairs[0][one.linked & one.correct]
    persons = case.person[one.left]
    true, correct = (
        np.bincount(of[persons[rows]], minlength=values + 1) for rows in (one.true[0], right_ones)
    )
    return np.stack([found, true, correct])[:, :values]


def _group_columns(case: Case, truth: TruthFile, by: Sequence[str]) -> Sequence[str]:
    def different(column: str) -> int:
        return len({value for value in truth.facts[column].values() if value})

    if not by:
        fit = [c for c in truth.facts if c in RELATIONS or 2 <= different(c) <= MOST_GROUPS]
        return [c for c in fit if len(_coded(case, truth, c)[1]) > 1]
    for column in by:
        if column not in truth.facts:
            raise SourceRefused(
                file=truth.file,
                rule=f"there is no column {column!r} of persons",
                hint=f"name one of: {', '.join(truth.facts)}"
                if truth.facts
                else "it has record ids only; add the column to it, a value for each person",
            )
        if column not in RELATIONS and different(column) > MOST_GROUPS_ASKED:
            raise SourceRefused(
                file=truth.file,
                rule=f"column {column!r} has more than {MOST_GROUPS_ASKED} different values",
                hint="make groups of them: decades of birth dates, first digits of postal codes",
            )
    return by


def _coded(case: Case, truth: TruthFile, column: str) -> tuple[Ints, Sequence[str]]:
    """Return each person's group, int64[K], and what the groups are called."""
    fact = truth.facts[column]
    told = [fact.get(person, "") for person in case.names]
    if column in RELATIONS:
        size = Counter(told)
        alone, several = ("no", "yes") if column == "twins" else ("of one", "of several")
        told = [several if value and size[value] > 1 else alone for value in told]
    told = [value or UNTOLD for value in told]
    size = Counter(told)
    told = [value if size[value] >= LEAST_PEOPLE else FEW for value in told]
    values = sorted(set(told), key=lambda value: (value in (FEW, UNTOLD), value))
    number = {value: g for g, value in enumerate(values)}
    return np.array([number[value] for value in told], np.int64), values
