"""
Candidate pairs: which records of two parties may be one person, and all evidence about them.

Order of calls in a run; `link` (linkage.matching.engine) does it in memory, the broker's workflow
does it with a sealed blob between the steps:

    1. shape_of(dataset)                  once a dataset     -> Shape (JSON)
    2. plan(shapes, rows_per_chunk=...)   once               -> list of Chunk (JSON)
    3. find(chunk, left, right, seed=...) once a chunk, in any order, on any machine
                                                             -> CandidateChunk (Arrow, a blob)
    4. weigh(shapes, chunks)              once (weights.py)  -> Weights (Arrow, a blob)
    5. solve(weights, groups)             once (solve.py)    -> Entities (Arrow, a blob)
    6. assign(previous, members)          once (identity.py) -> person IDs

A chunk is a range of rows of one dataset against all of another ("cross"), or against the rest of
itself ("within"). Pairs within a party are certain non-matches, for the site has grouped its
duplicates: they show what chance looks like, with families and fashions in names.

A pair is a candidate if it agrees on any match key, or if the z of any common CLK reaches the
chunk's floor (inclusive). Every chunk draws the same calibration from the same seed, so a chunk
can be repeated after a crash with the same result, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import norm

from linkage.errors import EncodingRefused, MatchingFailed, TooManyCandidates
from linkage.matching.dataset import (
    Dataset,
    Rows,
    Shape,
    as_scalars,
    popcounts,
    representatives,
    usable_rows,
    words_of,
)
from linkage.matching.dice import Floats, pairs_reaching
from linkage.matching.zscore import Calibration, bound_for, calibrate, zscores

LOWEST_FLOOR = 3.5
CHANCE_PARTNERS = 0.4
"""Chance pairs above the floor for each record of the smaller dataset, were z exactly normal."""
ROWS_PER_CHUNK = 20_000
MAX_CANDIDATES = 5_000_000
"""Candidates a chunk hands on at most, about 300 MB in memory."""
MAX_KEYS = 64

Mask = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    One piece of work: rows `start` to `stop` (exclusive) of `left` against `right`; JSON-able.

    kind: "cross" for two parties; "within" for one party and itself, right == left, as the null of
    the comparison with `against`. clks, keys: what both sides of the comparison hold, in study
    order. floor: least z, inclusive.
    """

    kind: Literal["cross", "within"]
    left: str
    right: str
    against: str
    clks: tuple[str, ...]
    keys: tuple[str, ...]
    start: int
    stop: int
    floor: float

    @property
    def name(self) -> str:
        """Return a name that is unique in a run's plan."""
        return f"{self.kind}:{self.left}:{self.against}:{self.start}"

    @property
    def comparison(self) -> tuple[str, str]:
        """Return the two parties whose pairs this chunk is about, in sorted order."""
        first, second = sorted((self.left, self.against))
        return first, second

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers."""
        return {**asdict(self), "clks": list(self.clks), "keys": list(self.keys)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Chunk:
        """Read what `to_json` wrote."""
        return cls(**{**plain, "clks": tuple(plain["clks"]), "keys": tuple(plain["keys"])})


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


def plan(shapes: Sequence[Shape], *, rows_per_chunk: int = ROWS_PER_CHUNK) -> list[Chunk]:
    """
    Cut a run over these datasets into chunks: for every two parties with a CLK or a key in common,
    the pairs between them and the pairs within each. A dataset without records has one empty chunk.

    Raises MatchingFailed with fewer than two parties, with two of one name, with more than 64
    common rules, or if no two parties have anything in common.
    """
    if len({s.party for s in shapes}) != len(shapes) or len(shapes) < 2:
        raise MatchingFailed("a run needs two or more parties, each once")
    if rows_per_chunk < 1:
        raise MatchingFailed("a chunk needs at least one row")
    chunks: list[Chunk] = []
    for one, other in combinations(sorted(shapes, key=lambda s: s.party), 2):
        clks = tuple(c for c in one.clks if c in other.clks)
        keys = tuple(k for k in one.keys if k in other.keys)
        if len(keys) > MAX_KEYS:
            raise MatchingFailed(f"two parties share more than {MAX_KEYS} match-key rules")
        if not clks and not keys:
            continue
        floor = least_z(one.people, other.people)
        for kind, left, right in _comparisons(one, other, with_clks=bool(clks)):
            against = other.party if left is one else one.party
            for start in range(0, max(1, left.records), rows_per_chunk):
                stop = min(start + rows_per_chunk, left.records)
                chunks.append(
                    Chunk(kind, left.party, right.party, against, clks, keys, start, stop, floor)
                )
    if not chunks:
        raise MatchingFailed(
            "no two parties have a CLK or a match key in common",
            hint="add a [[clk]] over fields that two parties hold to the study file",
        )
    return chunks


def _comparisons(
    one: Shape, other: Shape, *, with_clks: bool
) -> Iterator[tuple[Literal["cross", "within"], Shape, Shape]]:
    yield "cross", one, other
    if with_clks:
        yield "within", one, one
        yield "within", other, other


def least_z(left: int, right: int) -> float:
    """
    Return the z from which pairs without a common key are candidates, for these numbers of people.

    At least 3.5; for larger datasets so high that chance alone would give each record of the
    smaller one 0.4 partners.
    """
    largest = max(left, right, 1)
    return max(LOWEST_FLOOR, float(norm.isf(min(0.5, CHANCE_PARTNERS / largest))))


def find(
    chunk: Chunk, left: Dataset, right: Dataset, *, seed: int, limit: int = MAX_CANDIDATES
) -> CandidateChunk:
    """
    Find the candidates of one chunk with all their evidence.

    Raises MatchingFailed if the datasets are not those of the chunk, EncodingRefused if their CLKs
    differ in length, TooManyCandidates past `limit` candidates.
    """
    if (left.party, right.party) != (chunk.left, chunk.right) or chunk.stop > len(left.records):
        raise MatchingFailed("a chunk was given other datasets than it was planned for")
    calibrations = [_calibration(chunk, clk, left, right, seed) for clk in chunk.clks]
    found = [
        _alike(chunk, clk, left, right, calibration, limit)
        for clk, calibration in zip(chunk.clks, calibrations, strict=True)
    ]
    found += [_sharing(chunk, key, left, right) for key in chunk.keys]
    pairs = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)
    if len(pairs) > limit:
        raise TooManyCandidates(
            f"{len(pairs)} candidates in one chunk, the limit is {limit}",
            hint="check the datasets for duplicates; a dataset must hold a person once",
        )
    i, j = pairs[:, 0], pairs[:, 1]
    z = np.full((len(pairs), len(chunk.clks)), np.nan)
    for column, clk in enumerate(chunk.clks):
        z[:, column] = _z_of(clk, left, right, i, j, calibrations[column])
    agree, disagree = _key_masks(chunk, left, right, i, j)
    return CandidateChunk(chunk, i.astype(np.uint32), j.astype(np.uint32), z, agree, disagree)


def _alike(
    chunk: Chunk, clk: str, left: Dataset, right: Dataset, calibration: Calibration, limit: int
) -> npt.NDArray[np.int64]:
    """Return the pairs whose z reaches the floor: int64[P, 2]."""
    column, other = left.records.clks[clk], right.records.clks[clk]
    if column.values.shape[1] != other.values.shape[1]:
        raise EncodingRefused(
            f"the CLK {clk!r} has another length in the other dataset",
            hint="both parties must encode with the same study file",
        )
    rows, columns = usable_rows(left.records, clk), usable_rows(right.records, clk)
    first, last = np.searchsorted(rows, [chunk.start, chunk.stop])
    mine = words_of(column)[rows[first:last]]
    theirs = words_of(other)[columns]
    ones_left, ones_right = popcounts(mine), popcounts(theirs)
    bits = mine.shape[1] * 64
    found = pairs_reaching(
        mine,
        theirs,
        bound_for(ones_left, ones_right, bits, calibration, chunk.floor),
        triangle=int(first) if chunk.kind == "within" else None,
        limit=limit,
    )
    z = zscores(found.ones, ones_left[found.left], ones_right[found.right], bits, calibration)
    kept = z >= chunk.floor
    return np.stack([rows[first:last][found.left[kept]], columns[found.right[kept]]], axis=1)


def _calibration(chunk: Chunk, clk: str, left: Dataset, right: Dataset, seed: int) -> Calibration:
    mine = words_of(left.records.clks[clk])[usable_rows(left.records, clk)]
    same = chunk.kind == "within"
    theirs = mine if same else words_of(right.records.clks[clk])[usable_rows(right.records, clk)]
    return calibrate(mine, theirs, seed=seed, label=f"{clk}/{left.party}/{right.party}")


def _sharing(chunk: Chunk, key: str, left: Dataset, right: Dataset) -> npt.NDArray[np.int64]:
    """Return the pairs that agree on `key`: int64[P, 2]. Within a dataset there is none."""
    if chunk.kind == "within":
        return np.zeros((0, 2), np.int64)
    rows, columns = _keyed(left, key), _keyed(right, key)
    rows = rows[(rows >= chunk.start) & (rows < chunk.stop)]
    mine = as_scalars(left.records.match_keys[key].values[rows])
    theirs = as_scalars(right.records.match_keys[key].values[columns])
    _, i, j = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
    return np.stack([rows[i], columns[j]], axis=1)


def _keyed(dataset: Dataset, key: str) -> Rows:
    rows = representatives(dataset.records)
    return rows[dataset.records.match_keys[key].present[rows]]


def _z_of(
    clk: str, left: Dataset, right: Dataset, i: Rows, j: Rows, calibration: Calibration
) -> Floats:
    column, other = left.records.clks[clk], right.records.clks[clk]
    has = np.isin(i, usable_rows(left.records, clk)) & np.isin(j, usable_rows(right.records, clk))
    mine, theirs = words_of(column)[i[has]], words_of(other)[j[has]]
    ones = np.bitwise_count(mine & theirs).sum(axis=1, dtype=np.int64)
    z = np.full(len(i), np.nan)
    z[has] = zscores(
        ones,
        popcounts(mine),
        popcounts(theirs),
        mine.shape[1] * 64,
        calibration,
    )
    return z


def _key_masks(chunk: Chunk, left: Dataset, right: Dataset, i: Rows, j: Rows) -> tuple[Mask, Mask]:
    agree, disagree = np.zeros(len(i), np.uint64), np.zeros(len(i), np.uint64)
    for number, key in enumerate(chunk.keys):
        mine, theirs = left.records.match_keys[key], right.records.match_keys[key]
        both = mine.present[i] & theirs.present[j]
        equal = np.zeros(len(i), np.bool_)
        equal[both] = (mine.values[i[both]] == theirs.values[j[both]]).all(axis=1)
        bit = np.uint64(1 << number)
        agree[equal] |= bit
        disagree[both & ~equal] |= bit
    return agree, disagree


def to_arrow(found: CandidateChunk) -> pa.RecordBatch:
    """Return the candidates as one record batch; the chunk travels in the schema's metadata."""
    import json

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
    import json

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
