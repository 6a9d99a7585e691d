"""
A whole linkage run in memory: what the broker's workflow does step by step, in one call.

    result = link(datasets, seed=1)

Same datasets and seed, same result, bit for bit. The seed only draws the random pairs on which z
is calibrated. Order of calls: linkage.matching.candidates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from linkage.matching.candidates import ROWS_PER_CHUNK, CandidateChunk, Chunk, find, plan
from linkage.matching.dataset import Dataset, Shape, shape_of
from linkage.matching.identity import result_digest
from linkage.matching.solve import Entities, solve
from linkage.matching.weights import Weights, weigh

Progress = Callable[[str, int, int], None]
"""Called with the stage's name, the steps done and the steps in all."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LinkageResult:
    """
    shapes: in the order of the datasets. candidates: cross pairs that were weighed.
    pairs_compared: cross pairs of people whose CLKs or keys were compared.
    digest: see identity.result_digest.
    """

    shapes: tuple[Shape, ...]
    weights: Weights
    entities: Entities
    candidates: int
    pairs_compared: int
    digest: str


def link(
    datasets: Sequence[Dataset],
    *,
    seed: int,
    rows_per_chunk: int = ROWS_PER_CHUNK,
    workers: int | None = None,
    progress: Progress | None = None,
) -> LinkageResult:
    """
    Link two or more datasets.

    workers: threads that look for candidates, None for as many as this process has CPUs; the
    result does not depend on it.

    Raises MatchingFailed where no honest answer is possible, TooManyCandidates where a dataset
    is flooded, EncodingRefused where encodings cannot be compared.
    """
    tell = progress or (lambda stage, done, total: None)
    shapes = tuple(shape_of(d) for d in datasets)
    by_party = {d.party: d for d in datasets}
    chunks = plan(shapes, rows_per_chunk=rows_per_chunk)
    found: list[CandidateChunk] = []
    tell("candidates", 0, len(chunks))
    for one in _find_all(chunks, by_party, seed, workers or len(os.sched_getaffinity(0))):
        found.append(one)
        tell("candidates", len(found), len(chunks))
    tell("weights", 0, 1)
    weights = weigh(shapes, found)
    tell("solve", 0, 1)
    entities = solve(weights, {d.party: d.records.groups for d in datasets})
    tell("solve", 1, 1)
    return LinkageResult(
        shapes=shapes,
        weights=weights,
        entities=entities,
        candidates=sum(len(f) for f in found if f.chunk.kind == "cross"),
        pairs_compared=pairs_compared(shapes, chunks),
        digest=result_digest(entities, {d.party: d.records.pseudonyms for d in datasets}),
    )


def _find_all(
    chunks: Sequence[Chunk], by_party: dict[str, Dataset], seed: int, workers: int
) -> Iterator[CandidateChunk]:
    def work(chunk: Chunk) -> CandidateChunk:
        return find(chunk, by_party[chunk.left], by_party[chunk.right], seed=seed)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, chunks)


def pairs_compared(shapes: Sequence[Shape], chunks: Sequence[Chunk]) -> int:
    """Return how many pairs of people of two parties a run with this plan compares."""
    people = {s.party: s.people for s in shapes}
    comparisons = {c.comparison for c in chunks}
    return sum(people[one] * people[other] for one, other in comparisons)
