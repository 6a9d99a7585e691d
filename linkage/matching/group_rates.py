"""
How many people of each group are linked, estimated from marks that are mostly chance.

    found = estimated(stratum, marks, linked, minimum=11)

Each person's mark names the true group with chance p, each other one with q (linkage.strata). Of n
people c marks name a group, so (c - nq) / (p - q) of them belong to it, on average: Warner's
estimator, for k groups (Kairouz, Bonawitz and Ramage 2016, arXiv:1602.07387, 2.1). With m people in
the group c varies by mp(1 - p) + (n - m)q(1 - q), and nothing else here does: who is linked is
known, and who is in the group does not change.

The share of a group that is linked is a ratio of two such estimates, which of a small group may
have nearly nothing below the line. Its interval is therefore Fieller's (1954,
doi:10.1111/j.2517-6161.1954.tb00159.x): all shares r for which linked - r * people is within 1.96
standard deviations of 0. Linked and other people draw apart from each other, so that difference
varies by (1 - r)^2 Var(linked) + r^2 Var(others). It says nothing of what is too small to be seen:
such a group has no bounded interval, and is reported as too few.

What is told is chosen by the same chance that it is estimated from. So the choice looks at how many
people there are, not at their share: groups chosen for narrow intervals would be those whose shares
chance has moved towards everybody's. Of a group so small that it is hardly ever told, what is told
is mostly wrong all the same; docs/strata.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.matching.dataset import representatives
from linkage.matching.solve import Entities
from linkage.records import EncodedRecords
from linkage.strata import Stratum

Z95 = 1.959964
STANDS_OUT = 4.0
"""
By how many deviations a group's number of people must be above none, at least, to be told: it is
known to half of itself then (tests/unit/matching/test_group_rates_told.py).
"""

BEHIND = 0.05
"""
A group is behind if it is so far below all, the profile's limit (docs/profile.md), and chance would
hardly make it so: where no group of the report differs, one report in forty says that one is behind
(Bonferroni over all its groups).
"""
_BY_CHANCE = 0.025


@dataclass(frozen=True, slots=True)
class GroupRate:
    """
    A group in a dataset. few: too few to be told, or too much left to chance; all else is then 0.

    people, linked: estimated, not whole. share, low, high: of its people that are linked, with a
    95 % interval. people_low, people_high: of its people. behind: clearly fewer than of all.
    """

    group: str
    few: bool
    people: float = 0.0
    people_low: float = 0.0
    people_high: float = 0.0
    linked: float = 0.0
    share: float = 0.0
    low: float = 0.0
    high: float = 0.0
    behind: bool = False


def report_of(
    strata: Sequence[Stratum],
    datasets: Mapping[str, EncodedRecords],
    entities: Entities,
    *,
    minimum: int,
) -> dict[str, Any] | None:
    """
    Return what a run's report says of strata; None where the study has none. Estimates only.

    datasets: by uploader. minimum: people of a group that is told, at least, inclusive. A person is
    linked where another dataset holds a record of the same entity.
    """
    if not strata:
        return None
    linked = _linked(entities)
    told, silent = [], []
    marked = sum(records.strata is not None for records in datasets.values())
    among = marked * sum(len(one.named) for one in strata)
    for uploader, records in sorted(datasets.items()):
        if records.strata is None:
            silent.append(uploader)
            continue
        people = representatives(records)
        is_linked = linked[entities.of[uploader][people]]
        variables = [
            {
                "id": one.id,
                "epsilon": one.epsilon,
                "groups": [
                    asdict(rate)
                    for rate in estimated(
                        one,
                        records.strata[people, place],
                        is_linked,
                        minimum=minimum,
                        among=among,
                    )
                ],
            }
            for place, one in enumerate(strata)
        ]
        told.append(
            {
                "uploader": uploader,
                "people": len(people),
                "linked": int(is_linked.sum()),
                "variables": variables,
            }
        )
    return {"datasets": told, "without_marks": silent, "minimum": minimum}


def estimated(
    stratum: Stratum,
    marks: npt.NDArray[np.uint8],
    linked: npt.NDArray[np.bool_],
    *,
    minimum: int,
    among: int = 1,
) -> list[GroupRate]:
    """
    Return every group's rate, in the study's order. marks: uint8[N], from 1; linked: bool[N].
    among: how many groups are looked at in all.
    """
    size = len(stratum.named) + 1
    yes = np.bincount(marks[linked], minlength=size)
    no = np.bincount(marks[~linked], minlength=size)
    of = int(linked.sum()), int((~linked).sum())
    return [
        rate_of(stratum, group, (int(yes[i]), int(no[i])), of, minimum=minimum, among=among)
        for i, group in enumerate(stratum.named, start=1)
    ]


def rate_of(
    stratum: Stratum,
    group: str,
    marks: tuple[int, int],
    people: tuple[int, int],
    *,
    minimum: int,
    among: int = 1,
) -> GroupRate:
    """
    Return a group's rate. marks: how many name it, of linked and of other people; people: how many
    of either there are.
    """
    one, other = (_counted(*pair, stratum) for pair in zip(marks, people, strict=True))
    found, deviation = one.people + other.people, math.sqrt(one.variance + other.variance)
    bounds = share_interval(one.people, one.variance, other.people, other.variance)
    if bounds is None or found < max(minimum, STANDS_OUT * deviation):
        return GroupRate(group, few=True)
    of_all, sure = people[0] / sum(people), NormalDist().inv_cdf(1 - _BY_CHANCE / max(1, among))
    share = min(1.0, max(0.0, one.people / found))
    return GroupRate(
        group,
        few=False,
        people=found,
        people_low=max(0.0, found - Z95 * deviation),
        people_high=min(float(sum(people)), found + Z95 * deviation),
        linked=min(found, max(0.0, one.people)),
        share=share,
        low=bounds[0],
        high=bounds[1],
        behind=of_all - share > BEHIND and _below(of_all, one, other, sure),
    )


@dataclass(frozen=True, slots=True)
class Counted:
    """An unbiased estimate of how many of some people are in a group, and its variance."""

    people: float
    variance: float


def _below(share: float, linked: Counted, others: Counted, sure: float) -> bool:
    """Return whether the group's share is below `share`, by more than `sure` deviations."""
    spread = (1 - share) ** 2 * linked.variance + share**2 * others.variance
    return linked.people - share * (linked.people + others.people) < -sure * math.sqrt(spread)


def _counted(marks: int, people: int, stratum: Stratum) -> Counted:
    """Estimate how many of `people` are in the group that `marks` of them name."""
    p, q = stratum.chances
    found = (marks - people * q) / (p - q)
    # Only for the variance: no more than all, no fewer than none.
    inside = min(float(people), max(0.0, found))
    spread = inside * p * (1 - p) + (people - inside) * q * (1 - q)
    return Counted(found, spread / (p - q) ** 2)


def share_interval(
    linked: float, linked_variance: float, others: float, others_variance: float
) -> tuple[float, float] | None:
    """
    Return Fieller's interval of linked / (linked + others) within [0, 1]; None: unbounded.

    An estimate beyond 0 or 1 is told as the nearer of them, and its interval moved by as much: what
    is left between 0 and 1 of Fieller's could be as narrow as a point, and would seem certain.
    """
    people, square = linked + others, Z95 * Z95
    a = people * people - square * (linked_variance + others_variance)
    if a <= 0 or people <= 0:
        return None
    b = linked * people - square * linked_variance
    c = linked * linked - square * linked_variance
    root = math.sqrt(max(0.0, b * b - a * c))
    share = linked / people
    low = (b - root) / a - max(0.0, share - 1)
    high = (b + root) / a - min(0.0, share)
    return min(1.0, max(0.0, low)), min(1.0, max(0.0, high))


def _linked(entities: Entities) -> npt.NDArray[np.bool_]:
    """Return of every entity whether two datasets hold records of it: bool[count]."""
    held = np.zeros(entities.count, np.int64)
    for numbers in entities.of.values():
        held[np.unique(numbers)] += 1
    return held > 1
