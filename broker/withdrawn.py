"""
Withdrawal: which records of a run their sites still hold.

A site withdraws records with a dataset version that lacks them, whole or a delta, and everything
by taking its datasets back. What is made of a run after that leaves them out, though the run had
them; past releases cannot be recalled.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from broker.container import Broker
from broker.packages import open_dataset
from broker.registered import RegisteredStudy
from broker.store import studies
from broker.store.engine import Connection
from linkage.errors import Conflict
from linkage.matching.identity import as_names
from linkage.records import Bytes2D
from linkage.sealing import Identity


def held_since(
    broker: Broker, identity: Identity, study: RegisteredStudy, inputs: Mapping[str, int]
) -> dict[str, Bytes2D]:
    """
    Return by uploader the pseudonyms that it holds now, where that is not the dataset version
    of `inputs`: uint8[N, 16], ascending; none for who has withdrawn everything.

    Raises as `open_dataset`.
    """
    found: dict[str, Bytes2D] = {}
    for uploader, number in inputs.items():
        with broker.database.read() as connection:
            newest = studies.newest_dataset(connection, study.id, uploader, state="complete")
            row = studies.find_study_at(connection, study.id, newest.epoch) if newest else None
        if newest is None or row is None or newest.number < number:
            found[uploader] = np.zeros((0, 16), np.uint8)
        elif newest.number != number:
            then = RegisteredStudy.of(row)
            opened = open_dataset(broker, identity, then, uploader, newest.number)
            names = opened.records.pseudonyms
            found[uploader] = names[np.argsort(as_names(names))]
    return found


def require_inputs(connection: Connection, study_id: str, inputs: Mapping[str, int]) -> None:
    """Raises Conflict, naming them, where uploaders have withdrawn their part of a run."""
    gone = [
        uploader
        for uploader, number in inputs.items()
        if (row := studies.find_dataset(connection, study_id, uploader, number)) is None
        or row.state != "complete"
    ]
    if gone:
        raise Conflict(
            f"while the run was under way its dataset was withdrawn by: {', '.join(sorted(gone))}",
            hint="start another run; allow_missing=true links the others",
        )
