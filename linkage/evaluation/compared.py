"""
The records of a scored linkage as numbers, and the pairs of two parties: listed, linked, true.

    case = Case.of(links, truth)
    compared = compare(case, links, 0, 1, threshold=0.5)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.errors import LinkageError
from linkage.evaluation.quality_files import Ints, Links, TruthFile

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_PAIRS = 50_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """
    Two parties, by their places. pairs: int64[2, P], listed or of one ID; probability: float64[P],
    NaN where there is none; linked, correct: bool[P]. true: int64[2, T]; got: bool[T], whether
    linked; listed: float64[T], the probability of a true pair, NaN where it is not listed or has
    none. weighed: probability float64[W] and correct bool[W] of all pairs listed with one, else
    None; of a list these are `pairs`, of IDs the list beside them.
    """

    left: int
    right: int
    pairs: Ints
    probability: Floats
    linked: Mask
    correct: Mask
    true: Ints
    got: Mask
    listed: Floats
    weighed: tuple[Floats, Mask] | None


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """
    Records as numbers. ids: by party, first those of the links, then those only the truth has;
    given: how many are of the links. person: by party int64[R], -1 where unknown.
    """

    parties: tuple[str, ...]
    ids: tuple[list[str], ...]
    given: tuple[int, ...]
    person: tuple[Ints, ...]
    names: tuple[str, ...]  # of the persons

    @classmethod
    def of(cls, links: Links, truth: TruthFile) -> Case:
        number: dict[str, int] = {}
        ids, given, person = [], [], []
        for party, records in links.records.items():
            known = truth.persons[party]
            held = set(records)
            every = [*records, *(one for one in known if one not in held)]
            who = [
                number.setdefault(known[one], len(number)) if one in known else -1 for one in every
            ]
            ids.append(every)
            given.append(len(records))
            person.append(np.array(who, np.int64))
        return cls(tuple(links.records), tuple(ids), tuple(given), tuple(person), tuple(number))

    def key(self, left: int, right: int) -> tuple[str, str]:
        """Return what a list of pairs has the pairs of these two parties under."""
        one, other = sorted((self.parties[left], self.parties[right]))
        return one, other


def joined(left: Ints, right: Ints) -> Ints:
    """
    Return all pairs of places with one label, int64[2, P], by left place, then right; a label
    below 0 has no pair. Raises LinkageError for more than 50 million.
    """
    order = np.argsort(right, kind="stable")
    ranked = right[order]
    first = np.searchsorted(ranked, left, side="left")
    count = np.where(left < 0, 0, np.searchsorted(ranked, left, side="right") - first)
    if (total := int(count.sum())) > MOST_PAIRS:
        raise LinkageError(
            f"two parties have {total:,} pairs of records of one ID or person",
            hint="look at the largest: an ID or a person with thousands of records is a mistake",
        )
    starts = np.cumsum(count) - count
    within = np.arange(total) - np.repeat(starts, count)
    return np.stack(
        [np.repeat(np.arange(len(left)), count), order[np.repeat(first, count) + within]]
    )


def compare(case: Case, links: Links, left: int, right: int, threshold: float) -> Compared:
    """Return the pairs of the parties at these places; listed ones link from `threshold` on."""
    people = case.person[left], case.person[right]
    width = len(people[1])
    listed = links.pairs.get(case.key(left, right))
    given, probability = np.zeros((2, 0), np.int64), None
    if listed is not None:
        given, probability = np.stack([listed.left, listed.right]), listed.probability
        if case.parties[left] > case.parties[right]:
            given = given[::-1]

    def right_ones(pairs: Ints) -> Mask:
        whose = people[0][pairs[0]]
        same: Mask = (whose >= 0) & (whose == people[1][pairs[1]])
        return same

    def said(pairs: Ints) -> Floats:
        found = np.full(pairs.shape[1], np.nan)
        if probability is not None:
            place = _places(given, pairs, width)
            found[place >= 0] = probability[place[place >= 0]]
        return found

    pairs = given
    if links.ids is not None:
        number: dict[str, int] = {}
        ids = [
            np.array([number.setdefault(one, len(number)) for one in links.ids[party].values()])
            for party in (case.parties[left], case.parties[right])
        ]
        pairs = joined(ids[0].astype(np.int64), ids[1].astype(np.int64))
    linked = np.ones(pairs.shape[1], bool)
    if links.ids is None and probability is not None:
        linked = probability >= threshold
    true = joined(*people)
    place = _places(pairs, true, width)
    got = np.zeros(len(place), bool)
    got[place >= 0] = linked[place[place >= 0]]
    return Compared(
        left=left,
        right=right,
        pairs=pairs,
        probability=said(pairs),
        linked=linked,
        correct=right_ones(pairs),
        true=true,
        got=got,
        listed=said(true),
        weighed=None if probability is None else (probability, right_ones(given)),
    )


def _places(pairs: Ints, wanted: Ints, width: int) -> Ints:
    """Return where each wanted pair is among `pairs`, int64[T]; -1 where it is not."""
    if not pairs.shape[1]:
        return np.full(wanted.shape[1], -1, np.int64)
    keys, asked = (left * max(width, 1) + right for left, right in (pairs, wanted))
    order = np.argsort(keys, kind="stable")
    place = order[np.minimum(np.searchsorted(keys[order], asked), len(keys) - 1)]
    found: Ints = np.where(keys[place] == asked, place, -1)
    return found
