"""What may be read of sets: against a slow reference, and what holds whatever is asked."""

from __future__ import annotations

import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sites.cohort.blur import Blur
from sites.cohort.disclosure import TOO_FEW, CellRule, Shown
from sites.cohort.shown_sets import SMALL, ShownSets, ShowRule
from sites.cohort.spent import Spent, price

PEOPLE = 40
APART = 500
"""Person numbers lie so far apart that sets do not fit into what is compared first."""
MINIMUM = 3
KEY = bytes(32)
TAGS = np.random.default_rng(3).integers(0, 2**64, PEOPLE * APART, dtype=np.uint64)

SETS = st.lists(st.frozensets(st.integers(0, PEOPLE - 1)), min_size=1, max_size=12)
CUTS = st.lists(st.tuples(st.integers(0, PEOPLE), st.integers(0, PEOPLE)), min_size=3, max_size=10)


class Reference:
    """The steps of sites.cohort.shown_sets on plain sets, every pair tried."""

    def __init__(self, rule: ShowRule, blur: Blur) -> None:
        self.rule, self.blur = rule, blur
        self.asked = list[tuple[frozenset[int], int, Shown]]()
        self.anchors = self.asked
        self.answers: dict[frozenset[int], Shown] = {}
        self.spent, self.gone = Counter[int](), frozenset[int]()

    def moved(self, who: frozenset[int], label: str = "count") -> int:
        reach = self.blur.reach if label == "difference" else self.blur.reach_of(len(who))
        return len(who) + self.blur.of(TAGS[sorted(who)], label=label, reach=reach)

    def charge(self, who: frozenset[int]) -> None:
        if self.blur.reach:
            self.spent.update(who)

    def few(self, who: frozenset[int]) -> bool:
        limit = self.rule.minimum + self.blur.reach
        moved = self.moved(who, "difference") if who else 0
        if self.rule.minimum <= len(who) < limit + self.blur.reach:
            self.charge(who)
        return not who or moved < limit

    def show(self, who: frozenset[int]) -> Shown:
        if who not in self.answers:
            self.anchors = [(one - self.gone, n, value) for one, n, value in self.asked]
            self.answers[who] = self.decide(who - self.gone, who)
            most = self.rule.small_answers - 1
            self.gone = frozenset(person for person, n in self.spent.items() if n > most)
        return self.answers[who]

    def decide(self, who: frozenset[int], everybody: frozenset[int]) -> Shown:
        if not who:
            return TOO_FEW if self.rule.zero == "merged" else 0
        for before, _, value in self.anchors:
            if self.few(who ^ before):
                return value
        if (implied := self.implied(who)) is not None:
            lowest = CellRule(self.rule.minimum, self.rule.rounding).lowest
            return implied if implied >= lowest else TOO_FEW
        moved, value = self.moved(who), TOO_FEW
        wide = SMALL * self.rule.minimum
        if moved >= self.rule.minimum + self.blur.reach:
            small = [
                before
                for before, size, shown in self.anchors
                if isinstance(shown, int) and size < wide
                if 2 * len(before & who) >= min(len(before), len(who))
            ]
            crowded = moved < wide and len(small) >= self.rule.small_answers
            told = CellRule(self.rule.minimum, self.rule.rounding).show(moved)
            value = f"<{wide}" if crowded else told
        self.asked.append((everybody, moved, value))
        self.charge(who)
        return value

    def implied(self, who: frozenset[int]) -> int | None:
        numbers = [(one, value) for one, _, value in self.anchors if isinstance(value, int)]
        for later in range(len(numbers)):
            for earlier in range(later):
                (large, most), (small, least) = numbers[later], numbers[earlier]
                if len(large) < len(small):
                    (large, most), (small, least) = (small, least), (large, most)
                everybody = who | large | small
                is_in = {p: (p in who, p in large, p in small) for p in everybody}
                if self.few(frozenset(p for p, (w, a, b) in is_in.items() if w != a + b)):
                    return most + least
                if self.few(frozenset(p for p, (w, a, b) in is_in.items() if w != a - b)):
                    return most - least
        return None


def spread(sets: list[frozenset[int]]) -> list[frozenset[int]]:
    return [frozenset(person * APART for person in one) for one in sets]


def both(reach: int, small_answers: int, zero: str = "merged") -> tuple[ShownSets, Reference]:
    rule = ShowRule(
        minimum=MINIMUM,
        rounding=2,
        zero="merged" if zero == "merged" else "shown",
        small_answers=small_answers,
    )
    blur = Blur(KEY, reach)
    return ShownSets(rule, blur, TAGS), Reference(rule, blur)


def numbers(who: frozenset[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(list(who), dtype=np.int64)


@pytest.mark.threat("T18")
@settings(max_examples=60, deadline=None)
@given(SETS, st.integers(0, 3), st.integers(1, 3), st.sampled_from(["merged", "shown"]))
def test_bits_and_plain_sets_decide_alike(
    asked: list[frozenset[int]], reach: int, small_answers: int, zero: str
) -> None:
    fast, slow = both(reach, small_answers, zero)
    for one in spread(asked):
        assert fast.show(numbers(one)) == slow.show(one)


@settings(max_examples=60, deadline=None)
@given(CUTS, st.integers(0, 2))
def test_parts_of_a_whole_decide_alike(cuts: list[tuple[int, int]], reach: int) -> None:
    """Runs of neighbours, which add up far more often than random sets."""
    fast, slow = both(reach, 4)
    for low, high in cuts:
        one = frozenset(range(min(low, high) * APART, max(low, high) * APART, APART))
        assert fast.show(numbers(one)) == slow.show(one)


@settings(max_examples=30, deadline=None)
@given(SETS, st.integers(0, 3))
def test_answers_never_change_and_survive_the_ledger(
    asked: list[frozenset[int]], reach: int
) -> None:
    fast, _ = both(reach, 3)
    first = [fast.show(numbers(one)) for one in spread(asked)]
    assert [fast.show(numbers(one)) for one in spread(asked)] == first
    again = ShownSets(fast._rule, fast._blur, TAGS, fast.added)
    assert [again.show(numbers(one)) for one in spread(asked)] == first
    assert not again.added.anchors
    assert not len(again.added.who), "what is repeated costs nobody anything"


@pytest.mark.threat("T18")
@settings(max_examples=30, deadline=None)
@given(SETS, st.integers(0, 3))
def test_no_number_is_decided_for_few(asked: list[frozenset[int]], reach: int) -> None:
    fast, _ = both(reach, 100)
    for one in spread(asked):
        shown = fast.show(numbers(one))
        assert shown == TOO_FEW or (isinstance(shown, int) and shown % 2 == 0 and shown >= 4)
    for anchor in fast.added.anchors:
        assert len(np.unpackbits(np.frombuffer(zlib.decompress(anchor.packed), np.uint8)))
        if isinstance(anchor.value, int):
            assert anchor.size >= MINIMUM
            assert abs(anchor.value - anchor.size) <= reach + 1


def test_the_blur_is_as_said() -> None:
    """Geometric, cut at 6: the likeliest amount has .25, and neighbours a ratio of e^.5."""
    blur = Blur(KEY, 6)
    drawn = [blur.of(np.array([n], dtype=np.uint64)) for n in range(40_000)]
    shares = np.bincount(np.array(drawn) + 6, minlength=13) / len(drawn)
    assert len(shares) == 13
    assert abs(shares[6] - 0.2545) < 0.01
    assert np.allclose(shares[4:6] / shares[5:7], np.exp(-0.5), atol=0.04)
    assert abs(shares[0] - 0.0127) < 0.003
    assert np.allclose(shares, shares[::-1], atol=0.01)
    assert Blur(KEY, 0).of(np.array([1], dtype=np.uint64)) == 0


def test_large_counts_move_further() -> None:
    blur = Blur(KEY, 6)
    assert [blur.reach_of(n) for n in (0, 174, 175, 460, 11_110)] == [6, 6, 7, 18, 444]
    assert Blur(KEY, 0).reach_of(11_110) == 0
    drawn = [blur.of(np.array([n], dtype=np.uint64), reach=18) for n in range(2_000)]
    assert (min(drawn), max(drawn)) == (-18, 18)
    assert [price(blur, n) for n in (20, 174)] == [1, 1]
    assert price(blur, 460) == pytest.approx(1 / 9)
    assert price(blur, 11_110) == price(Blur(KEY, 0), 20) == 0


def test_nobody_is_in_more_numbers_than_the_study_says() -> None:
    fast, _ = both(2, 4)
    blur, rng = fast._blur, np.random.default_rng(5)
    for _ in range(60):
        others = rng.choice(np.arange(1, PEOPLE * APART), 12, replace=False)
        fast.show(np.append(others, 0).astype(np.int64))
    who, units = fast.added.who, fast.added.units
    assert units[who == 0] == 4, "somebody who is in all of them"
    counted = [len(np.unpackbits(_raw(one.packed)).nonzero()[0]) for one in fast.added.anchors]
    assert [one.size for one in fast.added.anchors][-1] == counted[-1] - 1 == 12
    assert blur.reach == 2


def _raw(packed: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(zlib.decompress(packed), np.uint8)


def test_half_of_what_is_told_of_anybody_is_for_counts() -> None:
    spent = Spent(10, 4)
    some = np.array([1, 2, 3], dtype=np.int64)
    for told in (False, False, True):
        spent.charge(some, 1)
        assert spent.half_of(some) is told
    assert spent.settle() == 0
    spent.charge(some, 1)
    assert (spent.settle(), spent.settle()) == (3, 0)
    assert list(np.flatnonzero(np.unpackbits(spent.gone))) == [1, 2, 3]
    again = Spent(10, 4, np.array([0.0, 4.0, 3.5, 3.0]))
    assert list(np.flatnonzero(np.unpackbits(again.gone))) == [1, 2]


def test_the_blur_depends_on_who_is_counted_and_on_the_key_only() -> None:
    blur, other = Blur(KEY, 50), Blur(bytes([1] * 32), 50)
    tags = blur.tags(["a", "b", "c"])
    assert blur.of(tags) == blur.of(tags[::-1])
    assert list(tags) == list(blur.tags(iter(["a", "b", "c"])))
    assert not set(tags) & set(other.tags(["a", "b", "c"]))
    sets = [blur.tags([str(n)]) for n in range(200)]
    assert [blur.of(one) for one in sets] != [other.of(one) for one in sets]
    assert [blur.of(one) for one in sets] != [blur.of(one, label="difference") for one in sets]
