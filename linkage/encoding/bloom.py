"""
Bloom filters of columns: from tokens to bits, for every encoder of this package.

    filters, present = bloom_filters(columns, features, length=2048)

A position of a token depends on the feature's key and the token only, and the positions for k
insertions are the first k of those for more. So each different token is hashed once, each
different value is cut into tokens once, and a record is the OR of its values. Where values
repeat, each gets a filter of its own first; where they do not, a record's bits are set singly.

Source: Schnell, Bachteler and Reiher 2009, doi:10.1186/1472-6947-9-41; Schnell and Borgs 2016
for composite filters; clkhash's bloomfilter.py for the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from linkage.encoding.columns import Coded
from linkage.encoding.tokens import Cutter
from linkage.errors import EncodingRefused

_ROWS = 4096
"""Records worked on at once: their filters stay in the processor's second cache."""
_VALUE_BYTES = 64 << 20
"""Most memory for the filters of a column's values; beyond it records are set bit by bit."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FeatureBits:
    """
    How one feature of a record sets bits.

    cutter: values to tokens and their positions. bits: insertions of a value, spread over its m
    tokens, the first `bits % m` taking one more (bitsPerFeature); or of each token, if per_token.
    """

    cutter: Cutter
    bits: int
    per_token: bool = False


def bloom_filters(
    columns: Sequence[Coded], features: Sequence[FeatureBits], *, length: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """
    Return a filter a record, uint8[N, ceil(length / 8)], and how many features it has.

    columns: one of N values for each feature. Bit i is bit 7 - i % 8 of byte i // 8, as in
    clkhash; bits past `length` are 0. A value without tokens sets nothing and is not counted.
    Raises EncodingRefused where the columns differ in number or length.
    """
    sizes = {len(column) for column in columns}
    if len(columns) != len(features) or len(sizes) != 1:
        raise EncodingRefused("a CLK needs one column a field, all of one length")
    n = sizes.pop()
    words = np.zeros((n, -(-length // 64)), np.uint64)
    count = np.zeros(n, np.int64)
    plans = [_plan(one, column, words) for one, column in zip(features, columns, strict=True)]
    for first in range(0, n, _ROWS):
        block = words[first : first + _ROWS]
        for plan, column in zip(plans, columns, strict=True):
            codes = column.codes[first : first + _ROWS]
            if plan.filters is not None:
                _or_values(block, codes, plan.filters)
            else:
                _set_bits(block, codes, *plan.inserted)
    for plan, column in zip(plans, columns, strict=True):
        starts = plan.inserted[0]
        count += (starts[1:] > starts[:-1])[column.codes]
    return words.view(np.uint8)[:, : -(-length // 8)], count


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    inserted: tuple[Any, ...]
    filters: npt.NDArray[np.uint64] | None


def _plan(feature: FeatureBits, column: Coded, words: npt.NDArray[np.uint64]) -> _Plan:
    """Cut a column's values, and make their filters where that saves work."""
    starts, numbers, positions = feature.cutter.cut_column(column)
    inserted = (starts, numbers, positions, feature.bits, feature.per_token)
    size = column.size
    if 2 * size > len(column) or size * words.shape[1] * 8 > _VALUE_BYTES:
        return _Plan(inserted, None)
    filters = np.zeros((size, words.shape[1]), np.uint64)
    _set_bits(filters, np.arange(size, dtype=np.int32), *inserted)
    return _Plan(inserted, filters)


@numba.njit(nogil=True, cache=True)
def _or_values(rows, codes, filters):  # type: ignore[no-untyped-def]
    """OR each record's value into it. rows: uint64[N, W], codes: int32[N], filters: uint64[U, W]"""
    for row in range(len(codes)):
        code = codes[row]
        for word in range(rows.shape[1]):
            rows[row, word] |= filters[code, word]


@numba.njit(nogil=True, cache=True)
def _set_bits(rows, codes, starts, numbers, positions, bits, per_token):  # type: ignore[no-untyped-def]
    """
    Set the bits of each record's value; positions are those of little-endian 64-bit words.

    starts: int64[U + 1], where a value's tokens begin in numbers, int32[starts[-1]], which says
    each token's row in positions, unsigned [T, k].
    """
    for row in range(len(codes)):
        start, stop = starts[codes[row]], starts[codes[row] + 1]
        if start == stop:
            continue
        each, more = bits, 0
        if not per_token:
            each, more = divmod(bits, stop - start)
        for place in range(start, stop):
            token = numbers[place]
            k = each + 1 if place - start < more else each
            for i in range(k):
                position = np.uint64(positions[token, i])
                rows[row, position >> np.uint64(6)] |= np.uint64(1) << (position & np.uint64(63))
