"""
A whole linkage run in memory: what the broker's workflow does step by step, in one call.

    result = link(datasets, seed=1)

Same datasets and seed, same result, bit for bit. The seed only draws the random pairs on which z
is calibrated and the samples of a large run. Order of calls: linkage.matching.candidates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from linkage.matching.candidates import CandidateChunk, Finder, new_pairs
from linkage.matching.dataset import Dataset, Shape, representatives, shape_of
from linkage.matching.identity import result_digest
from linkage.matching.loss import Loss, losses
from linkage.matching.missed import Rules
from linkage.matching.planning import (
    AFFORDABLE,
    ROWS_PER_CHUNK,
    SAMPLE,
    Chunk,
    drawn,
    pairs_compared,
    plan,
    plan_rest,
    staged,
)
from linkage.matching.solve import Entities, solve
from linkage.matching.staging import rest
from linkage.matching.weights import Weights, weigh

Progress = Callable[[str, int, int], None]
"""Called with the stage's name, the steps done and the steps in all."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LinkageResult:
    """
    shapes: in the order of the datasets. candidates: cross pairs that were weighed.
    pairs_compared: see planning.pairs_compared. losses: what each comparison in two phases lost.
    digest: see identity.result_digest.
    """

    shapes: tuple[Shape, ...]
    weights: Weights
    entities: Entities
    candidates: int
    pairs_compared: int
    losses: tuple[Loss, ...]
    digest: str


def link(
    datasets: Sequence[Dataset],
    *,
    seed: int,
    rules: Rules | None = None,
    precision: float | None = None,
    rows_per_chunk: int = ROWS_PER_CHUNK,
    affordable: int = AFFORDABLE,
    workers: int | None = None,
    progress: Progress | None = None,
) -> LinkageResult:
    """
    Link two or more datasets.

    rules, precision: see weights.weigh.
    affordable: comparisons of CLKs up to which all pairs are compared (planning.py).
    workers: threads that look for candidates, None for as many as this process has CPUs; the
    result does not depend on it.

    Raises MatchingFailed where no honest answer is possible, TooManyCandidates where a dataset
    is flooded, EncodingRefused where encodings cannot be compared.
    """
    tell = progress or (lambda stage, done, total: None)
    shapes = tuple(shape_of(d) for d in datasets)
    by_party = {d.party: d for d in datasets}
    finder = Finder(by_party.__getitem__, seed=seed)
    workers = workers or len(os.sched_getaffinity(0))
    chunks = plan(shapes, rows_per_chunk=rows_per_chunk, affordable=affordable)
    found: list[CandidateChunk] = []

    def find_all(stage: str, wanted: Sequence[Chunk]) -> None:
        tell(stage, 0, len(wanted))
        for done, one in enumerate(_found(finder, wanted, workers), start=1):
            found.append(one)
            tell(stage, done, len(wanted))

    find_all("candidates", chunks)
    in_two = staged(shapes, affordable)
    if in_two:
        tell("rest", 0, 1)
        people = {d.party: representatives(d.records) for d in datasets}
        rows = rest(shapes, found, people, affordable=affordable)
        finder.know(rows)
        second = plan_rest(shapes, rows, rows_per_chunk=rows_per_chunk, affordable=affordable)
        find_all("candidates of the rest", second)
        chunks += second
    tell("weights", 0, 1)
    weights = weigh(shapes, found, rules=rules, precision=precision)
    sampled = {c.one.party: drawn(by_party[c.one.party], SAMPLE, seed) for c in in_two}
    tell("solve", 0, 1)
    entities = solve(weights, {d.party: d.records.groups for d in datasets})
    tell("solve", 1, 1)
    return LinkageResult(
        shapes=shapes,
        weights=weights,
        entities=entities,
        candidates=sum(map(new_pairs, found)),
        pairs_compared=pairs_compared(chunks),
        losses=losses(in_two, found, weights, sampled),
        digest=result_digest(entities, {d.party: d.records.pseudonyms for d in datasets}),
    )


def _found(finder: Finder, chunks: Sequence[Chunk], workers: int) -> Iterator[CandidateChunk]:
    searches = sum(chunk.kind != "keys" for chunk in chunks)
    # A few chunks would leave most of many CPUs idle: then each search takes several.
    find = partial(finder.find, threads=max(1, workers // max(1, searches)))
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(find, chunks)
