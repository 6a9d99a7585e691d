"""
What the uploaders assert about the records of a run: their lists opened, in the worker's memory
only, and settled against each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from broker.container import Broker
from broker.registered import RegisteredStudy
from broker.services.assertions import list_context
from broker.store import assertions, runs
from linkage.assertions import AssertionList, from_bytes
from linkage.errors import NotFound
from linkage.matching.asserted import Settled, settle
from linkage.matching.dataset import Dataset
from linkage.sealing import KeyHolder, unseal


def settled(
    broker: Broker,
    identity: KeyHolder,
    study: RegisteredStudy,
    row: runs.RunRow,
    datasets: Mapping[str, Dataset],
) -> Settled:
    """
    Return what counts of the lists that the run was queued with.

    Raises PackageRefused or EncodingRefused, naming the uploader, for a list that does not open:
    going on without it would tie together whom somebody took apart.
    """
    numbers: dict[str, int] = json.loads(row.asserted)
    lists = {
        uploader: _open(broker, identity, study, uploader, number)
        for uploader, number in numbers.items()
        if uploader in datasets
    }
    found = settle(
        lists,
        {party: one.records.pseudonyms for party, one in datasets.items()},
        {party: one.records.groups for party, one in datasets.items()},
    )
    return Settled(found.asserted, {"lists": numbers, **found.report})


def _open(
    broker: Broker, identity: KeyHolder, study: RegisteredStudy, uploader: str, number: int
) -> AssertionList:
    with broker.database.read() as connection:
        row = assertions.find(connection, study.id, uploader, number)
    if row is None:
        raise NotFound(
            f"assertion list {number} of {uploader!r} is gone", hint="it sends its list again"
        )
    opened = unseal(
        broker.blobs.read(row.blob_id),
        sender=study.pin(uploader),
        recipient=identity,
        context=list_context(study.id, uploader, row.epoch, number),
    )
    return from_bytes(opened, uploader)
