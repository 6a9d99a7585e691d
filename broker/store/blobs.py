"""Which blobs the tables name."""

from __future__ import annotations

from sqlalchemy import Connection, select

from broker.store.tables import intermediate, item, part


def named(connection: Connection) -> set[str]:
    """Return every blob that some row names."""
    found: set[str] = set()
    for table in (part, item, intermediate):
        found.update(connection.execute(select(table.c.blob_id)).scalars())
    return found
