"""
Match keys: exact keyed tokens over combinations of fields, and what guards them.

    keys, missing = MatchKeyEncoder(rule, study, key).encode({ref: Spelt.of(column), ...})
    keys, collisions = null_repeats(keys, groups)

A key is equal wherever its fields are, under any study key, so keys that repeat inside a
dataset would show the broker its structure. Hence duplicates are grouped first, and a key
that still occurs in two groups is nulled; only a rounded count of such collisions is attested,
because the matching model needs that chance. Figures: docs/threat-model.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.encoding.columns import Coded
from linkage.encoding.duplicates import repeats
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.encoding.tags import Tagger
from linkage.errors import EncodingRefused
from linkage.records import MATCH_KEY_BYTES, FixedColumn
from linkage.study import MatchKeyRule, StudyConfig

COLLISION_ROUNDING = 5
"""Collision counts are attested in steps of this, rounded up, so that no one pair shows."""


class MatchKeyEncoder:
    """
    One match-key rule of a study, for batch after batch.

    refs: the rule's fields and transforms, whose columns `encode` takes.
    """

    def __init__(self, rule: MatchKeyRule, study: StudyConfig, key: StudyKey) -> None:
        self.refs = rule.fields
        self._name = np.frombuffer(length_prefixed(rule.id), np.uint8)
        self._tagger = Tagger(key.derive(study, "match-keys"))

    def encode(self, values: Mapping[str, Spelt]) -> tuple[FixedColumn, dict[str, int]]:
        """
        Return one match key a record and how many are null, by reason.

        values: by ref, normalised and transformed. A record that lacks a field of the rule has a
        null, counted as "missing:<field>" for the first such field in the rule's order.
        """
        columns = [values[ref] for ref in self.refs]
        n = len(columns[0].codes)
        if any(len(one.codes) != n for one in columns):
            raise EncodingRefused("a match-key rule needs columns of one length")
        reasons: dict[str, int] = {}
        present = np.ones(n, dtype=bool)
        for ref, column in zip(self.refs, columns, strict=True):
            before = int(np.count_nonzero(present))
            present &= column.present
            if lost := before - int(np.count_nonzero(present)):
                reasons[f"missing:{ref}"] = lost
        rows = np.flatnonzero(present)
        messages, starts = joined(self._name, columns, rows)
        found = np.zeros((n, MATCH_KEY_BYTES), np.uint8)
        found[rows] = self._tagger.tags(messages, starts)
        return FixedColumn(found, present), reasons


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
        values = column.values
        text = "".join(values)
        known = values if text.isascii() else [value.encode("utf-8") for value in values]
        starts = np.zeros(len(values) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, known), np.int64, count=len(values)), out=starts[1:])
        there = starts[1:] > starts[:-1]
        letters = np.frombuffer(text.encode("utf-8"), np.uint8)
        return cls(column.codes, letters, starts, there[column.codes])

    @classmethod
    def of_arrow(cls, column: pa.StringArray) -> Self:
        """Return a column of texts without nulls, each its own value, without copying a letter."""
        if column.null_count:
            raise EncodingRefused("a column holds nulls", hint="a missing value is an empty string")
        _, offsets, data = column.buffers()
        n = len(column)
        starts = np.zeros(n + 1, np.int64)
        if n:
            starts[:] = np.frombuffer(offsets, np.int32)[column.offset : column.offset + n + 1]
        letters = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
        return cls(np.arange(n, dtype=np.int32), letters, starts, starts[1:] > starts[:-1])


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


def null_repeats(column: FixedColumn, groups: npt.NDArray[np.uint32]) -> tuple[FixedColumn, int]:
    """
    Null each key that occurs in two or more groups; equal keys inside one group stay.

    groups: uint32[N], equal for the records of one person.
    Returns the column and the attested collision count: the number of values held by exactly
    two groups, rounded up to a multiple of 5, so 0 stays 0.
    """
    rows = np.flatnonzero(column.present)
    if len(groups) != len(column.present):
        raise EncodingRefused("groups and match keys differ in length")
    repeated, collisions = repeats(column.values[rows], groups[rows])
    present = column.present.copy()
    present[rows[repeated]] = False
    values = np.where(present[:, None], column.values, np.uint8(0))
    return FixedColumn(values, present), -(-collisions // COLLISION_ROUNDING) * COLLISION_ROUNDING
