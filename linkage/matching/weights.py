"""
Match probabilities without truth: the model, stage 4 of a run.

    weights = weigh([shape_of(d) for d in datasets], candidate_chunks)

Every two parties are fitted by themselves (fitting.py). Then all parties are propagated together
over sets of records (hyperedges.py), so that a third party can confirm or refute a pair, and the
expected matches, those that were never proposed among them, give estimates and thresholds
(estimates.py). docs/matching.md explains and measures each step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused, MatchingFailed
from linkage.matching import hierarchy
from linkage.matching.candidates import CandidateChunk
from linkage.matching.dataset import Shape
from linkage.matching.dice import Floats
from linkage.matching.estimates import Estimate, check_precision, estimate, one_to_one
from linkage.matching.evidence import Evidence, gather
from linkage.matching.fitting import MISSED, all_matches, as_pairs, fit_pairs, without_key
from linkage.matching.hyperedges import LARGEST, Hyperedges, Pairs, grow, is_candidate
from linkage.matching.looked_at import LookWeights, replaced
from linkage.matching.missed import Keyless, Rules
from linkage.matching.propagation import propagate

PRIOR_PAIRS = 20.0
"""How many confirmed pairs the first guess of the share missed is worth."""
MISSED_ROUNDS = 4
FOLDS = 10
"""Parts of the matches of which each is left out once, for how sure the share without a key is."""
MODEL_VERSION = 5
"""Raised whenever the model or a constant of it changes; every link says which one made it."""
LEAST_PROBABILITY = 1e-4
TWICE = 18.0
"""z from which two records of one party look like one person: people who are not reach it in .25 %
at most, and hardly ever in two CLKs."""
FEW_TWICE, MANY_TWICE = 3, 0.005
"""Number and share of such pairs that pass without a warning."""
FEW_MATCHES, SMALL_SHARE = 100, 0.08
"""
Below this many expected matches, or this share of the smaller party, the estimates have been off by
.05 and more (docs/matching.md): a pair with one key is then nearly as likely chance.
"""


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


def weigh(
    shapes: Sequence[Shape],
    chunks: Sequence[CandidateChunk],
    *,
    rules: Rules | None = None,
    looks: LookWeights | None = None,
    precision: float | None = None,
) -> Weights:
    """
    Return the probability of every candidate pair, with estimates.

    chunks: one for each planned chunk, in any order. Pairs below a probability of .0001 are
    counted in the expected matches and left out. rules: fields of each match-key rule as the study
    file names them; without them, matches that were never proposed are in no estimate of two
    parties. looks: weights that take the place of the fit's, from a second look. precision: what is
    wanted of the links (estimates.py).

    Raises MatchingFailed if a chunk is missing, no finite weights can be fitted, or the precision
    is out of range.
    """
    check_precision(precision)
    parties = sorted(s.party for s in shapes)
    fitted = [fit_pairs(evidence, rules) for evidence in gather(shapes, chunks)]
    looked = looks.comparisons if looks else {}
    pairs = {
        (parties.index(f.evidence.parties[0]), parties.index(f.evidence.parties[1])): replaced(
            as_pairs(f), looked.get(f.evidence.parties)
        )
        for f in fitted
    }
    edges, probability, missed = _together(pairs, len(parties))
    comparisons = tuple(
        _comparison(
            _Confirmed.of(columns, edges, probability),
            pairs[columns],
            missed[columns],
            f.evidence,
            rules or {},
            precision,
        )
        for columns, f in zip(pairs, fitted, strict=True)
    )
    return Weights(
        comparisons=comparisons,
        overall=_overall(comparisons, precision),
        warnings=(*_warnings(shapes, comparisons), *_held_twice(shapes, chunks)),
    )


def _together(
    pairs: dict[tuple[int, int], Pairs], parties: int
) -> tuple[Hyperedges, Floats, dict[tuple[int, int], float]]:
    """
    Propagate all parties at once; learn the share of true pairs that candidates missed.

    A record of a third party ties two records together that were no candidates for each other.
    How often that happens says how many such pairs there are, and so how much to believe the next.
    Among many parties that is not repeated: whom one record misses others miss, too, and the share
    would fall round by round (docs/matching.md). Returns the sets, their probabilities, and by
    comparison the share missed.
    """
    if parties > LARGEST:
        edges, probability = hierarchy.cut(pairs, parties)
        return edges, probability, _shares_missed(pairs, edges, probability)
    missed = dict.fromkeys(pairs, MISSED)
    for _ in range(MISSED_ROUNDS if parties > 2 else 1):
        known = {
            columns: replace(found, missed=missed[columns]) for columns, found in pairs.items()
        }
        edges = grow(known, parties)
        probability = propagate(edges)
        last, missed = missed, _shares_missed(pairs, edges, probability)
    return edges, probability, last if parties > 2 else dict.fromkeys(pairs, 0.0)


def _shares_missed(
    pairs: Mapping[tuple[int, int], Pairs], edges: Hyperedges, probability: Floats
) -> dict[tuple[int, int], float]:
    return {
        columns: _share_missed(columns, found, edges, probability)
        for columns, found in pairs.items()
    }


def _share_missed(
    columns: tuple[int, int], found: Pairs, edges: Hyperedges, probability: Floats
) -> float:
    """Return the share of unproposed pairs among those that a third party confirms."""
    size = (edges.members >= 0).sum(axis=1)
    inside = (edges.members[:, list(columns)] >= 0).all(axis=1) & (size > 2)
    rows, p = edges.members[inside][:, list(columns)], probability[inside]
    unproposed = ~is_candidate(found, rows[:, 0], rows[:, 1])
    return float((PRIOR_PAIRS * MISSED + p[unproposed].sum()) / (PRIOR_PAIRS + p.sum()))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Confirmed:
    """
    The pairs of two parties with what all parties say of them: P parallel rows, each pair once,
    ordered by left row, then right row. left, right: int64[P]. probability: float64[P].
    """

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    probability: Floats

    @classmethod
    def of(cls, columns: tuple[int, int], edges: Hyperedges, probability: Floats) -> _Confirmed:
        """Sum the hyperedges that hold both records of a pair."""
        one, other = (edges.members[:, column] for column in columns)
        both = np.flatnonzero((one >= 0) & (other >= 0))
        codes, which = np.unique(one[both] << 32 | other[both], return_inverse=True)
        total = np.bincount(which.ravel(), probability[both], len(codes))
        return cls(codes >> 32, codes & 0xFFFFFFFF, np.minimum(1.0, total))

    def probability_of(self, evidence: Evidence) -> Floats:
        """Return the probability of each candidate of `evidence`, all of which are among these."""
        codes = self.left << 32 | self.right
        wanted = evidence.left.astype(np.int64) << 32 | evidence.right.astype(np.int64)
        return np.asarray(self.probability[np.searchsorted(codes, wanted)], dtype=np.float64)


def _comparison(
    confirmed: _Confirmed,
    found: Pairs,
    missed: float,
    evidence: Evidence,
    rules: Rules,
    precision: float | None,
) -> Comparison:
    """Add what candidates missed, and estimate."""
    total = confirmed.probability
    mine = confirmed.probability_of(evidence)
    keyless = without_key(evidence, mine, rules, folds=FOLDS)
    proposed = float(total[is_candidate(found, confirmed.left, confirmed.right)].sum())
    seen = max(float(total.sum()), proposed / (1 - missed))
    expected = max(seen, all_matches(evidence, mine, keyless))
    kept = total >= LEAST_PROBABILITY
    left, right = (side[kept].astype(np.uint32) for side in (confirmed.left, confirmed.right))
    spread = _spread(keyless, expected, float(total.sum()))
    probability = total[kept]
    return Comparison(
        parties=evidence.parties,
        left=left,
        right=right,
        probability=probability,
        estimate=_estimate(left, right, probability, expected, spread, precision),
    )


def _spread(keyless: Keyless | None, expected: float, proposed: float) -> float:
    """Return the standard error of how many matches were never proposed."""
    if keyless is None:
        return 0.0
    # They are as many as chance makes them (Poisson), of a share that is itself estimated.
    return math.sqrt(max(0.0, expected - proposed) + (keyless.spread * expected) ** 2)


def _estimate(
    left: npt.NDArray[np.uint32],
    right: npt.NDArray[np.uint32],
    probability: Floats,
    expected: float,
    spread: float,
    precision: float | None,
) -> Estimate:
    accepted = probability[one_to_one(left, right, probability)]
    return estimate(accepted, probability, expected, spread=spread, precision=precision)


def _overall(comparisons: Sequence[Comparison], precision: float | None) -> Estimate:
    if len(comparisons) == 1:
        return comparisons[0].estimate
    accepted, candidates = [np.zeros(0)], [np.zeros(0)]
    for c in comparisons:
        candidates.append(c.probability)
        accepted.append(c.probability[one_to_one(c.left, c.right, c.probability)])
    return estimate(
        np.concatenate(accepted),
        np.concatenate(candidates),
        sum(c.estimate.expected_matches for c in comparisons),
        spread=math.hypot(*(c.estimate.expected_spread for c in comparisons)),
        precision=precision,
    )


def redecide(weights: Weights, precision: float | None) -> Weights:
    """
    Return the same pairs with the thresholds for another wanted precision; None for the best F1.

    Nothing is computed again but the estimates: as if `weigh` had been given that precision. Raises
    MatchingFailed if it is out of range.
    """
    check_precision(precision)
    comparisons = []
    for c in weights.comparisons:
        known = c.estimate
        made = _estimate(
            c.left,
            c.right,
            c.probability,
            known.expected_matches,
            known.expected_spread,
            precision,
        )
        comparisons.append(replace(c, estimate=made))
    return replace(
        weights, comparisons=tuple(comparisons), overall=_overall(comparisons, precision)
    )


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
        smaller = min(shape.people for shape in shapes if shape.party in c.parties)
        if c.estimate.expected_matches < max(FEW_MATCHES, SMALL_SHARE * smaller):
            yield (
                f"{c.parties[0]!r} and {c.parties[1]!r}: only about "
                f"{c.estimate.expected_matches:.0f} matches expected; "
                "the estimates are rough: a few links may be chance, and recall lower than said"
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
