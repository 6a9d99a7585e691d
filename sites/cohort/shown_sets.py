"""
What of a set of persons may be read, given every set of which something was read before.

    shown = ShownSets(rule, blur, tags, anchors)
    shown.show(numbers)         a count, moved and rounded; or TOO_FEW

Steps, in this order; D is a set of persons, few(D) says |D| + blur(D) < minimum + reach:

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
would read off a sharp limit whether the target was there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from sites.cohort.blur import Blur, Tags
from sites.cohort.disclosure import TOO_FEW, CellRule, Shown

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
    """A set of which `value` was shown. size, moved: persons, and with their blur. packed: who."""

    size: int
    moved: int
    value: Shown
    packed: bytes


class ShownSets:
    """
    Decides about sets, and remembers them. tags: by number of the person. added: since then.

    Person numbers are those of the ledger and never change.
    """

    def __init__(
        self, rule: ShowRule, blur: Blur, tags: Tags, anchors: Sequence[Anchor] = ()
    ) -> None:
        self._rule, self._blur, self._tags = rule, blur, tags
        self._cells = CellRule(rule.minimum, rule.rounding)
        self._anchors = list(anchors)
        self._before = len(self._anchors)
        self._heads = np.zeros((len(self._anchors), _HEAD), np.uint8)
        for i, one in enumerate(self._anchors):
            self._heads[i] = _head(_unpacked(one.packed))
        # Beyond this many persons nothing is few, whatever its blur.
        self._limit = rule.minimum + 2 * blur.reach
        self._bits_of = lru_cache(maxsize=_UNPACKED)(self._unpack)

    @property
    def added(self) -> list[Anchor]:
        """What was decided since this was made, in order."""
        return self._anchors[self._before :]

    def show(self, numbers: Ints) -> Shown:
        """Return what may be read of these persons (each number once, any order)."""
        if not len(numbers):
            return 0 if self._rule.zero == "shown" else TOO_FEW
        bits = packed_bits(numbers, len(self._tags))
        told = self._as_before(bits, len(numbers))
        if told is None:
            told = self._implied(bits, len(numbers))
        return self._anew(numbers, bits) if told is None else told

    def _anew(self, numbers: Ints, bits: Bits) -> Shown:
        moved = len(numbers) + self._blur.of(self._tags[numbers])
        value: Shown
        if moved < self._rule.minimum + self._blur.reach:
            value = TOO_FEW
        elif moved < (wide := SMALL * self._rule.minimum) and self._crowded(bits, len(numbers)):
            value = f"<{wide}"
        else:
            value = self._cells.show(moved)
        self._anchors.append(Anchor(len(numbers), moved, value, zlib.compress(bits.tobytes(), 1)))
        self._heads = np.concatenate([self._heads, _head(bits)[None]])
        return value

    def _as_before(self, bits: Bits, size: int) -> Shown | None:
        """Return what the earliest set that differs by few got."""
        sizes = np.array([one.size for one in self._anchors], dtype=np.int64)
        near = np.flatnonzero(np.abs(sizes - size) < self._limit)
        for i in map(int, near[self._perhaps(_differ(_head(bits), self._heads[near]))]):
            if self._few(_differ(*_alike([bits, self._bits_of(i)]))):
                return self._anchors[i].value
        return None

    def _implied(self, bits: Bits, size: int) -> Shown | None:
        """Return the sum or difference of two numbers that were shown, where that is this set."""
        numbers = np.array(
            [i for i, one in enumerate(self._anchors) if isinstance(one.value, int)], dtype=np.int64
        )
        sizes = np.array([self._anchors[i].size for i in numbers], dtype=np.int64)
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
            sums = np.abs(rows + sizes - size) < self._limit
            fit = np.tril(sums | (np.abs(np.abs(rows - sizes) - size) < self._limit), start - 1)
            later, earlier = np.nonzero(fit)
            for at in range(0, len(later), _PAIRS):
                yield later[at : at + _PAIRS] + start, earlier[at : at + _PAIRS]

    def _told_of(self, bits: Bits, i: int, j: int) -> int | None:
        """Return the sum or difference (i - j) of what two sets got, if that is this set."""
        sets = _alike([bits, self._bits_of(i), self._bits_of(j)])
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
        if count == 0 or count >= self._limit:
            return count == 0
        who = np.flatnonzero(np.unpackbits(left_over))
        moved = count + self._blur.of(self._tags[who], label="difference")
        return moved < self._rule.minimum + self._blur.reach

    def _crowded(self, bits: Bits, size: int) -> bool:
        """Return whether this shares half of its persons with too many small sets shown before."""
        found = 0
        for i, one in enumerate(self._anchors):
            if isinstance(one.value, int) and one.moved < SMALL * self._rule.minimum:
                mine, theirs = _alike([bits, self._bits_of(i)])
                found += 2 * _count(mine & theirs) >= min(size, one.size)
        return found >= self._rule.small_answers

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
