"""
Reviews, the worker's part in a run: what could be shown of it, and what was decided before.

Which records a case is about and which answers are known stays sealed by the broker to itself; the
process that faces the network never learns it (broker.reviewing).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from broker.container import Broker
from broker.registered import RegisteredStudy
from broker.scratch import Scratch
from broker.store import runs
from linkage.matching.dataset import Dataset
from linkage.matching.review_cases import (
    CaseLimits,
    Pooled,
    cases_to_json,
    choose,
    pool_from_arrow,
)
from linkage.matching.reviewed import Reviewed, decisions_from_json
from linkage.matching.second_look import UNCERTAIN
from linkage.matching.solve import Entities
from linkage.matching.weights import Weights
from linkage.records import Bytes2D
from linkage.sealing import KeyHolder

POOL = "review-pool"
CASES, DECISIONS = runs.REVIEW_CASES, runs.REVIEW_DECISIONS
KEPT = (CASES, DECISIONS)
"""Names of what outlives a run: cases until their review is closed, then what it decided."""


def prepare(
    scratch: Scratch,
    study: RegisteredStudy,
    made: Weights,
    entities: Entities,
    pseudonyms: Mapping[str, Bytes2D],
) -> dict[str, Any] | None:
    """
    Choose what reviewers could be shown of a run, and keep it; return how much that is.

    None where the study allows no review. Drawn anew when repeated: nobody has seen it yet.
    """
    if (review := study.config.reviews) is None:
        return None
    low, high = UNCERTAIN
    told: dict[str, Any] = {
        "in_doubt": sum(
            int(((c.probability >= low) & (c.probability <= high)).sum()) for c in made.comparisons
        )
    }
    if not scratch.count(POOL):
        return told | {"cases": 0, "reason": "no second look told how the fields of pairs agree"}
    thresholds = {c.parties: c.estimate.link_threshold for c in made.comparisons}

    def linked(pool: Pooled) -> npt.NDArray[np.bool_]:
        one, other = pool.parties
        same = entities.of[one][pool.left] == entities.of[other][pool.right]
        return np.asarray(same & (pool.probability >= thresholds[pool.parties]), np.bool_)

    found = choose(
        pool_from_arrow(scratch.get_table(POOL)),
        linked,
        CaseLimits(review.most_pairs, review.sample, review.decoys),
        pseudonyms,
        secrets.token_bytes,
    )
    if not found:
        return told | {"cases": 0, "reason": "no pair is in doubt, and there is no link to check"}
    scratch.put(CASES, cases_to_json(found))
    return told | {
        "cases": len(found),
        "doubts": sum(one.case.doubt for one in found),
        "checks": sum(one.case.check for one in found),
        "decoys": sum(one.case.decoy for one in found),
    }


def reviewed(
    broker: Broker,
    identity: KeyHolder,
    row: runs.RunRow,
    datasets: Mapping[str, Dataset],
) -> Reviewed:
    """
    Return what the reviews that the run was queued with decided about its records.

    Raises MatchingFailed where one is gone: the run would otherwise not be what it is said to be.
    """
    found = [
        decision
        for one in json.loads(row.reviewed)
        for decision in decisions_from_json(
            Scratch(broker, identity, row.study_id, one).get(DECISIONS)
        )
    ]
    return Reviewed.of(
        found,
        {party: one.records.pseudonyms for party, one in datasets.items()},
        {party: one.records.groups for party, one in datasets.items()},
    )
