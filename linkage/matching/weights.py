"""
Match probabilities without truth: the model, stage 4 of a run.

    weights = weigh([shape_of(d) for d in datasets], candidate_chunks)

For every two parties the density-ratio fit (density_ratio.py) and one-to-one propagation
(propagation.py) alternate: the fit weighs the evidence, the propagation lets candidates compete and
counts the expected matches, and their number says how many records are free to pair by chance.
Then all parties are propagated together over sets of records (hyperedges.py), so that a third
party can confirm or refute a pair. docs/matching.md explains and measures each step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused, MatchingFailed
from linkage.matching import density_ratio
from linkage.matching.candidates import CandidateChunk
from linkage.matching.dataset import Shape
from linkage.matching.dice import Floats
from linkage.matching.estimates import Estimate, estimate, one_to_one
from linkage.matching.evidence import Evidence, gather
from linkage.matching.hyperedges import Hyperedges, Pairs, grow, is_candidate
from linkage.matching.looked_at import LookWeights, replaced
from linkage.matching.propagation import propagate

ROUNDS = 8
FREE_ROUNDS = 2
RUNAWAY = 1.03
"""A refit that raises the expected matches by more than this factor is not believed."""
SETTLED = 1e-4
MOST_MATCHED = 0.95
MISSED = 0.02
"""Share of true pairs that candidates miss, before anything is known of it."""
PRIOR_PAIRS = 20.0
"""How many confirmed pairs that first guess is worth."""
MISSED_ROUNDS = 4
MODEL_VERSION = 1
"""Raised whenever the model or a constant of it changes; every link says which one made it."""
LEAST_PROBABILITY = 1e-4
TWICE = 18.0
"""z from which two records of one party look like one person: people who are not reach it in .25 %
at most, and hardly ever in two CLKs."""
FEW_TWICE, MANY_TWICE = 3, 0.005
"""Number and share of such pairs that pass without a warning."""
FEW_MATCHES = 100
"""Below this many expected matches the estimates have been off by .05 (docs/matching.md)."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparison:
    """
    The weighted pairs of two parties: P parallel rows, ordered by left row, then right row.

    parties: in sorted order. left, right: uint32[P], record rows. probability: float64[P] that
    both are one person. estimate: quality to expect, with the link threshold.
    """

    parties: tuple[str, str]
    left: npt.NDArray[np.uint32]
    right: npt.NDArray[np.uint32]
    probability: Floats
    estimate: Estimate


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Weights:
    """
    What the run believes of every pair. comparisons: in sorted order of their parties.

    overall: all comparisons taken together. warnings: sentences for whoever runs the study; they
    name parties and numbers, never a record.
    """

    comparisons: tuple[Comparison, ...]
    overall: Estimate
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fitted:
    """One comparison's fit. log_weight: float64[P] of each pair. expected: matches."""

    evidence: Evidence
    log_weight: Floats
    expected: float


def weigh(
    shapes: Sequence[Shape],
    chunks: Sequence[CandidateChunk],
    *,
    looks: LookWeights | None = None,
) -> Weights:
    """
    Return the probability of every candidate pair, with estimates.

    chunks: one for each planned chunk, in any order. Pairs below a probability of .0001 are
    counted in the expected matches and left out. looks: weights that take the place of the fit's,
    from a second look. Raises MatchingFailed if a chunk is missing or no finite weights can be
    fitted.
    """
    parties = sorted(s.party for s in shapes)
    fitted = [fit_pairs(evidence) for evidence in gather(shapes, chunks)]
    looked = looks.comparisons if looks else {}
    pairs = {
        (parties.index(f.evidence.parties[0]), parties.index(f.evidence.parties[1])): replaced(
            _pairs(f), looked.get(f.evidence.parties)
        )
        for f in fitted
    }
    edges, probability, missed = _together(pairs, len(parties))
    comparisons = tuple(
        _comparison(columns, parties, edges, probability, found, missed[columns])
        for columns, found in pairs.items()
    )
    return Weights(
        comparisons=comparisons,
        overall=_overall(comparisons),
        warnings=(*_warnings(shapes, comparisons), *_held_twice(shapes, chunks)),
    )


def fit_pairs(evidence: Evidence) -> Fitted:
    """Fit and propagate in turn until the expected number of matches settles."""
    beta: Floats | None = None
    best = Fitted(evidence, np.zeros(len(evidence.left)), 0.0)
    if not len(evidence.left):
        return best
    for turn in range(ROUNDS):
        free = _free(best.expected, evidence.people)
        beta = density_ratio.fit(evidence, free, beta)
        log_weight = density_ratio.log_weights(evidence, free, beta)
        expected = float(propagate(as_edges(evidence, log_weight)).sum())
        if turn >= FREE_ROUNDS and expected > RUNAWAY * best.expected:
            break
        settled = abs(expected - best.expected) <= SETTLED * expected
        best = Fitted(evidence, log_weight, expected)
        if settled:
            break
    return best


def _free(expected: float, people: tuple[int, int]) -> float:
    """Return the share of cross pairs whose records both have no match."""
    one, other = (1 - min(MOST_MATCHED, expected / max(1, n)) for n in people)
    return one * other


def as_edges(evidence: Evidence, log_weight: Floats) -> Hyperedges:
    """Return the pairs of one comparison as sets of records."""
    return Hyperedges(
        np.stack([evidence.left, evidence.right], axis=1).astype(np.int64), log_weight
    )


def _pairs(fitted: Fitted) -> Pairs:
    evidence = fitted.evidence
    one, other = evidence.people
    free = max(1.0, one * other * _free(fitted.expected, evidence.people))
    return Pairs(
        left=evidence.left.astype(np.int64),
        right=evidence.right.astype(np.int64),
        log_weight=fitted.log_weight,
        log_prior=float(np.log(max(fitted.expected, 0.5) / free)),
        missed=MISSED,
    )


def _together(
    pairs: dict[tuple[int, int], Pairs], parties: int
) -> tuple[Hyperedges, Floats, dict[tuple[int, int], float]]:
    """
    Propagate all parties at once; learn the share of true pairs that candidates missed.

    A record of a third party ties two records together that were no candidates for each other.
    How often that happens says how many such pairs there are, and so how much to believe the next.
    Returns the sets, their probabilities, and by comparison the share missed.
    """
    missed = dict.fromkeys(pairs, MISSED)
    for _ in range(MISSED_ROUNDS if parties > 2 else 1):
        known = {
            columns: replace(found, missed=missed[columns]) for columns, found in pairs.items()
        }
        edges = grow(known, parties)
        probability = propagate(edges)
        last, missed = (
            missed,
            {
                columns: _share_missed(columns, found, edges, probability)
                for columns, found in pairs.items()
            },
        )
    return edges, probability, last if parties > 2 else dict.fromkeys(pairs, 0.0)


def _share_missed(
    columns: tuple[int, int], found: Pairs, edges: Hyperedges, probability: Floats
) -> float:
    """Return the share of unproposed pairs among those that a third party confirms."""
    size = (edges.members >= 0).sum(axis=1)
    inside = (edges.members[:, list(columns)] >= 0).all(axis=1) & (size > 2)
    rows, p = edges.members[inside][:, list(columns)], probability[inside]
    unproposed = ~is_candidate(found, rows[:, 0], rows[:, 1])
    return float((PRIOR_PAIRS * MISSED + p[unproposed].sum()) / (PRIOR_PAIRS + p.sum()))


def _comparison(
    columns: tuple[int, int],
    parties: list[str],
    edges: Hyperedges,
    probability: Floats,
    found: Pairs,
    missed: float,
) -> Comparison:
    """Sum the hyperedges that hold both records of a pair, and add what candidates missed."""
    pair = parties[columns[0]], parties[columns[1]]
    members = edges.members[:, list(columns)]
    both = (members >= 0).all(axis=1)
    rows, which = np.unique(members[both], axis=0, return_inverse=True)
    total = np.minimum(1.0, np.bincount(which.ravel(), probability[both], len(rows)))
    left, right = rows[:, 0].astype(np.uint32), rows[:, 1].astype(np.uint32)
    accepted = total[one_to_one(left, right, total)]
    proposed = float(total[is_candidate(found, rows[:, 0], rows[:, 1])].sum())
    kept = total >= LEAST_PROBABILITY
    return Comparison(
        parties=pair,
        left=left[kept],
        right=right[kept],
        probability=total[kept],
        estimate=estimate(accepted, total, max(float(total.sum()), proposed / (1 - missed))),
    )


def _overall(comparisons: Sequence[Comparison]) -> Estimate:
    accepted, candidates = [np.zeros(0)], [np.zeros(0)]
    for c in comparisons:
        candidates.append(c.probability)
        accepted.append(c.probability[one_to_one(c.left, c.right, c.probability)])
    expected = sum(c.estimate.expected_matches for c in comparisons)
    return estimate(np.concatenate(accepted), np.concatenate(candidates), expected)


def _warnings(shapes: Sequence[Shape], comparisons: Sequence[Comparison]) -> Iterator[str]:
    compared = {c.parties for c in comparisons}
    names = sorted(s.party for s in shapes)
    for shape in shapes:
        if not shape.records:
            yield f"party {shape.party!r} has no records"
        for clk, count in shape.unusable.items():
            yield f"party {shape.party!r}: {count} filters of {clk!r} are nearly empty or full"
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if (one, other) not in compared:
                yield f"{one!r} and {other!r} share no CLK and no match key: not compared"
    for c in comparisons:
        if c.estimate.expected_matches < FEW_MATCHES:
            yield (
                f"{c.parties[0]!r} and {c.parties[1]!r}: only about "
                f"{c.estimate.expected_matches:.0f} matches expected; "
                "the estimates are rough, and a few links may be chance"
            )


def _held_twice(shapes: Sequence[Shape], chunks: Sequence[CandidateChunk]) -> Iterator[str]:
    """Warn of parties that seem to hold people twice, which takes matches from both records."""
    alike: dict[str, dict[str, int]] = {}
    for found in chunks:
        if found.chunk.kind == "within" and found.chunk.clks:
            seen = alike.setdefault(found.chunk.left, {})
            z = np.nan_to_num(found.z, nan=0.0).max(axis=1)
            against = found.chunk.against
            seen[against] = seen.get(against, 0) + int((z >= TWICE).sum())
    for shape in shapes:
        # A duplicate is alike in every CLK, a son with his father's name and street in one.
        count = min(alike.get(shape.party, {"": 0}).values())
        if count > max(FEW_TWICE, MANY_TWICE * shape.people):
            yield (
                f"party {shape.party!r}: {count} pairs of its own records look like one person; "
                "recall suffers: group duplicates at the site and submit again"
            )


def to_arrow(weights: Weights) -> pa.Table:
    """
    Return all pairs as one table: left_party, left_row, right_party, right_row, probability.

    Estimates and warnings travel in the schema's metadata.
    """
    comparisons = weights.comparisons
    sizes = [len(c.left) for c in comparisons]
    left = [c.parties[0] for c in comparisons]
    right = [c.parties[1] for c in comparisons]
    summary = {
        "comparisons": [
            {"parties": list(c.parties), "rows": len(c.left), "estimate": c.estimate.to_json()}
            for c in comparisons
        ],
        "overall": weights.overall.to_json(),
        "warnings": list(weights.warnings),
    }
    rows = [np.zeros(0, np.uint32)]
    table = pa.table(
        {
            "left_party": pa.array(np.repeat(np.array(left, dtype=object), sizes), pa.string()),
            "left_row": np.concatenate([*rows, *(c.left for c in comparisons)]),
            "right_party": pa.array(np.repeat(np.array(right, dtype=object), sizes), pa.string()),
            "right_row": np.concatenate([*rows, *(c.right for c in comparisons)]),
            "probability": np.concatenate([np.zeros(0), *(c.probability for c in comparisons)]),
        }
    )
    return table.replace_schema_metadata({"weights": json.dumps(summary)})


def from_arrow(table: pa.Table) -> Weights:
    """Read what `to_arrow` wrote. Raises EncodingRefused for another table."""
    metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
    if b"weights" not in metadata:
        raise EncodingRefused("these are not the weights of a run")
    summary = json.loads(metadata[b"weights"])
    start = 0
    comparisons = []
    for one in summary["comparisons"]:
        part = table.slice(start, one["rows"])
        start += one["rows"]
        comparisons.append(
            Comparison(
                parties=(one["parties"][0], one["parties"][1]),
                left=part["left_row"].to_numpy(),
                right=part["right_row"].to_numpy(),
                probability=part["probability"].to_numpy(),
                estimate=Estimate.from_json(one["estimate"]),
            )
        )
    if start != table.num_rows:
        raise MatchingFailed("the weights of a run are incomplete")
    return Weights(
        comparisons=tuple(comparisons),
        overall=Estimate.from_json(summary["overall"]),
        warnings=tuple(summary["warnings"]),
    )
