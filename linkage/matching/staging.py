"""
The two phases of a large run: which records the keys have linked with confidence.

Comparing all CLKs of a million people with a million takes a thousand times as long as joining
their keys, and hardly any pair that a key links with confidence is a match of another record. So a
large run (planning.py) joins the keys first, fits their weights, and compares the CLKs of the
rest. What that loses is estimated on a random sample of people compared exhaustively.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from linkage.matching.candidates import CandidateChunk
from linkage.matching.dataset import Rows, Shape
from linkage.matching.evidence import gather
from linkage.matching.fitting import as_edges, fit_pairs
from linkage.matching.planning import AFFORDABLE, rest_of, staged
from linkage.matching.propagation import propagate

CONFIDENT = 0.99
"""Least probability of a pair whose records are not looked for any more, inclusive."""


def rest(
    shapes: Sequence[Shape],
    chunks: Sequence[CandidateChunk],
    people: Mapping[str, Rows],
    *,
    affordable: int = AFFORDABLE,
) -> dict[tuple[str, str], Rows]:
    """
    Return the rows that the second phase compares, by party and planning.rest_of(other party).

    chunks: all of the first phase. people: by party, the representatives (dataset.py). A record is
    linked with confidence if a pair with a key has a probability of .99 and the z of one of its
    CLKs reaches the floor; its people are then compared with nobody else of that party.

    Raises MatchingFailed if a chunk is missing or no finite weights can be fitted.
    """
    wanted = {c.parties for c in staged(shapes, affordable)}
    keyed = {c.chunk.comparison: c for c in chunks if c.chunk.kind == "keys"}
    rows: dict[tuple[str, str], Rows] = {}
    for evidence in gather(shapes, chunks, first_phase=True):
        if evidence.parties not in wanted:
            continue
        found = keyed[evidence.parties]
        fitted = fit_pairs(evidence)
        probability = propagate(as_edges(evidence, fitted.log_weight))
        z = np.nan_to_num(found.z, nan=-np.inf).max(axis=1, initial=-np.inf)
        sure = (probability >= CONFIDENT) & (z >= found.chunk.floor)
        one, other = evidence.parties
        rows[one, rest_of(other)] = np.setdiff1d(people[one], evidence.left[sure])
        rows[other, rest_of(one)] = np.setdiff1d(people[other], evidence.right[sure])
    return rows
