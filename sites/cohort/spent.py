"""
How much was told of each person already, and who is therefore left out of what is told next.

    spent = Spent(persons, most=10)
    spent.gone                  who is in no further number
    spent.charge(numbers, 1)    one more number that depends on these

A number that moves by its blur tells a little of everybody in it, and of nobody else. Many such
numbers about one person, each among other persons whom the reader knows, tell as much as one that
does not move. A limit on the numbers would have to be very low, and one that looks at who is in
them would tell by its refusal. So nothing is refused: whoever is in `most` numbers is silently in
no further one, and what comes after says nothing of that person, however much is asked.
Source: individual privacy accounting, Feldman and Zrnic 2021, arXiv:2008.11193. What it takes from
there is the rule, not the proof: our blur is bounded, and the size of a set decides its price.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sites.cohort.blur import Blur

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bits = np.ndarray[Any, np.dtype[np.uint8]]
Units = np.ndarray[Any, np.dtype[np.float64]]

_LEAST = 1 / 4096
"""A price below this is none: four thousand such numbers are one small one."""


def price(blur: Blur, count: int) -> float:
    """
    Return what a number of so many persons costs each: 1 for the base blur, less for a wider one.

    What a number tells falls with the square of how far it moves.
    """
    if not blur.reach:
        return 0.0
    found = (blur.reach / blur.reach_of(count)) ** 2
    return found if found >= _LEAST else 0.0


class Spent:
    """
    What was told of each person, in units of one small number. before: by number of the person, as
    it was; most: units that one may have.
    """

    def __init__(self, persons: int, most: int, before: Units | None = None) -> None:
        self._units: Units = np.zeros(persons, np.float64)
        if before is not None:
            self._units[: len(before)] = before[:persons]
        self._before = self._units.copy()
        self._most, self._open = most, False
        self.gone: Bits = self._find()

    @property
    def added(self) -> tuple[Ints, Units]:
        """Whom something was told of since this was made, ascending, and how much of each."""
        more = self._units - self._before
        who = np.flatnonzero(more)
        return who, more[who]

    def charge(self, numbers: Ints, units: float) -> None:
        """Note one more number about these persons; it counts from the next `settle` on."""
        if units:
            self._units[numbers] += units
            self._open = True

    def settle(self) -> int:
        """Find who is left out from now on; return how many more these are than before."""
        if not self._open:
            return 0
        self._open, before = False, self.gone
        self.gone = self._find()
        return int(np.bitwise_count(self.gone).sum() - np.bitwise_count(before).sum())

    def half_of(self, numbers: Ints) -> bool:
        """Was half of what may be told of most of these persons told already?"""
        return bool(np.median(self._units[numbers]) > self._most / 2) if len(numbers) else False

    def _find(self) -> Bits:
        """Return a bit a person, set for who cannot pay for one more small number."""
        bits = np.packbits(self._units > self._most - 1)
        last = np.flatnonzero(bits)
        return bits[: int(last[-1]) + 1] if len(last) else bits[:0]
