"""
What the matcher knows of one dataset version, and the small description of it (`Shape`) that
travels between the steps of a run in its place.

Nothing in this package that holds encodings, scores or pseudonyms shows them in its repr, for a
repr ends up in logs.

The site has grouped its duplicates and nulled every match key that two groups share. Only the
first record of each group, its **representative**, is matched; the others inherit its entity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.errors import EncodingRefused
from linkage.records import EncodedRecords, FixedColumn

POPCOUNT_BAND = (0.05, 0.95)
"""
A CLK is compared only if its share of ones lies in this band, ends included. All-zero and
all-one filters tell nothing, and all-ones flood an ordinary Dice comparison (docs/threat-model.md).
Between the ends the hypergeometric z takes the density out by itself.
"""

Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dataset:
    """
    One dataset version as the matcher sees it.

    collisions: by match-key rule, the attested number of key values that exactly two groups of
    this dataset shared, rounded up to a multiple of 5; those keys themselves are null.

    Raises EncodingRefused if a CLK is not a multiple of 512 bits, a count is negative or
    for an unknown rule, or a key still occurs in two groups.
    """

    party: str
    records: EncodedRecords
    collisions: Mapping[str, int]

    def __post_init__(self) -> None:
        for clk, column in self.records.clks.items():
            if column.values.shape[1] == 0 or column.values.shape[1] % 64:
                raise EncodingRefused(
                    f"the CLK {clk!r} of party {self.party!r} is no multiple of 512 bits",
                    hint="use a CLK length of the study file: 512, 1024, 2048 or 4096 bits",
                )
        for rule, count in self.collisions.items():
            if rule not in self.records.match_keys or count < 0:
                raise EncodingRefused(
                    f"party {self.party!r} attests an impossible collision count for {rule!r}",
                    hint="submit again with the current program",
                )
        for rule, column in self.records.match_keys.items():
            if _shared_between_groups(column, self.records.groups):
                raise EncodingRefused(
                    f"a match key of rule {rule!r} occurs in two groups of party {self.party!r}",
                    hint="the site must null repeated keys; submit again with the current program",
                )


@dataclass(frozen=True, slots=True)
class Shape:
    """
    The size and the encodings of a dataset, without a single record; JSON-able.

    records: rows. people: groups, which is what is matched. clks, keys: in study order.
    collisions: by rule, see Dataset. unusable: by CLK, filters outside POPCOUNT_BAND.
    """

    party: str
    records: int
    people: int
    clks: tuple[str, ...]
    keys: tuple[str, ...]
    collisions: Mapping[str, int]
    unusable: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, dicts, strings and numbers."""
        plain = asdict(self)
        return {**plain, "clks": list(self.clks), "keys": list(self.keys)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Shape:
        """Read what `to_json` wrote."""
        return cls(**{**plain, "clks": tuple(plain["clks"]), "keys": tuple(plain["keys"])})


def shape_of(dataset: Dataset) -> Shape:
    """Describe `dataset`; everything that `plan` and `weigh` need of it."""
    records = dataset.records
    rows = representatives(records)
    unusable = {
        clk: int(records.clks[clk].present[rows].sum() - len(usable_rows(records, clk)))
        for clk in records.clks
    }
    return Shape(
        party=dataset.party,
        records=len(records),
        people=len(rows),
        clks=tuple(records.clks),
        keys=tuple(records.match_keys),
        collisions=dict(dataset.collisions),
        unusable={clk: count for clk, count in unusable.items() if count},
    )


def representatives(records: EncodedRecords) -> Rows:
    """Return the first row of each group, ascending: int64[people]."""
    _, first = np.unique(records.groups, return_index=True)
    return np.sort(first).astype(np.int64)


def words_of(column: FixedColumn) -> Words:
    """Return the filters as uint64[N, l / 64]; the order of bits in a word does not matter here."""
    return np.ascontiguousarray(column.values).view(np.uint64)


def popcounts(words: Words) -> npt.NDArray[np.int64]:
    """Return the number of ones of each filter: int64[N]."""
    counts: npt.NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return counts


def usable_rows(records: EncodedRecords, clk: str) -> Rows:
    """Return the representatives whose CLK exists and lies in POPCOUNT_BAND, ascending."""
    column = records.clks[clk]
    rows = representatives(records)
    rows = rows[column.present[rows]]
    share = popcounts(words_of(column)[rows]) / (column.values.shape[1] * 8)
    usable: Rows = rows[(share >= POPCOUNT_BAND[0]) & (share <= POPCOUNT_BAND[1])]
    return usable


def _shared_between_groups(column: FixedColumn, groups: npt.NDArray[np.uint32]) -> bool:
    """Return whether two records of different groups have one key."""
    rows = np.flatnonzero(column.present)
    keys, members = column.values[rows], groups[rows]
    order = _by_first_word(keys)
    first = _first_words(keys)[order]
    close = np.flatnonzero(first[1:] == first[:-1])
    if (members[order[close]] == members[order[close + 1]]).all():
        # Equal first words lie side by side, so if neighbours are of one group, all of them are.
        return False
    rows = np.flatnonzero(np.isin(first, first[close]))
    order = order[rows]
    seen: dict[bytes, int] = {}
    pairs = zip(keys[order], members[order].tolist(), strict=True)
    return any(seen.setdefault(key.tobytes(), group) != group for key, group in pairs)


def same_keys(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> tuple[Rows, Rows]:
    """
    Return the places (i, j) of equal rows of uint8[N, W] and uint8[M, W], ordered by i, then j.

    Keys are random bytes: sorting their first eight finds nearly all there is to find. The
    reference is a comparison of every row with every other (tests).
    """
    one, other = _first_words(left), _first_words(right)
    up, down = np.argsort(one, kind="stable"), np.argsort(other, kind="stable")
    ordered = other[down]
    begin = np.searchsorted(ordered, one[up], side="left")
    count = np.searchsorted(ordered, one[up], side="right") - begin
    i = np.repeat(up, count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    j = down[np.repeat(begin, count) + within]
    same = (left[i] == right[j]).all(axis=1)
    i, j = i[same], j[same]
    order = np.lexsort((j, i))
    return i[order], j[order]


def _by_first_word(values: npt.NDArray[np.uint8]) -> Rows:
    return np.argsort(_first_words(values), kind="stable")


def _first_words(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return the first eight bytes of each row of uint8[N, W]: uint64[N]."""
    return np.ascontiguousarray(values[:, :8]).view(np.uint64).ravel()


def as_scalars(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.void]:
    """View uint8[N, W] as N comparable byte strings (fixed width, trailing zeros kept)."""
    width = values.shape[1]
    return np.ascontiguousarray(values).view(f"V{width}").ravel()
