"""
Attacks on counts of persons, as a cohort analyst would script them.

Each is played many times, every time with another secret of the enclave, and with one bit to find
out: whether the target is among the persons who fit. `play` returns how often the best reading of
the transcript finds it; 0.5 is guessing. An attacker here may compose any set of persons that he
knows all members of, which is more than criteria let him do; the target joins them or not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

Shown = int | str
Show = Callable[[Sequence[int]], Shown]
"""Ask how many of these persons there are, as the enclave would show it."""

TARGET = 10_000
"""Number of the person whom the attack is about."""


class Attack(Protocol):
    """Ask what you like; return a figure that tends to be larger where the target fits."""

    def __call__(self, show: Show, target: list[int], draw: random.Random) -> float: ...


def play(attack: Attack, enclave: Callable[[int], Show], rounds: int) -> float:
    """Return the share of rounds in which the attacker is right, at his best threshold."""
    found = [
        [attack(enclave(2 * n + fits), [TARGET] * fits, random.Random(n)) for n in range(rounds)]
        for fits in (0, 1)
    ]
    at = np.unique(np.concatenate(found))
    without, having = (
        np.searchsorted(np.sort(one), at, side="right") / rounds for one in map(np.array, found)
    )
    return float(0.5 + np.abs(without - having).max() / 2)


def number(shown: Shown) -> float:
    """Read a count; what is no number lies below all numbers."""
    return float(shown) if isinstance(shown, int) else 0.0


def people(draw: random.Random, size: int, among: int = 5_000) -> list[int]:
    return draw.sample(range(1, among), size)


def ten_planted(show: Show, target: list[int], draw: random.Random) -> float:
    """Ten known members and the target: are there eleven?"""
    return number(show([*people(draw, 10), *target]))


def planted_below_a_step(show: Show, target: list[int], draw: random.Random) -> float:
    """So many known members that one more is rounded up."""
    return number(show([*people(draw, 37), *target]))


def planted(known: int) -> Attack:
    """Known members and the target, any number of the former."""
    return lambda show, target, draw: number(show([*people(draw, known), *target]))


def differing_by_one_criterion(show: Show, target: list[int], draw: random.Random) -> float:
    """One question, then the same with a criterion that only the target fails."""
    base = people(draw, 202)
    return number(show(base + target)) - number(show(base))


def differing_at_a_step(show: Show, target: list[int], draw: random.Random) -> float:
    """The same where the attacker tuned the others to the edge of a rounding step."""
    base = people(draw, 197)
    return number(show(base + target)) - number(show(base))


def differing_often(show: Show, target: list[int], draw: random.Random) -> float:
    """The same, among other persons each time, and added up."""
    found = 0.0
    for _ in range(20):
        base = people(draw, draw.randrange(150, 250))
        found += number(show(base + target)) - number(show(base))
    return found


def ten_taken_out(show: Show, target: list[int], draw: random.Random) -> float:
    """A cohort with the target in it or not, then without ten known members and the target."""
    base = people(draw, 202)
    return number(show(base + target)) - number(show(base[10:]))


def repeated(show: Show, target: list[int], draw: random.Random) -> float:
    """The same persons thirty times, each time in another order, as other wordings give them."""
    known = people(draw, 22)
    asked = [*known, *target]
    return sum(number(show(draw.sample(asked, len(asked)))) for _ in range(30))


def steps_that_differ_by_few(show: Show, target: list[int], draw: random.Random) -> float:
    """Attrition: a step that removes the target only, between two that everybody knows."""
    base = people(draw, 197)
    before, after = number(show(base + target)), number(show(base))
    return before - after


def many_steps(show: Show, target: list[int], draw: random.Random) -> float:
    """One question of 25 criteria, each of which removes 20 known members and never the target."""
    known = people(draw, 542)
    return sum(number(show(known[20 * step :] + target)) for step in range(25))


def margins(show: Show, target: list[int], draw: random.Random) -> float:
    """Everybody, the women, the men: is there anybody else?"""
    women, men = people(draw, 200), [n + 5_000 for n in people(draw, 197)]
    return number(show(women + men + target)) - number(show(women)) - number(show(men))


def margins_often(show: Show, target: list[int], draw: random.Random) -> float:
    """The same for twenty groups; the parts are asked first, or the whole."""
    found = 0.0
    for turn in range(20):
        women = people(draw, draw.randrange(100, 300))
        men = [n + 5_000 for n in people(draw, draw.randrange(100, 300))]
        if turn % 2:
            parts = number(show(women)) + number(show(men))
            found += number(show(women + men + target)) - parts
        else:
            whole = number(show(women + men + target))
            found += whole - number(show(women)) - number(show(men))
    return found


def planted_often(show: Show, target: list[int], draw: random.Random) -> float:
    """Forty planted members; thirty times another half of them, with the target."""
    known = people(draw, 40)
    asked = [draw.sample(known, 22) for _ in range(30)]
    return sum(number(show([*some, *target])) for some in asked)


def planted_apart(times: int, size: int = 22) -> Attack:
    """So many fresh planted members for each of `times` questions, with the target."""

    def attack(show: Show, target: list[int], draw: random.Random) -> float:
        known = people(draw, size * times, among=TARGET)
        parts = [known[size * n : size * n + size] for n in range(times)]
        return sum(number(show([*some, *target])) for some in parts)

    return attack


def many_long_questions(times: int) -> Attack:
    """
    Questions of 25 criteria, each of which removes 25 known members and never the target: more
    than would read as the step before. Counted from the last step upwards, as the enclave does.
    """

    def attack(show: Show, target: list[int], draw: random.Random) -> float:
        known = people(draw, 642 * times, among=TARGET)
        asked = [known[642 * n + 25 * step : 642 * n + 642] for n in range(times) for step in STEPS]
        return sum(number(show([*some, *target])) for some in asked)

    return attack


STEPS = range(24, -1, -1)


def taken_out_often(times: int) -> Attack:
    """
    A large cohort of known members and the target, then without sixteen of them and the target,
    always others: does it read the same, as sets do that differ by few?
    """

    def attack(show: Show, target: list[int], draw: random.Random) -> float:
        known = people(draw, 300)
        whole = show(known + target)
        same = 0
        for _ in range(times):
            out = set(draw.sample(known, 16))
            same += show([one for one in known if one not in out]) == whole
        return same

    return attack
