"""
What belongs to a study, table by table: counted, its blobs named, its rows deleted.

Which tables these are is read from the schema itself: whatever has a study's id, or refers to what
has one. So a table that is added tomorrow is destroyed too, unless KEPT names it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, tuple_

from broker.store.tables import metadata

KEPT: Mapping[str, str] = {
    "study": "the study's header: its id is not used again, and the certificate can be checked",
    "past_study": "what was signed for earlier epochs, likewise",
    "deactivation": "the custodian's notices about its keys",
    "confirmation": "who had agreed to it",
    "destruction": "the certificate itself",
    "access_token": "parties sign in to fetch the certificate; tokens expire within the hour",
    "account_role": "who may read of it",
    "suspension": "which keys may not sign in",
}
"""Tables of a study that stay, and why."""

_BATCH = 20_000


def tables() -> list[str]:
    """Return the tables to be destroyed, those that refer to others before these."""
    ordered = reversed(metadata.sorted_tables)
    return [table.name for table in ordered if table.name not in KEPT and _belongs(table)]


def with_blobs() -> list[str]:
    """Return those of `tables` whose rows name blobs, in the same order."""
    return [name for name in tables() if _blob_columns(metadata.tables[name])]


def count(connection: Connection, name: str, study_id: str) -> int:
    """Return how many rows of a table belong to the study."""
    table = metadata.tables[name]
    mine = select(func.count()).select_from(table).where(_of(table, study_id))
    return int(connection.execute(mine).scalar_one())


def blobs(connection: Connection, name: str, study_id: str, most: int) -> list[str]:
    """Return at most `most` blobs that a column of the table names for the study."""
    table = metadata.tables[name]
    found: list[str] = []
    for one in _blob_columns(table):
        column = table.c[one]
        wanted = select(column).where(_of(table, study_id), column.is_not(None)).limit(most)
        found += connection.execute(wanted).scalars()
    return found


def forget_blobs(connection: Connection, name: str, blob_ids: list[str]) -> None:
    """Delete the rows that name these blobs."""
    table = metadata.tables[name]
    for one in _blob_columns(table):
        connection.execute(delete(table).where(table.c[one].in_(blob_ids)))


def forget(connection: Connection, name: str, study_id: str) -> int:
    """Delete rows of the study in a table, a batch of them; return how many."""
    table = metadata.tables[name]
    key = tuple_(*table.primary_key.columns)
    some = select(*table.primary_key.columns).where(_of(table, study_id)).limit(_BATCH)
    return int(connection.execute(delete(table).where(key.in_(some))).rowcount)


def _blob_columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name.endswith("blob_id")]


def _belongs(table: Table) -> bool:
    if "study_id" in table.c:
        return True
    parents = {key.column.table for key in table.foreign_keys} - {table}
    return any(_belongs(parent) for parent in parents)


def _of(table: Table, study_id: str) -> ColumnElement[bool]:
    """Return the condition that a row belongs to the study."""
    if "study_id" in table.c:
        return table.c.study_id == study_id
    for key in table.foreign_keys:
        parent = key.column.table
        if parent is not table and _belongs(parent):
            return table.c[key.parent.name].in_(select(key.column).where(_of(parent, study_id)))
    raise AssertionError(f"{table.name} belongs to no study")
