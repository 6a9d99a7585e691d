"""
What of a set of persons may be read, given every set of which something was read before.

    shown = ShownSets(rule, blur, tags, before)
    shown.show(numbers)         a count, moved and rounded; or TOO_FEW

Steps, in this order; D is a set of persons, few(D) says |D| + blur(D) < minimum + reach:

0. The very same persons get what they got. Of all others those are left out, silently, of whom as
   much was told as of anybody (sites.cohort.spent): out of this set and out of every earlier one
   that it is compared with.
1. Nobody: 0 or TOO_FEW, as the study says.
2. Persons who differ from an earlier set by few (or by none) get what that set got. So whoever
   subtracts two questions that differ in one criterion gets 0, whether or not anybody is between.
   A refusal would tell: Kenthapadi, Mishra and Nissim 2005, doi:10.1145/1065167.1065183.
3. Persons who are but for few the sum or the difference of two earlier sets get theirs. So women,
   men and all of a cohort, in whatever order asked, leave nobody over.
4. Few are TOO_FEW.
5. Fewer than ten minimums that share half of their persons with `small_answers` earlier such sets
   read "<110": whoever knows all members but one needs many answers of such kind to tell.
6. All others: moved by their blur, rounded to the nearest multiple.

Only what 4 to 6 decide is kept, with the persons concerned (an anchor); 2 and 3 come out the same
again. few(D) is blurred because whoever has ten known persons taken out together with the target
would read off a sharp limit whether the target was there. Whatever a blur decided, the persons whom
it was about are charged for it, those of D too: asked with other known persons each time, every
such answer tells a little of the target.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from sites.cohort.blur import Blur, Tags
from sites.cohort.disclosure import TOO_FEW, CellRule, Shown
from sites.cohort.spent import Spent, Units, price

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bits = np.ndarray[Any, np.dtype[np.uint8]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

SMALL = 10
"""A count below so many minimum cells is small: somebody might know nearly all who are in it."""
_HEAD = 2048
"""Bytes of a set that are compared first: most sets differ by more than few among these already."""
_PAIRS = 512
_UNPACKED = 256
"""Sets that are held unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowRule:
    """What a study says of counts: linkage.study_parts.CountRules and the minimum cell."""

    minimum: int
    rounding: int
    zero: Literal["merged", "shown"]
    small_answers: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Anchor:
    """
    A set of which `value` was shown. size, moved: persons who were counted, and with their blur.
    packed: all who were asked about.
    """

    size: int
    moved: int
    value: Shown
    packed: bytes


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Told:
    """
    What was told before, or since. answers: by the name of a set (`Blur.name_of`), what it got.
    who, units: of whom how much was told.
    """

    anchors: Sequence[Anchor] = ()
    answers: Mapping[bytes, Shown] = field(default_factory=dict)
    who: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    units: Units = field(default_factory=lambda: np.zeros(0, np.float64))


class ShownSets:
    """
    Decides about sets, and remembers them. tags: by number of the person. before: what was told.

    Person numbers are those of the ledger and never change.
    """

    def __init__(self, rule: ShowRule, blur: Blur, tags: Tags, before: Told | None = None) -> None:
        self._rule, self._blur, self._tags = rule, blur, tags
        self._cells = CellRule(rule.minimum, rule.rounding)
        before = before or Told()
        self._anchors = list(before.anchors)
        self._first = len(self._anchors)
        units = np.zeros(len(tags), np.float64)
        np.add.at(units, before.who, before.units)
        self._spent = Spent(len(tags), rule.small_answers, units)
        self._answers: dict[bytes, Shown] = {}
        for one in self._anchors:
            self._answers[blur.name_of(_unpacked(one.packed).tobytes())] = one.value
        self._answers |= before.answers
        self._known = len(self._answers)
        # Beyond this many persons nothing is few, whatever its blur.
        self._limit = rule.minimum + 2 * blur.reach
        self._bits_of = lru_cache(maxsize=_UNPACKED)(self._unpack)
        self._sizes = np.zeros(len(self._anchors), np.int64)
        self._heads = np.zeros((len(self._anchors), _HEAD), np.uint8)
        for i, one in enumerate(self._anchors):
            bits = _without(_unpacked(one.packed), self._spent.gone)
            self._sizes[i], self._heads[i] = _count(bits), _head(bits)
        # So many were left out since: a set may have so many fewer than _sizes says.
        self._slack = 0

    @property
    def added(self) -> Told:
        """What was told since this was made, in order."""
        answers = dict(list(self._answers.items())[self._known :])
        return Told(self._anchors[self._first :], answers, *self._spent.added)

    def show(self, numbers: Ints) -> Shown:
        """Return what may be read of these persons (each number once, any order)."""
        if not len(numbers):
            return self._nobody
        asked = packed_bits(numbers, len(self._tags))
        name = self._blur.name_of(asked.tobytes())
        if name not in self._answers:
            self._answers[name] = self._decided(asked)
            self._leave_out(self._spent.settle())
        return self._answers[name]

    def may_cut(self, numbers: Ints) -> bool:
        """May these persons be shown in tables? Half of what is told of anybody is for counts."""
        return not self._spent.half_of(numbers)

    @property
    def _nobody(self) -> Shown:
        return 0 if self._rule.zero == "shown" else TOO_FEW

    def _decided(self, asked: Bits) -> Shown:
        bits = _without(asked, self._spent.gone)
        size = _count(bits)
        if not size:
            return self._nobody
        told = self._as_before(bits, size)
        if told is None:
            told = self._implied(bits, size)
        return self._anew(asked, bits) if told is None else told

    def _anew(self, asked: Bits, bits: Bits) -> Shown:
        numbers = np.flatnonzero(np.unpackbits(bits))
        reach = self._blur.reach_of(len(numbers))
        moved = len(numbers) + self._blur.of(self._tags[numbers], reach=reach)
        value: Shown
        if moved < self._rule.minimum + self._blur.reach:
            value = TOO_FEW
        elif moved < (wide := SMALL * self._rule.minimum) and self._crowded(bits, len(numbers)):
            value = f"<{wide}"
        else:
            value = self._cells.show(moved)
        packed = zlib.compress(asked.tobytes(), 1)
        self._anchors.append(Anchor(len(numbers), moved, value, packed))
        self._sizes = np.append(self._sizes, len(numbers))
        self._heads = np.concatenate([self._heads, _head(bits)[None]])
        self._spent.charge(numbers, price(self._blur, len(numbers)))
        return value

    def _leave_out(self, more: int) -> None:
        """Go on without `more` persons: sets are compared by their heads first, and these too."""
        if more:
            self._slack += more
            self._heads &= ~_head(self._spent.gone)

    def _as_before(self, bits: Bits, size: int) -> Shown | None:
        """Return what the earliest set that differs by few got."""
        near = np.flatnonzero(np.abs(self._sizes - size) < self._limit + self._slack)
        for i in map(int, near[self._perhaps(_differ(_head(bits), self._heads[near]))]):
            if self._few(_differ(*_alike([bits, self._others(i)]))):
                return self._anchors[i].value
        return None

    def _implied(self, bits: Bits, size: int) -> Shown | None:
        """Return the sum or difference of two numbers that were shown, where that is this set."""
        numbers = np.array(
            [i for i, one in enumerate(self._anchors) if isinstance(one.value, int)], dtype=np.int64
        )
        sizes = self._sizes[numbers]
        mine = _head(bits)
        for later, earlier in self._pairs(sizes, size):
            swapped = sizes[later] < sizes[earlier]
            large, small = numbers[np.where(swapped, (earlier, later), (later, earlier))]
            heads = self._heads[large], self._heads[small]
            sums = self._perhaps(_not_the_sum(mine, *heads))
            for pair in np.flatnonzero(sums | self._perhaps(_not_the_rest(mine, *heads))):
                told = self._told_of(bits, int(large[pair]), int(small[pair]))
                if told is not None:
                    return told if told >= self._cells.lowest else TOO_FEW
        return None

    def _pairs(self, sizes: Ints, size: int) -> Iterator[tuple[Ints, Ints]]:
        """Yield, in parts, the pairs of sets whose sum or difference could be of this size."""
        for start in range(0, len(sizes), _PAIRS):
            rows = sizes[start : start + _PAIRS, None]
            limit = self._limit + 2 * self._slack
            sums = np.abs(rows + sizes - size) < limit
            fit = np.tril(sums | (np.abs(np.abs(rows - sizes) - size) < limit), start - 1)
            later, earlier = np.nonzero(fit)
            for at in range(0, len(later), _PAIRS):
                yield later[at : at + _PAIRS] + start, earlier[at : at + _PAIRS]

    def _told_of(self, bits: Bits, i: int, j: int) -> int | None:
        """Return the sum or difference (i - j) of what two sets got, if that is this set."""
        sets = _alike([bits, self._others(i), self._others(j)])
        one, other = int(self._anchors[i].value), int(self._anchors[j].value)
        if self._few(_not_the_sum(*sets)):
            return one + other
        if self._few(_not_the_rest(*sets)):
            return one - other
        return None

    def _perhaps(self, left_over: Bits) -> Flags:
        """Return which rows of heads could still belong to sets that differ by few."""
        counts = np.bitwise_count(left_over).sum(axis=1, dtype=np.int64)
        return np.asarray(counts < self._limit, dtype=np.bool_)

    def _few(self, left_over: Bits) -> bool:
        """Return whether these, for whom sets do not add up, are few."""
        count = _count(left_over)
        if count < self._rule.minimum or count >= self._limit:
            return count < self._rule.minimum
        who = np.flatnonzero(np.unpackbits(left_over))
        moved = count + self._blur.of(self._tags[who], label="difference")
        self._spent.charge(who, price(self._blur, count))
        return moved < self._rule.minimum + self._blur.reach

    def _crowded(self, bits: Bits, size: int) -> bool:
        """Return whether this shares half of its persons with too many small sets shown before."""
        found = 0
        for i, one in enumerate(self._anchors):
            if isinstance(one.value, int) and one.moved < SMALL * self._rule.minimum:
                mine, theirs = _alike([bits, self._others(i)])
                found += 2 * _count(mine & theirs) >= min(size, _count(theirs))
        return found >= self._rule.small_answers

    def _others(self, i: int) -> Bits:
        """Return an earlier set without those who are left out by now."""
        return _without(self._bits_of(i), self._spent.gone)

    def _unpack(self, i: int) -> Bits:
        return _unpacked(self._anchors[i].packed)


def packed_bits(numbers: Ints, size: int) -> Bits:
    """Return a bit a person, from the highest of each byte; trailing zeros are left out."""
    members = np.zeros(max(size, int(numbers.max()) + 1), dtype=np.bool_)
    members[numbers] = True
    bits = np.packbits(members)
    return bits[: int(np.flatnonzero(bits)[-1]) + 1]


def _unpacked(packed: bytes) -> Bits:
    return np.frombuffer(zlib.decompress(packed), np.uint8)


def _without(bits: Bits, gone: Bits) -> Bits:
    """Return a set without these persons."""
    if not len(gone):
        return bits
    found, both = bits.copy(), min(len(bits), len(gone))
    found[:both] &= ~gone[:both]
    return found


def _head(bits: Bits) -> Bits:
    """Return the first bytes of a set, always as many."""
    head = np.zeros(_HEAD, np.uint8)
    head[: len(bits)] = bits[:_HEAD]
    return head


def _alike(sets: Sequence[Bits]) -> list[Bits]:
    """Return the sets with as many bytes as the longest."""
    longest = max(len(one) for one in sets)
    found = []
    for one in sets:
        if len(one) < longest:
            one = np.concatenate([one, np.zeros(longest - len(one), np.uint8)])
        found.append(one)
    return found


def _count(bits: Bits) -> int:
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


def _differ(mine: Bits, other: Bits) -> Bits:
    return mine ^ other


def _not_the_sum(mine: Bits, one: Bits, other: Bits) -> Bits:
    """Who spoils mine = one + other."""
    return (one & other) | (mine ^ (one | other))


def _not_the_rest(mine: Bits, whole: Bits, part: Bits) -> Bits:
    """Who spoils mine = whole - part."""
    return (mine & part) | (whole ^ (mine | part))
