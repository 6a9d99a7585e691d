"""
Transforms of a whole column at once, where nearly every record has a value of its own.

    change = plain_change("sound")
    column = change(column)

Asking Python for each of a batch's streets and surnames cost more than cutting and hashing them.
`linkage.encoding.transforms` has the reference for each, and what is not plain goes there: a test
holds that both give the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from linkage.encoding.columns import Coded
from linkage.encoding.plain_cells import copied, texts_of

PlainChange = Callable[[Coded], Coded | None]
"""Returns the changed column, None where a value is not plain."""

_SOUNDS = np.zeros(26, np.uint8)
for _digit, _letters in enumerate(("bfpv", "cgjkqsxz", "dt", "l", "mn", "r"), start=1):
    _SOUNDS[[ord(_letter) - 97 for _letter in _letters]] = _digit
_PASSED_OVER = np.array([ord(letter) - 97 for letter in "hw"])
"""Between two letters of one sound these leave them one; any other letter parts them."""


def plain_change(transform: str) -> PlainChange | None:
    """Return what makes a transform of whole columns, None where it is made value by value."""
    return _PLAIN.get(transform)


def _sound(column: Coded) -> Coded | None:
    """Return American Soundex of names in small letters and hyphens."""
    letters, starts = column.letters
    made, sizes, plain = _soundex(letters, starts, _SOUNDS, _PASSED_OVER)
    if not plain:
        return None
    return Coded(column.codes, array=texts_of(made[: int(sizes.sum())], sizes))


def _house_number(column: Coded) -> Coded | None:
    """Return the first words of ASCII streets that are house numbers."""
    letters, starts = column.letters
    sizes = _number_sizes(letters, starts)
    if len(sizes) and sizes.min() < 0:
        return None
    return Coded(column.codes, array=texts_of(copied(letters, starts, sizes), sizes))


_PLAIN: dict[str, PlainChange] = {"sound": _sound, "house_number": _house_number}


@numba.njit(nogil=True, cache=True)
def _soundex(letters, starts, sounds, passed_over) -> Any:  # type: ignore[no-untyped-def]
    """Return the codes joined, uint8, their sizes (4 or 0), and whether all values are plain."""
    made = np.empty(4 * (len(starts) - 1), np.uint8)
    sizes = np.zeros(len(starts) - 1, np.int64)
    at = 0
    for value in range(len(sizes)):
        start, stop = starts[value], starts[value + 1]
        found, last = 0, 0
        for place in range(start, stop):
            letter = letters[place]
            if letter == 45:  # a hyphen
                continue
            if not 97 <= letter <= 122:
                return made, sizes, False
            sound = sounds[letter - 97]
            if found == 0:
                made[at] = letter - 32
                found, last = 1, sound
            elif sound:
                if sound != last and found < 4:
                    made[at + found] = 48 + sound
                    found += 1
                last = sound
            elif letter - 97 != passed_over[0] and letter - 97 != passed_over[1]:
                last = 0
        if found == 0 and stop > start:
            return made, sizes, False
        if stop - start > 1:
            for place in range(found, 4):
                made[at + place] = 48
            sizes[value] = 4
            at += 4
    return made, sizes, True


@numba.njit(nogil=True, cache=True)
def _number_sizes(letters, starts) -> Any:  # type: ignore[no-untyped-def]
    """Return the length of each value's house number, 0 without one, -1 where it is not ASCII."""
    sizes = np.zeros(len(starts) - 1, np.int64)
    for value in range(len(sizes)):
        start, stop = starts[value], starts[value + 1]
        end, digits = start, 0
        while end < stop and letters[end] != 32:
            if letters[end] > 127:
                sizes[value] = -1
                break
            if digits == end - start and 48 <= letters[end] <= 57:
                digits += 1
            end += 1
        if sizes[value] < 0 or digits == 0:
            continue
        rest = end - start - digits
        ordinal = False
        if rest == 2:
            one, two = letters[end - 2], letters[end - 1]
            ordinal = (
                (one == 115 and two == 116)  # st
                or (one == 110 and two == 100)  # nd
                or (one == 114 and two == 100)  # rd
                or (one == 116 and two == 104)  # th
            )
        if not ordinal:
            sizes[value] = end - start
    return sizes
