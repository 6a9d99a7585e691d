"""
Candidate pairs: which records of two parties may be one person, and all evidence about them.

Order of calls in a run; `link` (linkage.matching.engine) does it in memory, the broker's workflow
does it with a sealed blob between the steps:

    1. shape_of(dataset)                  once a dataset     -> Shape (JSON)
    2. plan(shapes)  (planning.py)        once               -> list of Chunk (JSON)
    3. find(chunk, left, right, seed=...) once a chunk, in any order, on any machine
                                                             -> CandidateChunk (Arrow, a blob)
       large runs only, a second phase:
       rest(shapes, chunks) (staging.py)  once               -> rows not linked with confidence
       plan_rest(shapes, rest)            once               -> list of Chunk (JSON)
       find(chunk, ..., rows=rest)        once a chunk of it
    4. weigh(shapes, chunks)              once (weights.py)  -> Weights (Arrow, a blob)
    5. solve(weights, groups)             once (solve.py)    -> Entities (Arrow, a blob)
    6. assign(previous, members)          once (identity.py) -> person IDs

What the kinds of chunks are is told in planning.py. Pairs within a party are certain non-matches,
for the site has grouped its duplicates: they show what chance looks like, with families and
fashions in names.

A pair is a candidate if it agrees on any match key, or if the z of any common CLK reaches the
chunk's floor (inclusive). A chunk of kind "keys" hands on the first, the others the second, all
with z and keys filled in, so a pair that several hand on is the same in each. Every chunk draws
the same calibration from the same seed, so a chunk can be repeated after a crash with the same
result, bit for bit.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused, MatchingFailed, TooManyCandidates
from linkage.matching.dataset import (
    Dataset,
    Rows,
    Words,
    popcounts,
    representatives,
    same_keys,
    usable_rows,
    words_of,
)
from linkage.matching.dice import Floats, ones_between, pairs_reaching
from linkage.matching.planning import ALL, NULL, SAMPLE, Chunk, RowSets, drawn
from linkage.matching.zscore import Calibration, bound_for, calibrate, zscores
from linkage.records import FixedColumn

MAX_CANDIDATES = 5_000_000
"""Candidates a chunk hands on at most, about 300 MB in memory."""

Mask = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CandidateChunk:
    """
    The candidates of one chunk: P parallel rows, ordered by left row, then right row.

    left, right: uint32[P], record rows of the two datasets, from 0.
    z: float64[P, CLKs], NaN where a side has no such CLK.
    agree, disagree: uint64[P]; bit k says that both have the k-th key of the chunk and that they
    are equal, or not.
    """

    chunk: Chunk
    left: npt.NDArray[np.uint32]
    right: npt.NDArray[np.uint32]
    z: Floats
    agree: Mask
    disagree: Mask

    def __len__(self) -> int:
        return len(self.left)


def find(
    chunk: Chunk,
    left: Dataset,
    right: Dataset,
    *,
    seed: int,
    rows: RowSets | None = None,
    limit: int = MAX_CANDIDATES,
) -> CandidateChunk:
    """
    Find the candidates of one chunk with all their evidence.

    rows: the named rows that the chunk speaks of, other than those drawn from the seed. Whoever
    has many chunks makes one `Finder` for all.

    Raises MatchingFailed if the datasets or rows are not those of the chunk, EncodingRefused if
    their CLKs differ in length, TooManyCandidates past `limit` candidates.
    """
    if (left.party, right.party) != (chunk.left, chunk.right):
        raise MatchingFailed("a chunk was given other datasets than it was planned for")
    datasets = {left.party: left, right.party: right}
    return Finder(datasets.__getitem__, seed=seed, rows=rows).find(chunk, limit=limit)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Filters:
    """
    The usable filters among some rows. rows: int64[F], ascending record rows. words: uint64[F, W].
    ones: int64[F].
    """

    rows: Rows
    words: Words
    ones: npt.NDArray[np.int64]


@dataclass(slots=True, eq=False, repr=False)
class _Kept:
    """Pairs that are found once. pairs: int64[P, 2], None before."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pairs: Pairs | None = None


class Finder:
    """
    Finds the candidates of a run's chunks, in any number of threads at once.

    What chunks have in common, calibrations and lists of usable rows, is worked out once and kept;
    it does not change what is found. dataset: returns the dataset of a party, the same every time.
    rows: see `find`; may be given later, with `know`.
    """

    def __init__(
        self, dataset: Callable[[str], Dataset], *, seed: int, rows: RowSets | None = None
    ) -> None:
        self._dataset, self._seed = dataset, seed
        self._rows = dict(rows or {})
        self._kept: dict[tuple[str, ...], object] = {}
        self._within: dict[tuple[object, ...], _Kept] = {}
        self._lock = threading.RLock()

    def know(self, rows: RowSets) -> None:
        """Add named rows."""
        self._rows |= rows

    def knows(self, chunk: Chunk) -> bool:
        """Return whether it has, or can draw, all rows that the chunk names."""
        sides = (chunk.left, chunk.left_rows), (chunk.right, chunk.right_rows)
        return all(name in (ALL, NULL, SAMPLE) or (p, name) in self._rows for p, name in sides)

    def find(
        self, chunk: Chunk, *, limit: int = MAX_CANDIDATES, threads: int = 1
    ) -> CandidateChunk:
        """
        Find the candidates of one chunk, as the function `find`.

        threads: of each search of CLKs; what is found does not depend on it.
        """
        left, right = self._dataset(chunk.left), self._dataset(chunk.right)
        if chunk.stop > len(self._named(left, chunk.left_rows)):
            raise MatchingFailed("a chunk was given other datasets than it was planned for")
        blocks = [np.zeros((0, 2), np.int64)]
        if chunk.kind == "keys":
            blocks += [self._sharing(key, left, right) for key in chunk.keys]
        else:
            searched = (left, right, limit, threads)
            blocks += [self._alike_once(chunk, clk, *searched) for clk in chunk.clks]
        i, j = _unique(np.concatenate(blocks))
        if len(i) > limit:
            raise TooManyCandidates(
                f"{len(i)} candidates in one chunk, the limit is {limit}",
                hint="check the datasets for duplicates; a dataset must hold a person once",
            )
        z = np.full((len(i), len(chunk.clks)), np.nan)
        for column, clk in enumerate(chunk.clks):
            z[:, column] = self._z_of(clk, left, right, i, j)
        agree, disagree = _key_masks(chunk, left, right, i, j)
        return CandidateChunk(chunk, i.astype(np.uint32), j.astype(np.uint32), z, agree, disagree)

    def _alike_once(
        self, chunk: Chunk, clk: str, left: Dataset, right: Dataset, limit: int, threads: int
    ) -> Pairs:
        """`_alike`; pairs within a party are the same for each of its partners, and are kept."""
        if chunk.kind != "within":
            return self._alike(chunk, clk, left, right, limit, threads)
        place = (chunk.left, chunk.left_rows, chunk.right_rows, chunk.start, chunk.stop)
        with self._lock:
            kept = self._within.setdefault((clk, *place, chunk.floor, limit), _Kept())
        with kept.lock:  # of its own, so that nobody waits for another chunk
            if kept.pairs is None:
                kept.pairs = self._alike(chunk, clk, left, right, limit, threads)
            return kept.pairs

    def _alike(
        self, chunk: Chunk, clk: str, left: Dataset, right: Dataset, limit: int, threads: int
    ) -> Pairs:
        """Return the pairs whose z reaches the floor: int64[P, 2]."""
        calibration = self._calibration(clk, left, right)
        mine, theirs = self._range_of(chunk, clk, left), self._among(clk, right, chunk.right_rows)
        bits = theirs.words.shape[1] * 64
        triangle = None
        if chunk.kind == "within":
            triangle = int(np.searchsorted(theirs.rows, mine.rows[0])) if len(mine.rows) else 0
        found = pairs_reaching(
            mine.words,
            theirs.words,
            bound_for(mine.ones, theirs.ones, bits, calibration, chunk.floor),
            triangle=triangle,
            limit=limit,
            threads=threads,
        )
        ones = mine.ones[found.left], theirs.ones[found.right]
        kept = zscores(found.ones, *ones, bits, calibration) >= chunk.floor
        return np.stack([mine.rows[found.left[kept]], theirs.rows[found.right[kept]]], axis=1)

    def _range_of(self, chunk: Chunk, clk: str, left: Dataset) -> Filters:
        """Return the usable filters of the chunk's own rows."""
        whole = self._among(clk, left, chunk.left_rows)
        ends: Rows = np.array([chunk.start, chunk.stop])
        if chunk.left_rows != ALL:
            named = self._named(left, chunk.left_rows)
            ends = np.concatenate([named, [len(left.records)]])[ends]
        first, last = np.searchsorted(whole.rows, ends)
        return Filters(whole.rows[first:last], whole.words[first:last], whole.ones[first:last])

    def _among(self, clk: str, dataset: Dataset, name: str) -> Filters:
        """Return the usable filters of the named rows."""

        def made() -> Filters:
            rows = self._usable(clk, dataset)
            if name != ALL:
                rows = rows[np.isin(rows, self._named(dataset, name), assume_unique=True)]
            words = words_of(dataset.records.clks[clk])
            # A copy only where rows are left out: at a million people it is 256 MB.
            words = words if len(rows) == len(words) else words[rows]
            return Filters(rows, words, self._ones(clk, dataset)[rows])

        return self._once(made, "filters", clk, dataset.party, name)

    def _ones(self, clk: str, dataset: Dataset) -> npt.NDArray[np.int64]:
        made = lambda: popcounts(words_of(dataset.records.clks[clk]))  # noqa: E731
        return self._once(made, "ones", clk, dataset.party)

    def _named(self, dataset: Dataset, name: str) -> Rows:
        if name == ALL:
            return np.arange(len(dataset.records))
        if name in (NULL, SAMPLE):
            return self._once(lambda: drawn(dataset, name, self._seed), name, dataset.party)
        if (dataset.party, name) not in self._rows:
            raise MatchingFailed("a chunk speaks of rows that were not given")
        return self._rows[dataset.party, name]

    def _usable(self, clk: str, dataset: Dataset) -> Rows:
        made = lambda: usable_rows(dataset.records, clk)  # noqa: E731
        return self._once(made, "usable", clk, dataset.party)

    def _calibration(self, clk: str, left: Dataset, right: Dataset) -> Calibration:
        def made() -> Calibration:
            mine = self._among(clk, left, ALL).words
            theirs = mine if left is right else self._among(clk, right, ALL).words
            if mine.shape[1] != theirs.shape[1]:
                raise EncodingRefused(
                    f"the CLK {clk!r} has another length in the other dataset",
                    hint="both parties must encode with the same study file",
                )
            label = f"{clk}/{left.party}/{right.party}"
            return calibrate(mine, theirs, seed=self._seed, label=label)

        return self._once(made, "calibration", clk, left.party, right.party)

    def _sharing(self, key: str, left: Dataset, right: Dataset) -> Pairs:
        """Return the pairs that agree on `key`: int64[P, 2]."""
        rows, columns = self._keyed(key, left), self._keyed(key, right)
        mine, theirs = left.records.match_keys[key], right.records.match_keys[key]
        i, j = same_keys(mine.values[rows], theirs.values[columns])
        return np.stack([rows[i], columns[j]], axis=1)

    def _keyed(self, key: str, dataset: Dataset) -> Rows:
        people = self._once(lambda: representatives(dataset.records), "people", dataset.party)
        return people[dataset.records.match_keys[key].present[people]]

    def _z_of(self, clk: str, left: Dataset, right: Dataset, i: Rows, j: Rows) -> Floats:
        has = self._is_usable(clk, left)[i] & self._is_usable(clk, right)[j]
        mine, theirs = words_of(left.records.clks[clk]), words_of(right.records.clks[clk])
        i, j = i[has], j[has]
        z = np.full(len(has), np.nan)
        z[has] = zscores(
            ones_between(mine, theirs, i, j),
            self._ones(clk, left)[i],
            self._ones(clk, right)[j],
            mine.shape[1] * 64,
            self._calibration(clk, left, right),
        )
        return z

    def _is_usable(self, clk: str, dataset: Dataset) -> npt.NDArray[np.bool_]:
        mask = np.zeros(len(dataset.records), np.bool_)
        mask[self._usable(clk, dataset)] = True
        return mask

    def _once(self, make: Callable[[], T], *name: str) -> T:
        with self._lock:
            if name not in self._kept:
                self._kept[name] = make()
            kept: T = self._kept[name]  # type: ignore[assignment]
            return kept


def _unique(pairs: Pairs) -> tuple[Rows, Rows]:
    """Return the different pairs, ordered by left, then right."""
    codes = np.unique(pairs[:, 0] << 32 | pairs[:, 1])
    return codes >> 32, codes & 0xFFFFFFFF


def _key_masks(chunk: Chunk, left: Dataset, right: Dataset, i: Rows, j: Rows) -> tuple[Mask, Mask]:
    agree, disagree = np.zeros(len(i), np.uint64), np.zeros(len(i), np.uint64)
    for number, key in enumerate(chunk.keys):
        mine, theirs = left.records.match_keys[key], right.records.match_keys[key]
        both = mine.present[i] & theirs.present[j]
        equal = np.zeros(len(i), np.bool_)
        equal[both] = _equal(mine, i[both], theirs, j[both])
        bit = np.uint64(1 << number)
        agree[equal] |= bit
        disagree[both & ~equal] |= bit
    return agree, disagree


def _equal(mine: FixedColumn, i: Rows, theirs: FixedColumn, j: Rows) -> npt.NDArray[np.bool_]:
    return np.asarray((mine.values[i] == theirs.values[j]).all(axis=1))


def new_pairs(found: CandidateChunk) -> int:
    """Return how many pairs of two parties the chunk adds to the candidates."""
    if found.chunk.kind == "cross":  # those with a key are counted where the keys are joined
        return int((found.agree == 0).sum())
    return len(found) if found.chunk.kind == "keys" else 0


def to_arrow(found: CandidateChunk) -> pa.RecordBatch:
    """Return the candidates as one record batch; the chunk travels in the schema's metadata."""
    fields = {
        "left": found.left,
        "right": found.right,
        "agree": found.agree,
        "disagree": found.disagree,
        **{f"z:{clk}": found.z[:, c].copy() for c, clk in enumerate(found.chunk.clks)},
    }
    batch = pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in fields.items()})
    return batch.replace_schema_metadata({"chunk": json.dumps(found.chunk.to_json())})


def from_arrow(batch: pa.RecordBatch) -> CandidateChunk:
    """Read what `to_arrow` wrote. Raises EncodingRefused for another schema."""
    metadata = batch.schema.metadata or {}
    if b"chunk" not in metadata:
        raise EncodingRefused("these are not the candidates of a chunk")
    chunk = Chunk.from_json(json.loads(metadata[b"chunk"]))
    names = ["left", "right", "agree", "disagree", *(f"z:{clk}" for clk in chunk.clks)]
    if batch.schema.names != names:
        raise EncodingRefused("the columns of a candidate chunk do not fit its plan")
    left, right, agree, disagree, *z = [column.to_numpy() for column in batch.columns]
    matrix = np.stack(z, axis=1) if z else np.zeros((len(left), 0))
    return CandidateChunk(chunk, left, right, matrix, agree, disagree)
