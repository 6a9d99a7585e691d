"""
What a run compares: the plan, cut into chunks that any machine can do in any order.

A run of few comparisons of CLKs (at most AFFORDABLE) compares all pairs in one phase:

    keys     the records of two parties that agree on any match key, a hash join over all rows
    cross    rows of one party's CLKs against all of another's
    within   the same within each party: what chance looks like (evidence.py)

A larger one takes two phases. The first has the keys, and within each party the CLKs of a seeded
random sample of its people. A fit on those says which records are linked with confidence, and the
second phase compares the rest (linkage.matching.staging):

    cross    CLKs of the records of one party that no key links with confidence against those of
             the other
    sample   a seeded random sample of one party's people against all of the other, to estimate
             what the staging lost

The same rows are never listed twice: rows of a dataset have a name, ALL, NULL, SAMPLE or what
`rest_of` gives, and a chunk is a range of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy.special import ndtri

from linkage.errors import MatchingFailed
from linkage.matching.dataset import Dataset, Rows, Shape, representatives
from linkage.matching.zscore import seed_for

LOWEST_FLOOR = 3.5
CHANCE_PARTNERS = 0.4
"""Chance pairs above the floor for each record of the smaller dataset, were z exactly normal."""
ROWS_PER_CHUNK = 20_000
MAX_KEYS = 64
AFFORDABLE = 40_000_000_000
"""Comparisons of CLKs in a run up to which all pairs are compared: two parties of 140,000 people,
or ten of 20,000. A minute or two on two cores (docs/performance.md)."""
NULL_PEOPLE = 80_000
"""People in the sample that stands for chance where there are more. 3.2 G pairs: at a million
people a side some 1,300 of them reach the floor, each for 160 cross pairs."""
SAMPLE_PEOPLE = 4_000
"""People compared exhaustively to estimate what staging lost. If half of them have a match and none
was lost, the loss is below .2 % with 95 % confidence."""

ALL, NULL, SAMPLE = "all", "null", "sample"

Kind = Literal["keys", "cross", "within", "sample"]
RowSets = Mapping[tuple[str, str], Rows]
"""Named rows that cannot be drawn again from the seed, by party and name: int64, ascending."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    One piece of work: a range of rows of `left` against rows of `right`; JSON-able.

    kind: "keys", "cross" and "sample" for two parties; "within" for one party and itself,
    right == left, as the null of the comparison with `against`. clks, keys: what both sides of the
    comparison hold, in study order. left_rows, right_rows: names of rows (see above).
    start, stop: the range (stop exclusive) of record rows where left_rows is ALL, else of places in
    the named rows. of: where the last range of these rows stops. people: how many people the named
    rows of left and right hold. floor: least z, inclusive.
    """

    kind: Kind
    left: str
    right: str
    against: str
    clks: tuple[str, ...]
    keys: tuple[str, ...]
    start: int
    stop: int
    floor: float
    of: int = 0
    people: tuple[int, int] = (0, 0)
    left_rows: str = ALL
    right_rows: str = ALL

    @property
    def name(self) -> str:
        """Return a name that is unique in a run's plan, for the work and whoever asks for it."""
        return f"{self.kind}:{self.left}:{self.against}:{self.left_rows}:{self.start:012}"

    @property
    def comparison(self) -> tuple[str, str]:
        """Return the two parties whose pairs this chunk is about, in sorted order."""
        first, second = sorted((self.left, self.against))
        return first, second

    @property
    def comparisons(self) -> int:
        """Return about how many times two CLKs are compared."""
        if self.kind == "keys" or not self.of:
            return 0
        share = (self.stop - self.start) / self.of
        if self.kind == "within":  # the triangle right of each row
            share *= 1 - (self.start + self.stop) / (2 * self.of)
        return round(share * self.people[0] * self.people[1]) * len(self.clks)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers."""
        plain = asdict(self)
        return {**plain, **{n: list(plain[n]) for n in ("clks", "keys", "people")}}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Chunk:
        """Read what `to_json` wrote."""
        lists = {name: tuple(plain[name]) for name in ("clks", "keys", "people")}
        return cls(**{**plain, **lists})


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two parties that have something in common, in sorted order, and what: in study order."""

    one: Shape
    other: Shape
    clks: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def parties(self) -> tuple[str, str]:
        """Return their names."""
        return self.one.party, self.other.party

    @property
    def comparisons(self) -> int:
        """Return how many times two CLKs are compared if all pairs are."""
        return self.one.people * self.other.people * len(self.clks)


def comparisons_of(shapes: Sequence[Shape]) -> list[Comparison]:
    """
    Return every two parties with a CLK or a key in common, in sorted order.

    Raises MatchingFailed with fewer than two parties, with two of one name, with more than 64
    common rules, or if no two parties have anything in common.
    """
    if len({s.party for s in shapes}) != len(shapes) or len(shapes) < 2:
        raise MatchingFailed("a run needs two or more parties, each once")
    found = []
    for one, other in combinations(sorted(shapes, key=lambda s: s.party), 2):
        clks = tuple(c for c in one.clks if c in other.clks)
        keys = tuple(k for k in one.keys if k in other.keys)
        if len(keys) > MAX_KEYS:
            raise MatchingFailed(f"two parties share more than {MAX_KEYS} match-key rules")
        if clks or keys:
            found.append(Comparison(one, other, clks, keys))
    if not found:
        raise MatchingFailed(
            "no two parties have a CLK or a match key in common",
            hint="add a [[clk]] over fields that two parties hold to the study file",
        )
    return found


def plan(
    shapes: Sequence[Shape],
    *,
    rows_per_chunk: int = ROWS_PER_CHUNK,
    affordable: int = AFFORDABLE,
) -> list[Chunk]:
    """
    Cut a run over these datasets into chunks: all of it, or where `is_staged` says so its first
    phase. A dataset without records has one empty chunk.

    Raises MatchingFailed as `comparisons_of`, and for chunks without a row.
    """
    if rows_per_chunk < 1:
        raise MatchingFailed("a chunk needs at least one row")
    comparisons = comparisons_of(shapes)
    sampled = sum(_within(c) for c in comparisons) + _cross(comparisons) > affordable
    chunks: list[Chunk] = []
    for c in comparisons:
        if c.keys:
            chunks += _cut("keys", c, c.one, c.other, rows_per_chunk=max(1, c.one.records))
        if not c.clks:
            continue
        if not is_staged(c, comparisons, affordable):
            chunks += _cut("cross", c, c.one, c.other, rows_per_chunk=rows_per_chunk)
        for side in (c.one, c.other):
            names = (NULL, NULL) if sampled and side.people > NULL_PEOPLE else (ALL, ALL)
            chunks += _cut("within", c, side, side, rows_per_chunk=rows_per_chunk, names=names)
    return chunks


def is_staged(
    comparison: Comparison, comparisons: Sequence[Comparison], affordable: int = AFFORDABLE
) -> bool:
    """Return whether this comparison of a run is made in two phases: it has keys to begin with,
    and the run too many pairs."""
    both = bool(comparison.keys and comparison.clks)
    return both and _cross(comparisons) > affordable


def staged(shapes: Sequence[Shape], affordable: int = AFFORDABLE) -> list[Comparison]:
    """Return the comparisons of a run that are made in two phases."""
    comparisons = comparisons_of(shapes)
    return [c for c in comparisons if is_staged(c, comparisons, affordable)]


def plan_rest(
    shapes: Sequence[Shape],
    rest: RowSets,
    *,
    rows_per_chunk: int = ROWS_PER_CHUNK,
    affordable: int = AFFORDABLE,
) -> list[Chunk]:
    """
    Return the chunks of a run's second phase; none if all of it was in the first.

    rest: from linkage.matching.staging, by party and `rest_of(the other party)`.
    """
    chunks: list[Chunk] = []
    for c in staged(shapes, affordable):
        names = rest_of(c.other.party), rest_of(c.one.party)
        sizes = tuple(
            len(rest[side.party, name]) for side, name in zip((c.one, c.other), names, strict=True)
        )
        chunks += _cut(
            "cross", c, c.one, c.other, rows_per_chunk=rows_per_chunk, names=names, sizes=sizes
        )
        chunks += _cut(
            "sample", c, c.one, c.other, rows_per_chunk=rows_per_chunk, names=(SAMPLE, ALL)
        )
    return chunks


def rest_of(other: str) -> str:
    """Return the name of the rows that are not linked to party `other` with confidence."""
    return f"rest:{other}"


def drawn(dataset: Dataset, name: str, seed: int) -> Rows:
    """Return the rows called NULL or SAMPLE: seeded random representatives, ascending."""
    size = {NULL: NULL_PEOPLE, SAMPLE: SAMPLE_PEOPLE}[name]
    people = representatives(dataset.records)
    draw = np.random.default_rng(seed_for(seed, f"{name}/{dataset.party}"))
    chosen: Rows = np.sort(draw.permutation(people)[:size])
    return chosen


def least_z(left: int, right: int) -> float:
    """
    Return the z from which pairs without a common key are candidates, for these numbers of people.

    At least 3.5; for larger datasets so high that chance alone would give each record of the
    smaller one 0.4 partners.
    """
    largest = max(left, right, 1)
    return max(LOWEST_FLOOR, float(-ndtri(min(0.5, CHANCE_PARTNERS / largest))))


def pairs_compared(chunks: Iterable[Chunk]) -> int:
    """
    Return how many pairs of people of two parties a run with these chunks compares: by CLK, or by
    match key where that is all they have in common.
    """
    found = 0
    for chunk in chunks:
        if (chunk.kind == "cross" or (chunk.kind == "keys" and not chunk.clks)) and not chunk.start:
            found += chunk.people[0] * chunk.people[1]
    return found


def _cross(comparisons: Iterable[Comparison]) -> int:
    return sum(c.comparisons for c in comparisons)


def _within(c: Comparison) -> int:
    return sum(s.people * (s.people - 1) // 2 for s in (c.one, c.other)) * len(c.clks)


def _cut(
    kind: Kind,
    c: Comparison,
    left: Shape,
    right: Shape,
    *,
    rows_per_chunk: int,
    names: tuple[str, str] = (ALL, ALL),
    sizes: tuple[int, ...] | None = None,
) -> Iterator[Chunk]:
    """Yield the chunks of one kind of a comparison."""
    people = sizes or (_people(left, names[0]), _people(right, names[1]))
    rows = left.records if names[0] == ALL else people[0]
    for start in range(0, max(1, rows), rows_per_chunk):
        yield Chunk(
            kind=kind,
            left=left.party,
            right=right.party,
            against=c.other.party if left is c.one else c.one.party,
            clks=c.clks,
            keys=c.keys,
            start=start,
            stop=min(start + rows_per_chunk, rows),
            floor=least_z(c.one.people, c.other.people),
            of=rows,
            people=(people[0], people[1]),
            left_rows=names[0],
            right_rows=names[1],
        )


def _people(side: Shape, name: str) -> int:
    return min(side.people, {NULL: NULL_PEOPLE, SAMPLE: SAMPLE_PEOPLE}.get(name, side.people))
