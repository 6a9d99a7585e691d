"""
Columns of values as the bytes that keyed hashes read, and messages made of them.

    messages, starts = joined(prefix, [Spelt.of(column), ...], rows)

A value is spelt out once a column and batch; the messages of all records are then put together
by compiled loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.encoding.columns import Coded, spelt_array, spelt_out

_ROOM = np.zeros(8, np.uint8)
"""What follows the last letter, so that eight bytes can be read from each."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Spelt:
    """
    A column of N values spelt out in UTF-8: what match keys read, made once a column and batch.

    codes: int32[N]. letters: uint8, the different values joined; value u is
    letters[starts[u]:starts[u + 1]]. present: bool[N], which rows have a value.
    """

    codes: npt.NDArray[np.int32]
    letters: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, column: Coded) -> Self:
        """Return the same column, spelt out."""
        letters, starts = column.letters
        return cls(column.codes, letters, starts, (starts[1:] > starts[:-1])[column.codes])

    @classmethod
    def of_values(cls, values: Sequence[str]) -> Self:
        """Return the column that holds each of the values once."""
        return cls._each(*spelt_out(values))

    @classmethod
    def of_each(cls, column: Coded) -> Self:
        """Return the column that holds each of another column's values once."""
        return cls._each(*column.letters)

    @classmethod
    def of_arrow(cls, column: pa.StringArray) -> Self:
        """Return a column of texts without nulls, each its own value, without copying a letter."""
        return cls._each(*spelt_array(column))

    @classmethod
    def _each(cls, letters: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]) -> Self:
        codes = np.arange(len(starts) - 1, dtype=np.int32)
        return cls(codes, letters, starts, starts[1:] > starts[:-1])


def joined(
    name: npt.NDArray[np.uint8], columns: Sequence[Spelt], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """
    Return M messages, uint8, and where each begins, int64[M + 1]: for each of `rows`, `name`,
    then the row's value of each column as in `length_prefixed`.
    """
    starts = np.empty(len(rows) + 1, np.int64)
    starts[0], starts[1:] = 0, len(name) + 4 * len(columns)
    for column in columns:
        _add_lengths(starts, column.codes, rows, column.starts)
    np.cumsum(starts, out=starts)
    messages = np.empty(starts[-1], np.uint8)
    cursor = starts[:-1].copy()
    _append_name(messages, cursor, name)
    for column in columns:
        _append(messages, cursor, column.codes, rows, column.letters, column.starts)
    return messages, starts


def beside(
    columns: Sequence[Spelt], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int64], int]:
    """
    Return what `joined` would put together of these rows, not yet put together.

    codes, int32[M, C]; letters, uint8, and starts: the value of row i in column c is
    letters[starts[code]:starts[code + 1]] of code = codes[i, c]; and the most bytes that the
    values of a row can take in `length_prefixed`.
    """
    codes = np.empty((len(rows), len(columns)), np.int32)
    starts, values, letters, longest = [], 0, 0, 0
    for place, column in enumerate(columns):
        np.add(np.take(column.codes, rows), np.int32(values), out=codes[:, place])
        starts.append(column.starts + letters)
        values += len(column.starts)
        letters += len(column.letters)
        longest += 4 + int(np.diff(column.starts).max(initial=0))
    joined_letters = np.concatenate([*(column.letters for column in columns), _ROOM])
    return codes, joined_letters, np.concatenate(starts), longest


@numba.njit(nogil=True, cache=True)
def _add_lengths(sizes, codes, rows, starts):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        code = codes[rows[i]]
        sizes[i + 1] += starts[code + 1] - starts[code]


@numba.njit(nogil=True, cache=True)
def _append_name(messages, cursor, name):  # type: ignore[no-untyped-def]
    for row in range(len(cursor)):
        at = cursor[row]
        for i in range(len(name)):
            messages[at + i] = name[i]
        cursor[row] = at + len(name)


@numba.njit(nogil=True, cache=True)
def _append(messages, cursor, codes, rows, letters, starts):  # type: ignore[no-untyped-def]
    """Append each row's value after its length, 4 bytes, most significant first."""
    for i in range(len(rows)):
        code, at = codes[rows[i]], cursor[i]
        first = starts[code]
        size = starts[code + 1] - first
        for byte in range(4):
            messages[at + byte] = np.uint8(size >> (24 - 8 * byte) & 255)
        for place in range(size):
            messages[at + 4 + place] = letters[first + place]
        cursor[i] = at + 4 + size
