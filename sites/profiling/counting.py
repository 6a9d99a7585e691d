"""
Counting values of any number of records in bounded memory: exact counts, and the common values.

    hashing = Hashing()
    counts = ValueCounts()
    counts.add(hashing.of(values), records)          # batch after batch
    counts.summary().distinct

Values are counted by a 64-bit keyed hash (SipHash, as pandas has it) under a key of this run
alone, which is drawn at its start and kept nowhere. Counts that memory does not hold go to a
nameless temporary file, so nothing stays behind after a crash, and what was there could not be
read back into values. Two values of one hash would be counted as one: for 10 million different
values the chance of any such pair is 3 in a million.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import numpy.typing as npt
import pandas as pd

HELD = 500_000
"""Different values that a counter keeps in memory before it writes them out (12 bytes each)."""

KEPT = 20_000
"""
Values whose text is kept, at least: every value held by more than one in 20,000 records is among
them. (Misra and Gries 1982, doi:10.1016/0167-6423(82)90012-0.)
"""

_SLICES = 64
_DTYPE = np.dtype([("hash", "<u8"), ("count", "<u4")])

Hashes = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]


class Hashing:
    """A keyed hash of texts. key: 16 ASCII characters; by default drawn for this run alone."""

    __slots__ = ("_key",)

    def __init__(self, key: str | None = None) -> None:
        self._key = key or secrets.token_hex(8)

    def of(self, values: Sequence[str]) -> Hashes:
        """Return uint64[len(values)], equal for equal texts."""
        texts = np.empty(len(values), dtype=object)
        texts[:] = values
        return pd.util.hash_array(texts, hash_key=self._key, categorize=False)


def mixed(columns: Sequence[Hashes]) -> Hashes:
    """Return one hash a record over its columns of hashes, in their order (splitmix64 rounds)."""
    made = np.zeros_like(columns[0])
    for column in columns:
        made = (made ^ column) + np.uint64(0x9E3779B97F4A7C15)
        made = (made ^ (made >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        made = (made ^ (made >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        made ^= made >> np.uint64(31)
    return made


@dataclass(frozen=True, slots=True)
class CountSummary:
    """
    distinct: different values. repeated: values held by two records or more; extra: records
    beyond the first of each. highest: records of the commonest value. crowded: values held by
    `crowd` records or more, crowded_records: those records. looked_up: records of each hash asked
    for.
    """

    distinct: int
    repeated: int
    extra: int
    highest: int
    crowded: int
    crowded_records: int
    looked_up: Counts


class ValueCounts:
    """Exact counts by hash. held: different values kept in memory before they are written out."""

    def __init__(self, held: int = HELD) -> None:
        self._limit = held
        self._waiting: list[tuple[Hashes, Counts]] = []
        self._rows = 0
        self._file: IO[bytes] | None = None
        self._runs: list[tuple[int, int]] = []  # (first row in the file, rows), sorted by hash

    def add(self, hashes: Hashes, counts: Counts) -> None:
        """Count `counts[i]` more records of the value `hashes[i]`; a hash may come again."""
        if not len(hashes):
            return
        self._waiting.append((hashes, counts.astype(np.int64, copy=False)))
        self._rows += len(hashes)
        if self._rows > 2 * self._limit:
            self._settle()

    def summary(self, look_up: Hashes | None = None, *, crowd: int = 10) -> CountSummary:
        """Return what was counted so far; `look_up`: hashes to count one by one."""
        asked = np.zeros(0, np.uint64) if look_up is None else look_up
        found = np.zeros(len(asked), np.int64)
        distinct = repeated = extra = highest = crowded = crowded_records = 0
        for hashes, counts in self._merged():
            distinct += len(hashes)
            repeated += int((counts > 1).sum())
            extra += int((counts - 1).sum())
            highest = max(highest, int(counts.max()))
            many = counts >= crowd
            crowded += int(many.sum())
            crowded_records += int(counts[many].sum())
            at = np.minimum(np.searchsorted(hashes, asked), len(hashes) - 1)
            here = hashes[at] == asked
            found[here] = counts[at[here]]
        return CountSummary(distinct, repeated, extra, highest, crowded, crowded_records, found)

    def close(self) -> None:
        """Drop the temporary file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _settle(self) -> None:
        hashes, counts = _summed(self._waiting)
        self._waiting, self._rows = [(hashes, counts)], len(hashes)
        if len(hashes) <= self._limit:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="linkage-profile-")  # noqa: SIM115
        run = np.empty(len(hashes), _DTYPE)
        run["hash"], run["count"] = hashes, np.minimum(counts, np.iinfo(np.uint32).max)
        start = sum(rows for _, rows in self._runs)
        self._file.seek(start * _DTYPE.itemsize)
        self._file.write(run.tobytes())
        self._runs.append((start, len(run)))
        self._waiting, self._rows = [], 0

    def _merged(self) -> Iterator[tuple[Hashes, Counts]]:
        """Yield (hashes, counts), each hash once, ascending: slice by slice of the hash's range."""
        hashes, counts = _summed(self._waiting)
        if self._file is None:
            if len(hashes):
                yield hashes, counts
            return
        self._file.flush()
        runs = [
            np.memmap(self._file, _DTYPE, "r", offset=start * _DTYPE.itemsize, shape=(rows,))
            for start, rows in self._runs
        ]
        edges = np.arange(1, _SLICES, dtype=np.uint64) << np.uint64(58)
        cuts = [_cuts(hashes, edges), *(_cuts(run["hash"], edges) for run in runs)]
        for i in range(_SLICES):
            low, high = cuts[0][i], cuts[0][i + 1]
            pieces = [(hashes[low:high], counts[low:high])]
            for run, cut in zip(runs, cuts[1:], strict=True):
                piece = run[cut[i] : cut[i + 1]]
                pieces.append((piece["hash"], piece["count"].astype(np.int64)))
            summed = _summed(pieces)
            if len(summed[0]):
                yield summed


@dataclass(slots=True)
class Common:
    """One kept text. records: seen of it (a lower bound). seen: which of 64 kinds of record."""

    records: int = 0
    seen: int = 0


@dataclass(slots=True)
class CommonValues:
    """
    The texts of common values, and whether ten different records hold each.

    Copies of one record must not make its values look common, so each record falls by its hash
    into one of 64 kinds, and the kinds that held a value are a lower bound of its different
    records: nine are never taken for ten, ten sometimes for nine.
    """

    kept: int = KEPT
    values: dict[str, Common] = field(default_factory=dict)

    def add(self, texts: Sequence[str], counts: Counts, seen: Hashes) -> None:
        """Add a batch: different texts, records of each, and the kinds of record (`kinds_of`)."""
        values = self.values
        for text, count, kinds in zip(texts, counts.tolist(), seen.tolist(), strict=True):
            held = values.get(text)
            if held is None:
                values[text] = Common(count, kinds)
            else:
                held.records += count
                held.seen |= kinds
        if len(values) > 2 * self.kept:
            self._drop()

    def showable(self, least: int = 10) -> list[str]:
        """Return the texts that `least` different records hold for certain."""
        return [t for t, c in self.values.items() if c.seen.bit_count() >= least]

    def _drop(self) -> None:
        """Take from all what the first one beyond `kept` has; what has nothing left goes."""
        ranked = sorted((one.records for one in self.values.values()), reverse=True)
        least = ranked[self.kept]
        self.values = {t: c for t, c in self.values.items() if c.records > least}
        for one in self.values.values():
            one.records -= least


def kinds_of(codes: npt.NDArray[np.int32], size: int, records: Hashes) -> Hashes:
    """Return uint64[size]: by code, one bit for each kind of record (of 64) that holds it."""
    made = np.zeros(size, np.uint64)
    np.bitwise_or.at(made, codes, np.uint64(1) << (records >> np.uint64(58)))
    return made


def _summed(pieces: Sequence[tuple[Hashes, Counts]]) -> tuple[Hashes, Counts]:
    if not pieces:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    hashes = np.concatenate([hashes for hashes, _ in pieces])
    counts = np.concatenate([counts for _, counts in pieces])
    order = np.argsort(hashes, kind="stable")
    hashes, counts = hashes[order], counts[order]
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]]) if len(hashes) else order
    return hashes[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def _cuts(hashes: npt.NDArray[np.uint64], edges: Hashes) -> list[int]:
    return [0, *np.searchsorted(hashes, edges).tolist(), len(hashes)]
