"""
Opt-outs, the worker's side: lists opened in memory only, and records dropped before they are
linked or given out.

A run pins the lists that it began with, so that a crash repeats the same bytes; what is given out
of it later minds the newest lists (broker.withdrawn).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from broker.container import Broker
from broker.registered import RegisteredStudy
from broker.store import governance, studies
from linkage.delta import is_among
from linkage.errors import NotFound
from linkage.governance import opt_out_context, read_opt_outs
from linkage.matching.dataset import Dataset
from linkage.records import Bytes2D, EncodedRecords, FixedColumn
from linkage.sealing import KeyHolder, unseal


def opted_out(
    broker: Broker, identity: KeyHolder, study_id: str, uploader: str, number: int
) -> Bytes2D:
    """
    Return the pseudonyms of an opt-out list, uint8[N, 16], ascending.

    Raises PackageRefused or EncodingRefused, naming the uploader, for one that does not open: going
    on without it would link whom somebody took out.
    """
    with broker.database.read() as connection:
        row = governance.find_opt_outs(connection, study_id, uploader, number)
        found = studies.find_study_at(connection, study_id, row.epoch) if row else None
    if row is None or found is None:
        raise NotFound(
            f"opt-out list {number} of {uploader!r} is gone", hint="it sends its list again"
        )
    opened = unseal(
        broker.blobs.read(row.blob_id),
        sender=RegisteredStudy.of(found).pin(uploader),
        recipient=identity,
        context=opt_out_context(study_id, uploader, row.epoch, number),
    )
    return read_opt_outs(opened, uploader)


def newest(broker: Broker, identity: KeyHolder, study_id: str) -> dict[str, Bytes2D]:
    """Return by uploader what its newest list holds, where it has sent one."""
    with broker.database.read() as connection:
        numbers = governance.newest_opt_outs(connection, study_id)
    return {u: opted_out(broker, identity, study_id, u, number) for u, number in numbers.items()}


def without(dataset: Dataset, names: Bytes2D) -> Dataset:
    """Return a dataset without the records of these pseudonyms, uint8[N, 16]."""
    records = dataset.records
    if not len(names) or not (out := is_among(records.pseudonyms, names)).any():
        return dataset
    kept = np.flatnonzero(~out)
    # A group is named by its first row.
    _, first, group = np.unique(records.groups[kept], return_index=True, return_inverse=True)

    def some(columns: dict[str, FixedColumn]) -> dict[str, FixedColumn]:
        return {n: FixedColumn(c.values[kept], c.present[kept]) for n, c in columns.items()}

    return replace(
        dataset,
        records=EncodedRecords(
            pseudonyms=records.pseudonyms[kept],
            groups=first[group].astype(np.uint32),
            clks=some(records.clks),
            match_keys=some(records.match_keys),
            strata=None if records.strata is None else records.strata[kept],
        ),
    )
