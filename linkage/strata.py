"""
Strata: groups of people (sex, decade of birth, race) of which a study wants to see how many are
linked, without anybody who matches learning who is in which.

    [[strata]]
    id = "race"
    groups = ["asian", "black", "white"]
    epsilon = 1.0

A site sends of each record, and each variable, a **mark**: the record's group, or by chance another
one (k-ary randomised response). So a mark shifts the odds between any two groups by e^epsilon at
most, whatever else its reader knows: local differential privacy. Only over many records do marks
say how many are in a group (linkage.matching.group_rates). Sites draw them (sites.strata).

Sources: Warner 1965, doi:10.1080/01621459.1965.10480775; Kairouz, Bonawitz and Ramage 2016,
arXiv:1602.07387, who show that for small groups no other mechanism tells more at the same epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from linkage.message_base import Message
from linkage.strict_toml import Fault, Strict
from linkage.study_parts import FIELDS, Identifier

REST = "other or not known"
"""The group of everybody whom the file names no group for; every variable has it, as its last."""

NO_MARK = 0
"""A mark is a group's number, from 1; this one stands in rows that tell of a removed record."""

SEX, BIRTH_DECADE = "sex", "birth-decade"
"""Variables that a site needs no column for, where it holds the field."""

MOST_VARIABLES = 4
LEAST_EPSILON, MOST_EPSILON, MOST_TOGETHER = 0.5, 2.0, 4.0
"""
Of one variable, and of all together, which add up. At 2 a mark tells somebody's group 7 times as
likely as another; below .5 a million records are not enough for most groups.
"""


def _group(text: str) -> str:
    if text != as_group(text) or not text or not text.isprintable():
        raise Fault(
            f"{text!r} is no name of a group", "small letters, single blanks, 1 to 40 characters"
        )
    if text == REST:
        raise Fault(f"every variable has the group {REST!r} by itself", "leave it out")
    return text


class Stratum(Strict):
    """
    One [[strata]]: a variable, and its groups beside REST. epsilon: of each record's mark.
    """

    id: Identifier
    groups: tuple[Annotated[str, AfterValidator(_group)], ...] = Field(min_length=1, max_length=7)
    epsilon: float = Field(default=1.0, ge=LEAST_EPSILON, le=MOST_EPSILON, allow_inf_nan=False)

    @property
    def named(self) -> tuple[str, ...]:
        """All groups, REST among them; a mark counts in it from 1."""
        return *self.groups, REST

    @property
    def chances(self) -> tuple[float, float]:
        """The chance that a mark names the record's own group, and any one other group."""
        return chances(self.epsilon, len(self.named))


class Marked(Message):
    """What a manifest attests of one variable: that its records bear marks, and by which rule."""

    id: Identifier
    groups: tuple[str, ...]
    epsilon: float


def attested(strata: Sequence[Stratum]) -> tuple[Marked, ...]:
    """Return what the manifest of a dataset with marks says."""
    return tuple(Marked(id=s.id, groups=s.groups, epsilon=s.epsilon) for s in strata)


def chances(epsilon: float, groups: int) -> tuple[float, float]:
    """
    Return (p, q): a mark is the true group with chance p, each other one with q; p / q = e^epsilon.
    """
    weight = math.exp(epsilon)
    whole = weight + groups - 1
    return weight / whole, 1 / whole


def as_group(value: str) -> str:
    """Return a text as names of groups are written: small letters, single blanks, not too long."""
    return " ".join(value.casefold().split())[:40]


def require_fitting(strata: Sequence[Stratum]) -> None:
    """Raises Fault where a study's variables do not go together."""
    ids = [one.id for one in strata]
    for i, one in enumerate(strata):
        if one.id in ids[:i]:
            raise Fault(f"two [[strata]] are named {one.id!r}", "rename one", "strata", i, "id")
        if one.id in FIELDS and one.id != SEX:
            raise Fault(
                f"{one.id!r} is an identifier, no grouping of people",
                "name a grouping such as sex, birth-decade or race",
                *("strata", i, "id"),
            )
        if len(set(one.groups)) < len(one.groups):
            raise Fault("a group is named twice", "name it once", "strata", i, "groups")
    if sum(one.epsilon for one in strata) > MOST_TOGETHER:
        raise Fault(
            f"the epsilons add up to more than {MOST_TOGETHER:g}",
            "leave a variable out, or give smaller ones: marks of one person add up",
            *("strata", len(strata) - 1, "epsilon"),
        )


def in_words(strata: Sequence[Stratum]) -> str:
    """Return what the marks come to, for people who agree to them."""
    if not strata:
        return "none"
    told = "; ".join(
        f"{one.id} ({', '.join(one.groups)}): epsilon {one.epsilon:g}, the odds between two groups"
        f" shift {math.exp(one.epsilon):.1f}-fold at most"
        for one in strata
    )
    return f"{told}. Only sites whose site file says [strata] send = true send any"
