"""Which blobs the tables name."""

from __future__ import annotations

from sqlalchemy import Connection, select

from broker.store.tables import (
    assertion_list,
    intermediate,
    item,
    look_request,
    opt_out_list,
    part,
)


def named(connection: Connection) -> set[str]:
    """Return every blob that some row names."""
    found: set[str] = set()
    for table in (part, item, intermediate, look_request, assertion_list, opt_out_list):
        found.update(connection.execute(select(table.c.blob_id)).scalars())
    found.update(
        blob_id
        for blob_id in connection.execute(select(look_request.c.answer_blob_id)).scalars()
        if blob_id
    )
    return found
