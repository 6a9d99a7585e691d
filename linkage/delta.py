"""
A dataset version told as what changed since an earlier one.

A delta's parts hold rows of the usual layout (linkage.records): every record that is new or whose
encodings changed, every member of a group whose members changed, and for every record that is
gone a row of nulls whose group is REMOVED. `group` counts rows of the delta. So what the delta
does not name is as it was, group and all, and the whole can be put together without the source.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.errors import EncodingRefused
from linkage.records import Bytes2D, EncodedRecords, FixedColumn
from linkage.strata import NO_MARK

REMOVED = np.iinfo(np.uint32).max
"""The group of a row that says its record is gone."""

_REMEDY = "the site tokenizes again, without --delta"


def removals(
    pseudonyms: Bytes2D,
    clk_bytes: dict[str, int],
    rules: list[str],
    key_bytes: int,
    *,
    strata: int = 0,
) -> EncodedRecords:
    """
    Return the rows that say of `pseudonyms`, uint8[n, 16], that their records are gone. strata: how
    many marks a row has, all NO_MARK.
    """
    n = len(pseudonyms)

    def nulls(width: int) -> FixedColumn:
        return FixedColumn(np.zeros((n, width), np.uint8), np.zeros(n, dtype=bool))

    return EncodedRecords(
        pseudonyms=pseudonyms,
        groups=np.full(n, REMOVED, np.uint32),
        clks={clk: nulls(width) for clk, width in clk_bytes.items()},
        match_keys={rule: nulls(key_bytes) for rule in rules},
        strata=np.full((n, strata), NO_MARK, np.uint8) if strata else None,
    )


def apply_delta(base: EncodedRecords, delta: EncodedRecords) -> EncodedRecords:
    """
    Return the dataset version that `delta` makes of `base`, in pseudonym order.

    Raises EncodingRefused where the delta removes what is not there, or breaks up a group that it
    does not name whole, or where a group is not named by one of its rows.
    """
    gone = delta.groups == REMOVED
    touched = is_among(base.pseudonyms, delta.pseudonyms)
    if not is_among(delta.pseudonyms[gone], base.pseudonyms).all():
        raise EncodingRefused("a delta removes a record that its base lacks", hint=_REMEDY)
    if (base.strata is None) != (delta.strata is None):
        raise EncodingRefused(
            "a delta bears marks of strata where its base does not, or the other way", hint=_REMEDY
        )
    kept, new = np.flatnonzero(~touched), np.flatnonzero(~gone)
    if (base.groups >= len(base)).any() or (base.groups[base.groups] != base.groups).any():
        raise EncodingRefused("a base's group is not named by a row of it", hint=_REMEDY)
    stays = np.zeros(len(base), dtype=bool)
    stays[base.groups[kept]] = True
    if stays[base.groups[touched]].any():
        raise EncodingRefused("a delta names only a part of a group", hint=_REMEDY)
    if (delta.groups[new] >= len(delta)).any() or gone[delta.groups[new]].any():
        raise EncodingRefused("a delta's group is none of its rows", hint=_REMEDY)
    place = np.zeros(len(base), np.int64)
    place[kept] = np.arange(len(kept))
    new_place = np.zeros(len(delta), np.int64)
    new_place[new] = np.arange(len(new)) + len(kept)
    whole = EncodedRecords(
        pseudonyms=np.concatenate([base.pseudonyms[kept], delta.pseudonyms[new]]),
        groups=np.concatenate([place[base.groups[kept]], new_place[delta.groups[new]]]).astype(
            np.uint32
        ),
        clks={name: _joined(base.clks[name], kept, delta.clks[name], new) for name in base.clks},
        match_keys={
            name: _joined(base.match_keys[name], kept, delta.match_keys[name], new)
            for name in base.match_keys
        },
        strata=None
        if base.strata is None or delta.strata is None
        else np.concatenate([base.strata[kept], delta.strata[new]]),
    )
    return in_pseudonym_order(whole)


def in_pseudonym_order(records: EncodedRecords) -> EncodedRecords:
    """Return the records sorted by pseudonym; each group is named by its first record."""
    order = sorting(records.pseudonyms)
    position = np.empty(len(order), np.uint32)
    position[order] = np.arange(len(order), dtype=np.uint32)
    first = np.full(len(order), REMOVED, np.uint32)
    np.minimum.at(first, records.groups, position)

    def sort(columns: dict[str, FixedColumn]) -> dict[str, FixedColumn]:
        return {n: FixedColumn(c.values[order], c.present[order]) for n, c in columns.items()}

    return EncodedRecords(
        pseudonyms=records.pseudonyms[order],
        groups=first[records.groups][order],
        clks=sort(records.clks),
        match_keys=sort(records.match_keys),
        strata=None if records.strata is None else records.strata[order],
    )


def sorting(pseudonyms: Bytes2D) -> npt.NDArray[np.int64]:
    """Return the row numbers that put uint8[N, 16] in order."""
    halves = np.ascontiguousarray(pseudonyms).view(">u8").astype(np.uint64)
    return in_order(halves[:, 0], halves[:, 1])


def in_order(first: npt.NDArray[np.uint64], *others: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the order by `first`, random numbers, and among equal ones by the others in turn."""
    order = np.argsort(first)
    ordered = first[order]
    if (ordered[1:] == ordered[:-1]).any():  # hardly ever, and then all is sorted properly
        return np.lexsort((*reversed(others), first))
    return order


def is_among(some: Bytes2D, others: Bytes2D) -> npt.NDArray[np.bool_]:
    """Return bool[n]: which of `some`, uint8[n, 16], are among `others`; none occurs twice."""
    both = np.concatenate([some, others])
    order = sorting(both)
    ordered = both[order]
    same = np.zeros(len(both), dtype=bool)
    equal = (ordered[1:] == ordered[:-1]).all(axis=1)
    same[order[1:][equal]] = True
    same[order[:-1][equal]] = True
    return same[: len(some)]


def _joined(
    left: FixedColumn,
    left_rows: npt.NDArray[np.int64],
    right: FixedColumn,
    right_rows: npt.NDArray[np.int64],
) -> FixedColumn:
    return FixedColumn(
        np.concatenate([left.values[left_rows], right.values[right_rows]]),
        np.concatenate([left.present[left_rows], right.present[right_rows]]),
    )
