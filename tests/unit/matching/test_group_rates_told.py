"""
Which rates are told, and how often they are wrong: 1,000 reports of each of many small groups.

Of a group only the numbers of marks matter, which are binomial; so no people are made up here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from linkage.matching.group_rates import GroupRate, rate_of
from linkage.strata import Stratum

TIMES = 1_000
PEOPLE = 20_000
SIZES = (1.0, 2.0, 4.0, 6.0, 8.0, 16.0)
"""People of the group, in standard deviations of the noise of all others."""
SHARES = (0.0, 0.3, 0.7, 0.95, 1.0)
EVERYBODY = (0.4, 0.9)
RULES = ((2, 0.5), (4, 1.0), (8, 2.0))
"""Groups of the variable, epsilon."""


@dataclass(frozen=True)
class Case:
    """A group as large as so many deviations, which share of it is linked, what is told."""

    deviations: float
    share: float
    told: list[GroupRate]

    @property
    def often(self) -> float:
        """The share of reports that tell of it."""
        return len(self.told) / TIMES

    @property
    def wrong(self) -> float:
        """The share of what is told that does not hold the truth."""
        missed = [not one.low <= self.share <= one.high for one in self.told]
        return sum(missed) / max(1, len(missed))


def case(groups: int, epsilon: float, size: float, share: float, everybody: float) -> Case:
    stratum = Stratum(id="xx", groups=tuple("abcdefg"[: groups - 1]), epsilon=epsilon)
    p, q = stratum.chances
    draw = np.random.default_rng(round(1e6 * (size + share + everybody + epsilon)))
    people = round(size * np.sqrt(PEOPLE * q * (1 - q)) / (p - q))
    linked = round(share * people)
    of_all = linked + round(everybody * (PEOPLE - people))

    def marks(inside: int, outside: int) -> list[int]:
        named = draw.binomial(inside, p, TIMES) + draw.binomial(outside, q, TIMES)
        return [int(one) for one in named]

    yes = marks(linked, of_all - linked)
    no = marks(people - linked, PEOPLE - of_all - people + linked)
    of = of_all, PEOPLE - of_all
    rates = [rate_of(stratum, "a", pair, of, minimum=11) for pair in zip(yes, no, strict=True)]
    return Case(size, linked / people, [one for one in rates if not one.few])


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    chosen = product(RULES, SIZES, SHARES, EVERYBODY)
    return [case(*rule, size, share, of_all) for rule, size, share, of_all in chosen]


def test_a_wrong_interval_is_seldom_told_of_any_group(cases: list[Case]) -> None:
    """Whatever its size and share: of the worst of 180 groups, 6 times in 100 were measured."""
    wrong = [one.wrong * one.often for one in cases]
    assert max(wrong) < 0.08
    assert np.mean(wrong) < 0.04


def test_where_a_group_is_told_its_interval_holds_and_its_share_is_right(
    cases: list[Case],
) -> None:
    """Chosen for narrow intervals, some of these would be wrong in 37 of 100 reports."""
    often = [one for one in cases if one.often >= 0.3]
    assert len(often) > len(cases) / 2
    assert max(one.wrong for one in often) < 0.1
    for one in cases:
        if 0 < one.share < 1 and one.often == 1:  # else chance lies on one side of it
            shares = np.array([rate.share for rate in one.told])
            spread = shares.std() / np.sqrt(len(shares))
            assert abs(shares.mean() - one.share) < 0.03 + 4 * spread


@pytest.mark.parametrize(("deviations", "least", "most"), [(1, 0, 0.01), (2, 0, 0.06), (16, 1, 1)])
def test_who_may_be_nobody_is_hardly_ever_told(
    cases: list[Case], deviations: float, least: float, most: float
) -> None:
    told = [one.often for one in cases if one.deviations == deviations]
    assert least <= min(told) <= max(told) <= most


def test_an_interval_is_never_as_narrow_as_a_point(cases: list[Case]) -> None:
    """Estimates beyond 0 and 1 leave little of their intervals between: these are moved instead."""
    edges = [one for one in cases if one.share in (0.0, 1.0)]
    narrowest = min(rate.high - rate.low for one in edges for rate in one.told)
    assert narrowest > 0.02
    assert all(rate.low <= rate.share <= rate.high for one in cases for rate in one.told)
