"""
What a registration desk makes of a person: typing errors, nicknames, gaps, removals.

Rates are shares of records, one set a party; pairs of parties then disagree on about the sum.
They were set so that two parties disagree on each field about as often as the simulated commons
this project is measured on: first name 6 %, surname 4 %, birth date 6 %, sex 2.5 %, street 15 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from linkage.evaluation.names import NICKNAMES, STAND_INS, Names
from linkage.evaluation.population import Persons


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Shares of a party's records, each in [0, 1], that show the mistake."""

    missing: float = 0.010  # of each field, on its own
    name_typo: float = 0.014  # of each of first name and surname
    nickname: float = 0.012  # of those whose name has a short form, about twice this
    stand_in: float = 0.004  # "Wife" and the like instead of a name
    former_surname: float = 0.020  # of those who had another before marriage
    wrong_middle: float = 0.007
    date_typo: float = 0.013
    day_month_swap: float = 0.006
    wrong_date: float = 0.006  # someone else's
    wrong_sex: float = 0.012
    ssn_typo: float = 0.006
    street_typo: float = 0.030
    street_cut: float = 0.010  # the house number only, or the street only
    moved: float = 0.040  # the former street
    missing_street: float = 0.010
    missing_contact: float = 0.150  # of each of telephone and e-mail
    changed_contact: float = 0.060


RATES = {
    "imaging": Rates(),
    "enclave": Rates(missing=0.011, nickname=0.008, former_surname=0.03),
    "claims": Rates(nickname=0.018, missing_street=0.033, moved=0.03),
}

Fields = dict[str, Names]
"""Texts by field of linkage.study.FIELDS; birth dates as YYYYMMDD, names in mixed case."""


def as_registered(persons: Persons, rates: Rates, rng: np.random.Generator) -> Fields:
    """Return the fields of every person as one party writes them down, mistakes included."""
    names = _Desk(rates, rng, len(persons.first))
    first = names.change(persons.first, 2 * rates.nickname, _nickname)
    first = names.change(first, rates.stand_in, _stand_in)
    former = rng.random(len(first)) < rates.former_surname
    last = np.where(former, persons.former_last, persons.last)
    last = names.change(last, rates.stand_in, _stand_in)
    born = np.array([text.replace("-", "") for text in np.datetime_as_string(persons.born)], object)
    born = _shuffled(born, rates.wrong_date, rng)
    born = names.change(born, rates.day_month_swap, _swap_day_month)
    sex = np.where(persons.male ^ (rng.random(len(first)) < rates.wrong_sex), "Male", "Female")
    moved = rng.random(len(first)) < rates.moved
    street = names.change(
        np.where(moved, persons.former_street, persons.street), rates.street_typo, typo
    )
    phone = _shuffled(persons.phone, rates.changed_contact, rng)
    email = _shuffled(persons.email, rates.changed_contact, rng)
    return {
        "first_name": names.gaps(names.change(first, rates.name_typo, typo)),
        "middle_name": names.gaps(_shuffled(persons.middle, rates.wrong_middle, rng)),
        "last_name": names.gaps(names.change(last, rates.name_typo, typo)),
        "date_of_birth": names.gaps(names.change(born, rates.date_typo, digit_typo)),
        "sex": names.gaps(sex.astype(object)),
        "ssn": names.gaps(names.change(persons.ssn, rates.ssn_typo, digit_typo)),
        "street": names.gaps(
            names.change(street, rates.street_cut, _cut_street), rates.missing_street
        ),
        "zip": names.gaps(persons.zip.copy()),
        "phone": names.gaps(phone, rates.missing_contact),
        "email": names.gaps(names.change(email, rates.name_typo, typo), rates.missing_contact),
    }


def written_again(fields: Mapping[str, Names], rates: Rates, rng: np.random.Generator) -> Fields:
    """
    Return normalised fields as another desk would write the same people down: typing errors and
    gaps. Former names and addresses are left out, for nobody here knows them.
    """
    desk = _Desk(rates, rng, len(next(iter(fields.values()))))
    share = {
        "first_name": (rates.name_typo, typo),
        "last_name": (rates.name_typo, typo),
        "date_of_birth": (rates.date_typo, digit_typo),
        "sex": (rates.wrong_sex, lambda text, _: "m" if text == "f" else "f"),
        "ssn": (rates.ssn_typo, digit_typo),
        "street": (rates.street_typo, typo),
        "email": (rates.name_typo, typo),
    }
    gaps = {"street": rates.missing_street} | dict.fromkeys(
        ("phone", "email"), rates.missing_contact
    )
    made: Fields = {}
    for field, column in fields.items():
        mistakes: tuple[float, Mistake] = share.get(field, (0.0, typo))
        made[field] = desk.gaps(desk.change(column, *mistakes), gaps.get(field))
    return made


Mistake = Callable[[str, np.random.Generator], str]


@dataclass(frozen=True, slots=True)
class _Desk:
    """Makes mistakes in columns of `size` texts."""

    rates: Rates
    rng: np.random.Generator
    size: int

    def change(self, column: Names, share: float, mistake: Mistake) -> Names:
        """Return a copy in which about `share` of the texts went through `mistake`."""
        changed = column.copy()
        for i in np.flatnonzero(self.rng.random(self.size) < share):
            if column[i]:
                changed[i] = mistake(column[i], self.rng)
        return changed

    def gaps(self, column: Names, share: float | None = None) -> Names:
        """Empty about `share` of the texts in place (by default `rates.missing`)."""
        column[self.rng.random(self.size) < (self.rates.missing if share is None else share)] = ""
        return column


_NEIGHBOURS = {
    key: left + right
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890")
    for left, key, right in zip(" " + row, row, row[1:] + " ", strict=False)
}
_NEIGHBOURS = {key: near.strip() for key, near in _NEIGHBOURS.items()}
_LOOKALIKES = {"o": "0", "l": "1", "i": "1", "s": "5", "b": "8", "e": "c", "m": "rn", "g": "9"}
_SOUNDS = (("ph", "f"), ("ck", "k"), ("ie", "ei"), ("ll", "l"), ("ss", "s"), ("y", "i"), ("c", "k"))


def typo(text: str, rng: np.random.Generator) -> str:
    """
    Return `text` with one mistake of typing, hearing or scanning.

    A neighbouring key (40 %), a letter left out, doubled or swapped (12 % each), one heard
    as another (16 %), one scanned as another (8 %).
    """
    at = int(rng.integers(len(text)))
    letter, kind = text[at], rng.random()
    if kind < 0.40:
        near = _NEIGHBOURS.get(letter.lower(), "")
        new = near[int(rng.integers(len(near)))] if near else letter
        return text[:at] + (new.upper() if letter.isupper() else new) + text[at + 1 :]
    if kind < 0.52 and len(text) > 2:
        return text[:at] + text[at + 1 :]
    if kind < 0.64:
        return text[:at] + letter.lower() + text[at:] if at else text + text[-1]
    if kind < 0.76:
        return text[:at] + text[at + 1 : at + 2] + letter + text[at + 2 :]
    if kind < 0.92:
        for heard, written in _SOUNDS:
            if heard in text:
                return text.replace(heard, written, 1)
    return text[:at] + _LOOKALIKES.get(letter.lower(), letter) + text[at + 1 :]


def digit_typo(text: str, rng: np.random.Generator) -> str:
    """Return `text` with one digit wrong, or two neighbouring digits swapped (each half)."""
    places = [i for i, c in enumerate(text) if c.isdigit()]
    i = int(rng.integers(len(places) - 1))
    at, after = places[i], places[i + 1]
    if rng.random() < 0.5 and text[at] != text[after]:
        return text[:at] + text[after] + text[at + 1 : after] + text[at] + text[after + 1 :]
    other = str((int(text[after]) + int(rng.integers(1, 10))) % 10)
    return text[:after] + other + text[after + 1 :]


def _nickname(text: str, rng: np.random.Generator) -> str:
    short = NICKNAMES.get(text, (text,))
    return short[int(rng.integers(len(short)))]


def _stand_in(text: str, rng: np.random.Generator) -> str:
    return STAND_INS[int(rng.integers(len(STAND_INS)))]


def _swap_day_month(text: str, rng: np.random.Generator) -> str:
    return text[:4] + text[6:8] + text[4:6]


def _cut_street(text: str, rng: np.random.Generator) -> str:
    number, _, rest = text.partition(" ")
    return number if rng.random() < 0.5 or not rest else rest


def _shuffled(column: Names, share: float, rng: np.random.Generator) -> Names:
    """Return a copy in which about `share` of the records hold the value of another record."""
    rows = np.flatnonzero(rng.random(len(column)) < share)
    changed = column.copy()
    changed[rows] = column[rng.integers(0, len(column), len(rows))]
    return changed
