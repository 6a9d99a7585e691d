"""
Plain cells of a whole column at once: one word, a day in the source's format, number and street.

    values, found = plain(cells)

Most cells are plain, and asking Python for each different one costs more than all else that is done
with it. What is not found here goes through the field's rule, whose `quick` is the reference: a
test holds that what is found is what that gives. Nothing of a column is kept, but for the
streets that `StreetRule` remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from linkage.encoding.dates import DateRule
from linkage.encoding.rules import LONGEST
from linkage.encoding.spelt import Spelt
from linkage.encoding.streets import StreetRule

Bools = npt.NDArray[np.bool_]
Plain = Callable[[pa.StringArray], tuple[pa.StringArray, Bools]]
"""From N cells to their values, "" where not found, and bool[N], which are found."""

_LONGEST_NAME = 20
_DIGITS = {"%Y": "YYYY", "%m": "MM", "%d": "DD"}


def plain_names(not_plain: Iterable[str]) -> Plain:
    """Return what finds single words of three letters or more but for `not_plain`."""
    alike = [chr(one) * n for one in range(97, 123) for n in range(3, _LONGEST_NAME + 1)]
    others = pa.array([*not_plain, *alike], pa.string())

    def plain(cells: pa.StringArray) -> tuple[pa.StringArray, Bools]:
        words = pc.ascii_lower(cells)
        size = pc.binary_length(words)
        found = pc.and_(pc.ascii_is_alpha(words), pc.invert(pc.is_in(words, others)))
        found = pc.and_(found, pc.and_(pc.greater(size, 2), pc.less_equal(size, _LONGEST_NAME)))
        return pc.if_else(found, words, ""), found.to_numpy(zero_copy_only=False)

    return plain


def plain_dates(rule: DateRule) -> Plain | None:
    """Return what finds days in a format of four, two and two digits, None for other formats."""
    form = rule.format
    for directive, letters in _DIGITS.items():
        form = form.replace(directive, letters)
    if not rule.plain or any(form.count(one[0]) != len(one) for one in _DIGITS.values()):
        return None
    places = np.array([at for one in "YMD" for at in range(len(form)) if form[at] == one])
    template = np.frombuffer(form.encode("ascii"), np.uint8).astype(np.int16)
    template[places] = -1
    first, last = (int(day.strftime("%Y%m%d")) for day in rule.sure)

    def plain(cells: pa.StringArray) -> tuple[pa.StringArray, Bools]:
        spelt = Spelt.of_arrow(cells)
        made, found = _days(spelt.letters, spelt.starts, places, template, first, last)
        return texts_of(made[found].reshape(-1), 8 * found), found

    return plain


def plain_streets(rule: StreetRule) -> Plain:
    """Return what finds a house number and words whose form does not hang on it."""

    def plain(cells: pa.StringArray) -> tuple[pa.StringArray, Bools]:
        spelt = Spelt.of_arrow(cells)
        splits = _after_number(spelt.letters, spelt.starts, LONGEST)
        sizes = np.where(splits < 0, 0, spelt.starts[1:] - splits)
        rests = texts_of(copied(spelt.letters, splits, sizes), sizes).dictionary_encode()
        tails = Spelt.of_values(rule.tails(rests.dictionary.to_pylist()))
        codes = rests.indices.to_numpy()
        found = (splits >= 0) & tails.present[codes]
        lengths = np.where(found, splits - 1 - spelt.starts[:-1], 0)
        lengths += np.where(found, np.diff(tails.starts)[codes], 0)
        made = _joined(
            spelt.letters, spelt.starts, splits, tails.letters, tails.starts, codes, found, lengths
        )
        return texts_of(made, lengths), found

    return plain


def texts_of(letters: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64]) -> pa.StringArray:
    """Return the texts of these sizes, one after the other in `letters`."""
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    data = pa.py_buffer(np.ascontiguousarray(letters))
    return pa.StringArray.from_buffers(len(sizes), pa.py_buffer(offsets), data)


@numba.njit(nogil=True, cache=True)
def _days(letters, starts, places, template, first, last):  # type: ignore[no-untyped-def]
    """
    Return YYYYMMDD, uint8[N, 8], and which cells are days from `first` to `last`, numbers of that
    form. places: of these digits in a cell; template: int16, other characters of a cell, else -1.
    """
    n = len(starts) - 1
    made, found = np.zeros((n, 8), np.uint8), np.zeros(n, np.bool_)
    for row in range(n):
        start = starts[row]
        if starts[row + 1] - start != len(template):
            continue
        fits = True
        for at in range(len(template)):
            letter = letters[start + at]
            if template[at] < 0:
                fits &= 48 <= letter <= 57
            else:
                fits &= letter == template[at]
        if not fits:
            continue
        number = 0
        for at in range(8):
            made[row, at] = letters[start + places[at]]
            number = number * 10 + (letters[start + places[at]] - 48)
        year, month, day = number // 10000, number // 100 % 100, number % 100
        if not (1 <= month <= 12 and first <= number <= last):
            continue
        days = 30 if month in (4, 6, 9, 11) else 31
        if month == 2:
            days = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
        found[row] = 1 <= day <= days
    return made, found


@numba.njit(nogil=True, cache=True)
def _after_number(letters, starts, longest):  # type: ignore[no-untyped-def]
    """Return where a cell goes on after its number and a blank, -1 if it has none or no ASCII."""
    splits = np.full(len(starts) - 1, -1, np.int64)
    for row in range(len(splits)):
        start, stop = starts[row], starts[row + 1]
        at = start
        while at < stop and 48 <= letters[at] <= 57:
            at += 1
        if at == start or at >= stop or letters[at] != 32 or stop - start > longest:
            continue
        ascii = True
        for place in range(at, stop):
            ascii &= letters[place] < 128
        if ascii:
            splits[row] = at + 1
    return splits


@numba.njit(nogil=True, cache=True)
def copied(letters, firsts, sizes):  # type: ignore[no-untyped-def]
    """Return, joined, the pieces of `letters` that begin at `firsts` and have these sizes."""
    made = np.empty(sizes.sum(), np.uint8)
    to = 0
    for row in range(len(sizes)):
        for at in range(sizes[row]):
            made[to] = letters[firsts[row] + at]
            to += 1
    return made


@numba.njit(nogil=True, cache=True)
def _joined(letters, starts, splits, tails, tail_starts, codes, found, lengths):  # type: ignore[no-untyped-def]
    made = np.empty(lengths.sum(), np.uint8)
    to = 0
    for row in range(len(codes)):
        if not found[row]:
            continue
        for at in range(starts[row], splits[row] - 1):
            made[to] = letters[at]
            to += 1
        for at in range(tail_starts[codes[row]], tail_starts[codes[row] + 1]):
            made[to] = tails[at]
            to += 1
    return made
