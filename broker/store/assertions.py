"""Rows of assertion lists: what uploaders have asserted, sealed, list by list."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from broker.store.tables import assertion_list


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRow:
    """
    One uploader's list; its newest one of an epoch counts. blob_id, size, digest: of the sealed
    list. placed_at: Unix seconds.
    """

    study_id: str
    uploader: str
    number: int
    epoch: int
    blob_id: str
    size: int
    digest: str
    placed_at: int


def add(connection: Connection, row: ListRow) -> None:
    """Store a list."""
    columns = {name: getattr(row, name) for name in ListRow.__dataclass_fields__}
    connection.execute(assertion_list.insert().values(**columns))


def find(connection: Connection, study_id: str, uploader: str, number: int) -> ListRow | None:
    """Return a list."""
    c = assertion_list.c
    wanted = select(assertion_list).where(
        c.study_id == study_id, c.uploader == uploader, c.number == number
    )
    found = connection.execute(wanted).mappings().first()
    return ListRow(**found) if found else None


def of_study(connection: Connection, study_id: str) -> list[ListRow]:
    """Return the study's lists, by uploader, newest first."""
    c = assertion_list.c
    wanted = select(assertion_list).where(c.study_id == study_id)
    ordered = wanted.order_by(c.uploader, c.number.desc())
    return [ListRow(**row) for row in connection.execute(ordered).mappings()]


def newest(connection: Connection, study_id: str, epoch: int) -> dict[str, int]:
    """Return the number of every uploader's newest list of an epoch, by uploader."""
    found: dict[str, int] = {}
    for row in of_study(connection, study_id):
        if row.epoch == epoch:
            found.setdefault(row.uploader, row.number)
    return found
