"""Rows of confirmations, opt-out lists and destructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from broker.store.tables import confirmation, destruction, opt_out_list


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationRow:
    """A party's signed confirmation of the study's hash in an epoch. confirmation: JSON."""

    study_id: str
    epoch: int
    party: str
    study_hash: str
    confirmation: str
    confirmed_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOutRow:
    """
    One uploader's opt-out list; its newest one counts. blob_id, size, digest: of the sealed list.
    report: JSON, of what held the records, once the worker has read the list at read_at.
    """

    study_id: str
    uploader: str
    number: int
    epoch: int
    blob_id: str
    size: int
    digest: str
    placed_at: int
    read_at: int | None = None
    report: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DestructionRow:
    """The destruction of a study. tally, certificate: JSON; set as it goes on."""

    study_id: str
    asked_by: str
    asked_at: int
    tally: str | None = None
    certificate: str | None = None
    finished_at: int | None = None


def set_confirmation(connection: Connection, row: ConfirmationRow) -> bool:
    """Keep a confirmation, in place of one of another hash; return whether it is new."""
    c = confirmation.c
    mine = (c.study_id == row.study_id) & (c.epoch == row.epoch) & (c.party == row.party)
    found = connection.execute(select(c.study_hash).where(mine)).scalar()
    if found == row.study_hash:
        return False
    columns = _columns(row)
    if found is None:
        connection.execute(confirmation.insert().values(**columns))
    else:
        connection.execute(update(confirmation).where(mine).values(**columns))
    return True


def confirmations(connection: Connection, study_id: str, epoch: int) -> list[ConfirmationRow]:
    """Return the confirmations of an epoch, by party in its order."""
    c = confirmation.c
    wanted = select(confirmation).where(c.study_id == study_id, c.epoch == epoch)
    rows = connection.execute(wanted.order_by(c.party)).mappings()
    return [ConfirmationRow(**row) for row in rows]


def add_opt_outs(connection: Connection, row: OptOutRow) -> None:
    """Store an opt-out list."""
    connection.execute(opt_out_list.insert().values(**_columns(row)))


def opt_outs_of_study(connection: Connection, study_id: str) -> list[OptOutRow]:
    """Return the study's opt-out lists, by uploader, newest first."""
    c = opt_out_list.c
    wanted = select(opt_out_list).where(c.study_id == study_id)
    rows = connection.execute(wanted.order_by(c.uploader, c.number.desc())).mappings()
    return [OptOutRow(**row) for row in rows]


def find_opt_outs(
    connection: Connection, study_id: str, uploader: str, number: int
) -> OptOutRow | None:
    """Return an opt-out list."""
    c = opt_out_list.c
    wanted = select(opt_out_list).where(
        c.study_id == study_id, c.uploader == uploader, c.number == number
    )
    found = connection.execute(wanted).mappings().first()
    return OptOutRow(**found) if found else None


def newest_opt_outs(connection: Connection, study_id: str) -> dict[str, int]:
    """Return the number of every uploader's newest opt-out list, of whatever epoch."""
    found: dict[str, int] = {}
    for row in opt_outs_of_study(connection, study_id):
        found.setdefault(row.uploader, row.number)
    return found


def unread_opt_outs(connection: Connection) -> list[OptOutRow]:
    """Return the lists that no worker has read yet, oldest first."""
    c = opt_out_list.c
    wanted = select(opt_out_list).where(c.read_at.is_(None)).order_by(c.placed_at)
    return [OptOutRow(**row) for row in connection.execute(wanted).mappings()]


def set_opt_outs_read(connection: Connection, row: OptOutRow, now: int, report: str) -> None:
    """Keep what the worker found about a list."""
    c = opt_out_list.c
    mine = (c.study_id == row.study_id) & (c.uploader == row.uploader) & (c.number == row.number)
    connection.execute(update(opt_out_list).where(mine).values(read_at=now, report=report))


def add_destruction(connection: Connection, row: DestructionRow) -> None:
    """Order a study's destruction."""
    connection.execute(destruction.insert().values(**_columns(row)))


def find_destruction(connection: Connection, study_id: str) -> DestructionRow | None:
    """Return a study's destruction, ordered or done."""
    wanted = select(destruction).where(destruction.c.study_id == study_id)
    found = connection.execute(wanted).mappings().first()
    return DestructionRow(**found) if found else None


def destructions(connection: Connection) -> list[DestructionRow]:
    """Return every destruction, newest order first; without tallies and certificates."""
    c = destruction.c
    wanted = select(c.study_id, c.asked_by, c.asked_at, c.finished_at)
    ordered = wanted.order_by(c.asked_at.desc(), c.study_id)
    return [DestructionRow(**row) for row in connection.execute(ordered).mappings()]


def unfinished_destructions(connection: Connection) -> list[str]:
    """Return the studies that are to be destroyed and are not yet, oldest order first."""
    c = destruction.c
    wanted = select(c.study_id).where(c.finished_at.is_(None)).order_by(c.asked_at)
    return list(connection.execute(wanted).scalars())


def change_destruction(connection: Connection, study_id: str, **columns: Any) -> None:
    """Set columns of a destruction."""
    mine = destruction.c.study_id == study_id
    connection.execute(update(destruction).where(mine).values(**columns))


def _columns(row: ConfirmationRow | OptOutRow | DestructionRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}
