"""
True persons, drawn block by block: households, twins, juniors, marriages, removals.

Nobody real can be among them. SSNs have area 9xx and group 01 to 49: the SSA never issued an
area above 899, and taxpayer numbers of area 9xx (ITIN) have groups from 50. Phone numbers have
exchange 555, which serves no subscribers; e-mail domains end in .test or .example (RFC 2606).
Shares are plain estimates, stated beside each draw; they are no statistic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.evaluation.names import (
    ERAS,
    STREET_KINDS,
    STREET_NAMES,
    Names,
    first_names,
    surnames,
)

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BLOCK = 50_000
"""Persons a block. It is part of what a seed means: another size makes other people."""

SSN_GROUPS = 49
MOST_PERSONS = 100 * SSN_GROUPS * 9999
"""How many SSNs of the kind above there are."""

_HOUSEHOLD_SHARES = (0.55, 0.27, 0.10, 0.06, 0.02)  # of 1 to 5 persons
_COUPLE = 0.75  # of households of two and more, the second is the first one's partner
_OPPOSITE_SEX = 0.95  # of couples
_PARTNER_TAKES_NAME = 0.8
_ONCE_MARRIED = 0.25  # of women who head a household: the surname of birth was another
_TWIN = 0.04  # of children after the first in a household
_JUNIOR = 0.03  # of sons whose household is headed by a man
_COMPOUND = 0.04  # of household surnames: two surnames, with a space or a hyphen
_NO_MIDDLE = 0.06
_OWN_PHONE = 0.7  # the others share the household's
_ZIPS = np.array(
    [f"{z:05d}" for z in np.random.default_rng(1963).permutation(89_000)[:3000] + 1001]
)
_DIRECTIONS: Names = np.array(["", "", "", "", "n ", "s ", "e ", "w ", "nw ", "se "], dtype=object)
_HOSTS = ("mail.test", "post.example", "inbox.test", "letters.example")


@dataclass(frozen=True, slots=True, eq=False)
class Persons:
    """
    M true persons, parallel arrays; texts are object arrays of str.

    first, middle (maybe ""), last: names. former_last: surname before marriage, else `last`.
    male: bool[M]. born: datetime64[D][M]. household: int64[M], from 0 within the block.
    former_street: where the person lived before.
    """

    first: Names
    middle: Names
    last: Names
    former_last: Names
    male: Mask
    born: npt.NDArray[np.datetime64]
    household: Ints
    ssn: Names
    street: Names
    former_street: Names
    zip: Names
    phone: Names
    email: Names


@dataclass(frozen=True, slots=True, eq=False)
class Vitals:
    """Sex, birth date and place in the household of M persons: what needs no name."""

    male: Mask
    born: npt.NDArray[np.datetime64]
    household: Ints
    position: Ints
    partner: Mask
    child: Mask
    twin: Mask


def stream(seed: int, block: int, purpose: int) -> np.random.Generator:
    """Return the random stream of one purpose in one block; streams do not touch each other."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block, purpose)))


def draw_vitals(m: int, rng: np.random.Generator) -> Vitals:
    """Draw households of M persons, their sexes and birth dates (1921 to 2022)."""
    sizes = rng.choice(np.arange(1, 6), size=m, p=_HOUSEHOLD_SHARES)
    household = np.repeat(np.arange(m), sizes)[:m]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    position = np.arange(m) - starts[household]
    partner = (position == 1) & (rng.random(m) < _COUPLE)[household]
    child = (position > 0) & ~partner

    male = rng.random(m) < 0.49
    head = starts[household]
    opposite = partner & (rng.random(m) < _OPPOSITE_SEX)
    male[opposite] = ~male[head[opposite]]

    year = np.clip(np.rint(rng.normal(1961, 16, m)), 1921, 2004)
    year[partner] = year[head[partner]] + np.rint(rng.normal(0, 4, int(partner.sum())))
    year[child] = year[head[child]] + np.clip(rng.normal(28, 6, int(child.sum())), 16, 48).round()
    year = np.clip(year, 1921, 2022).astype(np.int64)
    born = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]") + rng.integers(0, 365, m)

    before = np.maximum(np.arange(m) - 1, 0)
    twin = child & child[before] & (household == household[before]) & (rng.random(m) < _TWIN)
    for place in range(2, 5):  # in order, so that triplets share one date
        here = twin & (position == place)
        born[here] = born[before[here]]
    return Vitals(male, born, household, position, partner, child, twin)


def draw_persons(vitals: Vitals, first_index: int, seed: int, rng: np.random.Generator) -> Persons:
    """Give the persons of `vitals` names and numbers; `first_index` is that of the first one."""
    m = len(vitals.male)
    first = _first_names(vitals, rng)
    last, former_last = _surnames(vitals, rng)
    middle = _given(vitals.male, vitals.born, rng)
    middle[rng.random(m) < _NO_MIDDLE] = ""
    streets, former_street = _streets(m, rng), _streets(m, rng)
    zips = _ZIPS[_skewed(len(_ZIPS), m, rng)].astype(object)
    own, shared = _phones(m, rng), _phones(m, rng)
    return Persons(
        first=first,
        middle=middle,
        last=last,
        former_last=former_last,
        male=vitals.male,
        born=vitals.born,
        household=vitals.household,
        ssn=_ssns(first_index, m, seed),
        street=streets[vitals.household],
        former_street=former_street,
        zip=zips[vitals.household],
        phone=np.where(rng.random(m) < _OWN_PHONE, own, shared[vitals.household]),
        email=_emails(first, last, rng),
    )


def scatter(indices: Ints, size: int, rng: np.random.Generator) -> Ints:
    """
    Return `size` different places for `size` indices, seeming without order: a i + b mod size.

    The multiplier has no factor in common with `size`, so no two indices share a place.
    """
    multiplier = int(rng.integers(size // 3, size // 2))
    while np.gcd(multiplier, size) != 1:
        multiplier += 1
    # Multiplying in halves keeps the products inside 64 bits for any size up to 2**40.
    high, low = indices >> 20, indices & ((1 << 20) - 1)
    scattered = (high * multiplier % size * (1 << 20) + low * multiplier) % size
    return (scattered + int(rng.integers(size))) % size


def _skewed(k: int, m: int, rng: np.random.Generator) -> Ints:
    """Draw M places of K, the first ones more often: density falls as the square root."""
    return (k * rng.random(m) ** 2).astype(np.int64)


def _given(male: Mask, born: npt.NDArray[np.datetime64], rng: np.random.Generator) -> Names:
    """Draw a first name for each person, by sex and by the fashion of the birth year."""
    m = len(male)
    year = born.astype("datetime64[Y]").astype(np.int64) + 1970
    place = np.clip((year - ERAS[0]) / (ERAS[1] - ERAS[0]), 0, len(ERAS) - 1)
    era = np.minimum(np.floor(place + rng.random(m)), len(ERAS) - 1).astype(np.int64)
    drawn: Names = np.empty(m, dtype=object)
    for is_male in (False, True):
        names, shares = first_names(is_male)
        for e in range(len(ERAS)):
            here = (male == is_male) & (era == e)
            drawn[here] = names[rng.choice(len(names), int(here.sum()), p=shares[e])]
    return drawn


def _first_names(vitals: Vitals, rng: np.random.Generator) -> Names:
    first = _given(vitals.male, vitals.born, rng)
    head = np.arange(len(first)) - vitals.position
    junior = vitals.child & vitals.male & vitals.male[head] & ~vitals.twin
    junior &= rng.random(len(first)) < _JUNIOR
    first[junior] = first[head[junior]]
    # Parents do not give two living children one name: draw again until brothers differ.
    for i in np.flatnonzero(vitals.twin):
        while first[i] == first[i - 1]:
            first[i] = _given(vitals.male[i : i + 1], vitals.born[i : i + 1], rng)[0]
    return first


def _surnames(vitals: Vitals, rng: np.random.Generator) -> tuple[Names, Names]:
    """Return the surname of each person, and the one before marriage."""
    m = len(vitals.male)
    names, shares = surnames()
    own = names[rng.choice(len(names), m, p=shares)]
    joined = np.flatnonzero(rng.random(m) < _COMPOUND)
    second = names[rng.choice(len(names), len(joined), p=shares)]
    for i, other, joint in zip(joined, second, rng.choice([" ", "-"], len(joined)), strict=True):
        own[i] = f"{own[i]}{joint}{other}"
    head = np.arange(m) - vitals.position
    takes = vitals.child | (vitals.partner & (rng.random(m) < _PARTNER_TAKES_NAME))
    last = np.where(takes, own[head], own)
    born_so = np.where(vitals.partner & takes & ~vitals.male, own, last)
    other = names[rng.choice(len(names), m, p=shares)]
    widow = (vitals.position == 0) & ~vitals.male & (rng.random(m) < _ONCE_MARRIED)
    return last, np.where(widow, other, born_so)


def _streets(m: int, rng: np.random.Generator) -> Names:
    """Draw M streets with house numbers of one to five digits, small ones more often."""
    numbers = (10 ** rng.uniform(0.7, 4.1, m)).astype(np.int64)
    direction = _DIRECTIONS[rng.integers(0, len(_DIRECTIONS), m)]
    name = STREET_NAMES[_skewed(len(STREET_NAMES), m, rng)]
    kind = STREET_KINDS[_skewed(len(STREET_KINDS), m, rng)]
    parts = zip(numbers.tolist(), direction, name, kind, strict=True)
    return np.array([f"{n} {d}{s} {k}" for n, d, s, k in parts], dtype=object)


def _ssns(first_index: int, m: int, seed: int) -> Names:
    """Return M different SSNs; no index under MOST_PERSONS shares one with another."""
    place = scatter(np.arange(first_index, first_index + m), MOST_PERSONS, stream(seed, 0, 99))
    area, rest = np.divmod(place, SSN_GROUPS * 9999)
    group, serial = np.divmod(rest, 9999)
    parts = zip((area + 900).tolist(), (group + 1).tolist(), (serial + 1).tolist(), strict=True)
    return np.array([f"{a}-{g:02d}-{s:04d}" for a, g, s in parts], dtype=object)


def _phones(m: int, rng: np.random.Generator) -> Names:
    area, line = rng.integers(201, 990, m), rng.integers(1300, 9990, m)
    pairs = zip(area.tolist(), line.tolist(), strict=True)
    return np.array([f"({a}) 555-{n}" for a, n in pairs], dtype=object)


def _emails(first: Names, last: Names, rng: np.random.Generator) -> Names:
    numbers = rng.integers(1, 1000, len(first)).tolist()
    hosts = rng.integers(0, len(_HOSTS), len(first)).tolist()
    made = []
    for given, family, number, host in zip(first, last, numbers, hosts, strict=True):
        letters = "".join(c for c in f"{given}.{family}".lower() if c.isalpha() or c == ".")
        made.append(f"{letters}{number}@{_HOSTS[host]}")
    return np.array(made, dtype=object)
