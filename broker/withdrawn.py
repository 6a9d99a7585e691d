"""
Withdrawal: which records of a run their sites still hold.

A site withdraws records with a dataset version that lacks them, whole or a delta, or opts them out
by a list; and everything by taking its datasets back. What is made of a run after that leaves them
out, though the run had them; past releases cannot be recalled.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from broker import opted_out
from broker.container import Broker
from broker.packages import open_dataset
from broker.registered import RegisteredStudy
from broker.store import people, studies
from broker.store.engine import Connection
from linkage.delta import is_among
from linkage.errors import Conflict
from linkage.matching.identity import as_names
from linkage.records import Bytes2D
from linkage.sealing import KeyHolder


def held_since(
    broker: Broker, identity: KeyHolder, study: RegisteredStudy, inputs: Mapping[str, int]
) -> dict[str, Bytes2D]:
    """
    Return by uploader the pseudonyms that it holds now, where that is not the dataset version
    of `inputs`: uint8[N, 16], ascending; none for who has withdrawn everything. What is opted out
    nobody holds.

    Where only opt-outs came since, these are all that the study's runs have ever known of the
    uploader but those: of a run's records they leave the same ones. Raises as `open_dataset`.
    """
    found: dict[str, Bytes2D] = {}
    out = opted_out.newest(broker, identity, study.id)
    for uploader, number in inputs.items():
        with broker.database.read() as connection:
            newest = studies.newest_held(connection, study.id, uploader)
            row = studies.find_study_at(connection, study.id, newest.epoch) if newest else None
        if newest is None or row is None or newest.number < number:
            found[uploader] = np.zeros((0, 16), np.uint8)
        elif newest.number != number and newest.state == studies.DESTROYED:
            # What it held nobody can tell any more, so nobody is told to hold it.
            found[uploader] = np.zeros((0, 16), np.uint8)
        elif newest.number != number:
            then = RegisteredStudy.of(row)
            opened = open_dataset(broker, identity, then, uploader, newest.number)
            names = opened.records.pseudonyms
            found[uploader] = names[np.argsort(as_names(names))]
        elif len(out.get(uploader, ())):
            found[uploader] = _known(broker, study.id, uploader)
        if uploader in found and uploader in out and len(found[uploader]):
            found[uploader] = found[uploader][~is_among(found[uploader], out[uploader])]
    return found


def _known(broker: Broker, study_id: str, uploader: str) -> Bytes2D:
    with broker.database.read() as connection:
        known = people.everyone(connection, study_id)
    if uploader not in known.uploaders:
        return np.zeros((0, 16), np.uint8)
    mine: Bytes2D = known.pseudonyms[known.uploader == known.uploaders.index(uploader)]
    return mine


def require_inputs(connection: Connection, study_id: str, inputs: Mapping[str, int]) -> None:
    """
    Raises Conflict, naming them, where uploaders have withdrawn their part of a run, or it is in
    quarantine.
    """
    rows = {u: studies.find_dataset(connection, study_id, u, n) for u, n in inputs.items()}
    hint = "start another run; allow_missing=true links the others"
    held = [u for u, row in rows.items() if row is not None and row.state == "quarantined"]
    gone = [u for u, row in rows.items() if u not in held and _is_gone(row)]
    if gone:
        raise Conflict(
            f"while the run was under way its dataset was withdrawn by: {', '.join(sorted(gone))}",
            hint=hint,
        )
    if held:
        raise Conflict(
            "while the run was under way the dataset was put into quarantine of:"
            f" {', '.join(sorted(held))}",
            hint=hint,
        )


def _is_gone(row: studies.DatasetRow | None) -> bool:
    return row is None or row.state != "complete"
