"""
The end of a run: person IDs for every record, written whole in one transaction or not at all.
"""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from broker import audit, decided_again, run_reuse
from broker.container import Broker
from broker.services import agreements
from broker.services.runs import require_newest
from broker.store import links as link_rows
from broker.store import people, runs
from broker.withdrawn import require_inputs
from linkage.matching.dataset import Shape
from linkage.matching.estimates import Estimate, below, points_for
from linkage.matching.identity import assign
from linkage.matching.links import Links
from linkage.matching.planning import Chunk, pairs_compared
from linkage.matching.solve import Entities
from linkage.matching.weights import MODEL_VERSION, Comparison, Weights
from linkage.records import Bytes2D

WANTED = (0.95, 0.98, 0.99, 0.995, 0.999)
"""Precisions of which a report says what they would take."""


def report_of(
    shapes: Sequence[Shape],
    chunks: Sequence[Chunk],
    made: Weights,
    entities: Entities,
    *,
    seed: int,
) -> dict[str, Any]:
    """Return what an admin may know of a run: numbers, no pseudonym and no score of a pair."""
    chosen = made.overall.chosen
    return {
        "records": {s.party: s.records for s in shapes},
        "people": {s.party: s.people for s in shapes},
        "pairs_compared": pairs_compared(chunks),
        "candidates": sum(len(c.left) for c in made.comparisons),
        "link_threshold": made.overall.link_threshold,
        "estimated_precision": chosen.precision,
        "estimated_recall": chosen.recall,
        "estimated_f1": chosen.f1,
        "overall": made.overall.to_json() | {"below": _below(made.comparisons, made.overall)},
        "comparisons": [
            {
                "parties": list(c.parties),
                "estimate": c.estimate.to_json() | {"below": _below((c,), c.estimate)},
                "wanted": [
                    {"wanted": wanted, **asdict(point)}
                    for wanted, point in zip(
                        WANTED,
                        points_for(c.left, c.right, c.probability, c.estimate, WANTED),
                        strict=True,
                    )
                ],
            }
            for c in made.comparisons
        ],
        "persons": entities.count,
        "overlaps": _overlaps(entities),
        "cluster_sizes": _cluster_sizes(entities),
        "warnings": list(made.warnings),
        "seed": seed,
        # Of the worker since its start, so of the largest run that it has made.
        "worker_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def publish(
    broker: Broker,
    row: runs.RunRow,
    *,
    entities: Entities,
    pseudonyms: Mapping[str, Bytes2D],
    links: Links,
    digest: str,
    report: Mapping[str, Any],
    keep: Collection[str] = (),
) -> None:
    """
    Assign person IDs and make the run's result visible, with what ties each person's records
    together. A run that has ended stays as it is. keep: names of intermediate results that stay.
    Raises Conflict where an uploader has withdrawn its dataset meanwhile.

    The assignment is computed before the transaction; if another run of the study ends
    meanwhile, it is computed again. Raises Conflict where that one is over newer dataset versions:
    a run that waited for a second look must not take its place.
    """
    facts = named(links, pseudonyms)
    while True:
        with broker.database.read() as connection:
            sequence = runs.next_sequence(connection, row.study_id)
            known = people.everyone(connection, row.study_id)
        changes = assign(known.previous(), entities, pseudonyms)
        with broker.database.change() as connection:
            current = runs.find(connection, row.id)
            if current is None or current.state != "running":
                return
            if runs.next_sequence(connection, row.study_id) != sequence:
                continue
            require_newest(row, runs.newest_finished(connection, row.study_id))
            require_inputs(connection, row.study_id, json.loads(row.inputs))
            agreements.require_run(connection, row, today=agreements.utc_today())
            people.write(connection, row.study_id, sequence, known, pseudonyms, changes)
            link_rows.write(connection, row.study_id, sequence, facts)
            counts = {
                "created": len(changes.created),
                "merged": len(changes.merged[0]),
                "split": len(changes.split[0]),
                "unused": len(changes.unused),
            }
            runs.change(
                connection,
                row.id,
                state="done",
                progress=1.0,
                sequence=sequence,
                result_digest=digest,
                report=json.dumps({**report, "links": links.counts(), "person_changes": counts}),
                finished_at=int(time.time()),
            )
            told = run_reuse.staying(connection, row.id)
            blobs = runs.drop_intermediates(connection, row.id, keep=(*keep, *told))
            blobs += decided_again.drop_outdated(connection, row)
            blobs += run_reuse.drop_older(connection, row)
            audit.record(
                connection,
                actor="worker",
                action="run done",
                study_id=row.study_id,
                subject=row.id,
                detail={"result_digest": digest, "sequence": sequence, **counts},
            )
        for blob_id in blobs:
            broker.blobs.delete(blob_id)
        return


def named(links: Links, pseudonyms: Mapping[str, Bytes2D]) -> link_rows.LinkRows:
    """Return the links by record pseudonym, of any run the same way round, made by this model."""
    parties = links.parties
    start = np.cumsum([0, *(len(pseudonyms[party]) for party in parties)])
    names = np.concatenate([np.zeros((0, 16), np.uint8), *(pseudonyms[p] for p in parties)])
    return link_rows.LinkRows(
        left=names[start[links.left_party] + links.left],
        right=names[start[links.right_party] + links.right],
        tier=links.tier.astype(np.int64),
        model=np.full(len(links), MODEL_VERSION, np.int64),
    )


def _overlaps(entities: Entities) -> dict[str, int]:
    """Return how many persons each set of parties has in common; "a+b" is in just those two."""
    parties = sorted(entities.of)
    where = np.zeros(entities.count, np.int64)
    for bit, party in enumerate(parties):
        where[np.unique(entities.of[party])] |= 1 << bit
    counted = Counter(where.tolist())
    return {
        "+".join(p for bit, p in enumerate(parties) if mask >> bit & 1): count
        for mask, count in sorted(counted.items())
    }


def _cluster_sizes(entities: Entities) -> dict[str, int]:
    """Return how many persons have so many records, duplicates within a dataset among them."""
    every = np.concatenate([np.zeros(0, np.int64), *entities.of.values()])
    sizes = np.bincount(np.bincount(every, minlength=entities.count))
    return {str(size): int(sizes[size]) for size in np.flatnonzero(sizes).tolist()}


def _below(comparisons: Sequence[Comparison], chosen: Estimate) -> list[dict[str, float]]:
    candidates = np.concatenate([np.zeros(0), *(c.probability for c in comparisons)])
    return [asdict(one) for one in below(candidates, chosen)]
