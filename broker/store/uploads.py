"""How much is stored for whom, quotas, what the worker has yet to open, keys of requests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select, update

from broker.store.studies import DatasetRow
from broker.store.tables import assertion_list, claimed_key, dataset, item, opt_out_list, quota

STORED = ("receiving", "complete", "quarantined")
"""States of dataset versions whose parts are kept."""


def _sums(*, by_sender: bool) -> Select[Any]:
    """Return what adds up the bytes that are kept, by kind; built once, since every site asks."""
    kept = dataset.c.state.in_(STORED)
    columns = []
    for table, size, who, which in (
        (dataset, dataset.c.bytes, dataset.c.uploader, kept),
        (item, item.c.size, item.c.sender, item.c.sender != "broker"),
        (assertion_list, assertion_list.c.size, assertion_list.c.uploader, None),
        (opt_out_list, opt_out_list.c.size, opt_out_list.c.uploader, None),
    ):
        mine = select(func.coalesce(func.sum(size), 0)).where(
            table.c.study_id == bindparam("study")
        )
        mine = mine if which is None else mine.where(which)
        if by_sender:
            mine = mine.where(who.in_(bindparam("senders", expanding=True)))
        columns.append(mine.scalar_subquery())
    return select(*columns)


_OF_ALL, _OF_SENDERS = _sums(by_sender=False), _sums(by_sender=True)


def bytes_of(
    connection: Connection, study_id: str, senders: Collection[str] | None = None
) -> tuple[int, int]:
    """
    Return the bytes of dataset versions, announced ones whole, and of whatever else was sent: by
    these senders, or by all but the broker.
    """
    if senders is None:
        sums = connection.execute(_OF_ALL, {"study": study_id}).one()
    else:
        named = {"study": study_id, "senders": sorted(senders)}
        sums = connection.execute(_OF_SENDERS, named).one()
    return int(sums[0]), sum(map(int, sums[1:]))


def uploaders(connection: Connection, study_id: str) -> list[str]:
    """Return whoever has announced a dataset version, by name."""
    wanted = select(dataset.c.uploader).where(dataset.c.study_id == study_id).distinct()
    return sorted(connection.execute(wanted).scalars())


def quotas(connection: Connection, study_id: str) -> dict[str, int]:
    """Return the quotas that an admin has set, by party; "": of the study as a whole."""
    wanted = select(quota.c.party, quota.c.bytes).where(quota.c.study_id == study_id)
    return {row.party: row.bytes for row in connection.execute(wanted)}


def set_quota(connection: Connection, study_id: str, party: str, size: int, now: int) -> None:
    """Set a quota, in place of an earlier one."""
    values = {"bytes": size, "set_at": now}
    mine = (quota.c.study_id == study_id) & (quota.c.party == party)
    if not connection.execute(update(quota).where(mine).values(**values)).rowcount:
        connection.execute(quota.insert().values(study_id=study_id, party=party, **values))


def unchecked(connection: Connection) -> list[DatasetRow]:
    """Return the dataset versions that the worker has yet to open, oldest first."""
    wanted = select(dataset).where(
        dataset.c.state.in_(("complete", "quarantined")), dataset.c.checked_at.is_(None)
    )
    ordered = wanted.order_by(dataset.c.completed_at, dataset.c.study_id, dataset.c.number)
    return [DatasetRow(**row) for row in connection.execute(ordered).mappings()]


def set_checked(
    connection: Connection, row: DatasetRow, *, state: str, quarantine: str, checked_at: int | None
) -> bool:
    """
    Store what the worker found, or that it shall look again; whether the version was still as
    `row` says.
    """
    mine = (
        (dataset.c.study_id == row.study_id)
        & (dataset.c.uploader == row.uploader)
        & (dataset.c.number == row.number)
        & (dataset.c.state == row.state)
    )
    values = {"state": state, "quarantine": quarantine, "checked_at": checked_at}
    return bool(connection.execute(update(dataset).where(mine).values(**values)).rowcount)


def claim_key(
    connection: Connection, actor: str, key: str, request_hash: str, now: int
) -> str | None:
    """Remember what request a key came with; return the one that it came with before."""
    mine = (claimed_key.c.actor == actor) & (claimed_key.c.key == key)
    found = connection.execute(select(claimed_key.c.request_hash).where(mine)).scalar()
    if found is None:
        connection.execute(
            claimed_key.insert().values(
                actor=actor, key=key, request_hash=request_hash, claimed_at=now
            )
        )
    return found


def forget_keys(connection: Connection, before: int) -> None:
    """Forget keys that were claimed before a time, Unix seconds."""
    connection.execute(claimed_key.delete().where(claimed_key.c.claimed_at < before))
