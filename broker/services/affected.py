"""What was given out and holds records that were withdrawn since, some at a time."""

from __future__ import annotations

from broker.store import releases
from broker.store.engine import Connection
from linkage.storage_messages import AffectedState


def affected(
    connection: Connection, study_id: str, *, number: int, size: int | None
) -> tuple[list[AffectedState], int]:
    """
    Return page `number`, from 1, of `size` of what withdrawals affected in a study, newest first;
    and how many there are in all. size: None for all of them.
    """
    every = releases.how_many_affected(connection, study_id)
    most = every if size is None else size
    rows = releases.affected_page(connection, study_id, start=(number - 1) * most, most=most)
    ids = [row.id for row in rows]
    withdrawn = releases.affected_among(connection, ids)
    pins = releases.pins_among(connection, ids)
    return [_state(row, withdrawn[row.id], pins.get(row.id, {})) for row in rows], every


def _state(
    row: releases.Given, found: dict[str, tuple[int, int]], pins: dict[str, tuple[str, ...]]
) -> AffectedState:
    return AffectedState.model_validate(
        {
            "id": row.id,
            "kind": row.kind,
            "run_id": row.run_id,
            "made_at": row.finished_at,
            "withdrawn": {party: count for party, (count, _) in found.items()},
            "since": {party: at for party, (_, at) in found.items()},
            "pins": pins,
        }
    )
