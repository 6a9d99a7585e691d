"""
What the two phases of a large run lost: true pairs that it never proposed (planning.py).

A seeded random sample of one party's people was compared with all of the other party, as a run of
one phase would have. That is fitted by itself, and the expected matches among the pairs that the
run did not propose are counted beside those that the run found for the same people.

A sampled person's partner may have a better one outside of the sample. What the run believes of
those pairs counts against it, as it would in the one-to-one model (propagation.py): with the odds x
in the sample, and a probability q that the partner belongs to someone else, the odds are x (1 - q).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from linkage.matching.candidates import CandidateChunk
from linkage.matching.dataset import Rows
from linkage.matching.dice import Floats
from linkage.matching.evidence import gather_sample
from linkage.matching.fitting import as_edges, fit_pairs
from linkage.matching.planning import Comparison as Planned
from linkage.matching.propagation import propagate
from linkage.matching.weights import Comparison, Weights

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Loss:
    """
    The share of two parties' true pairs that the two phases lost; JSON-able.

    people: how many were sampled. matches: expected number of their true pairs; lost: of these, how
    many the run did not propose. share: lost / matches. low, high: its 95 %
    interval (Jeffreys), which takes the probabilities of the pairs for granted.
    """

    parties: tuple[str, str]
    people: int
    matches: float
    lost: float
    share: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers."""
        return {**asdict(self), "parties": list(self.parties)}


def losses(
    planned: Sequence[Planned],
    chunks: Sequence[CandidateChunk],
    made: Weights,
    sampled: Mapping[str, Rows],
) -> tuple[Loss, ...]:
    """
    Estimate what each comparison in two phases lost.

    planned: from planning.staged. chunks: all of the run. made: what it believes of its pairs.
    sampled: by party the rows planning.SAMPLE. Raises MatchingFailed if a chunk is missing.
    """
    weighed = {c.parties: c for c in made.comparisons}
    return tuple(
        _loss(one, chunks, weighed[one.parties], sampled[one.one.party]) for one in planned
    )


def _loss(
    planned: Planned, chunks: Sequence[CandidateChunk], made: Comparison, sampled: Rows
) -> Loss:
    evidence = gather_sample(planned, chunks, sampled)
    inside = propagate(as_edges(evidence, fit_pairs(evidence).log_weight))
    odds = inside * (1 - _taken(evidence.right, made, sampled))
    probability = odds / np.maximum(odds + 1 - inside, np.finfo(np.float64).tiny)
    proposed = np.isin(_codes(evidence.left, evidence.right), _proposed(planned, chunks, made))
    found = float(made.probability[np.isin(made.left, sampled)].sum())
    lost = float(probability[~proposed].sum())
    matches = found + lost
    tails = np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = betaincinv(lost + 0.5, found + 0.5, tails)
    return Loss(
        parties=planned.parties,
        people=len(sampled),
        matches=round(matches, 3),
        lost=round(lost, 3),
        share=lost / matches if matches else 0.0,
        low=float(low),
        high=float(high),
    )


def _proposed(
    planned: Planned, chunks: Sequence[CandidateChunk], made: Comparison
) -> npt.NDArray[np.int64]:
    """Return the pairs that the run looked at, and those that a third party tied together."""
    found = [
        _codes(c.left, c.right)
        for c in chunks
        if c.chunk.comparison == planned.parties and c.chunk.kind in ("keys", "cross")
    ]
    return np.concatenate([_codes(made.left, made.right), *found])


def _taken(right: npt.NDArray[np.uint32], made: Comparison, sampled: Rows) -> Floats:
    """Return for each row how likely it belongs to someone outside of the sample: float64[P]."""
    outside = ~np.isin(made.left, sampled)
    size = int(max(made.right.max(initial=0), right.max(initial=0))) + 1
    of_row = np.bincount(made.right[outside], made.probability[outside], size)
    return np.asarray(np.minimum(1.0, of_row[right]), dtype=np.float64)


def _codes(left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    return left.astype(np.int64) << 32 | right.astype(np.int64)
