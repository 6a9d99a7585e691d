"""
Rows of persons and memberships: which record belonged to which person after which run.

A membership holds from the run of sequence `since` until, exclusive, that of sequence `until`;
None: to this day. So "who was this after run n" has one answer for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from sqlalchemy import ColumnElement, Connection, select, update

from broker.store.tables import membership, person

__all__ = ["Connection", "members_at"]

_BATCH = 5_000


def members_at(
    connection: Connection, study_id: str, party: str, sequence: int
) -> tuple[bytes, list[int]]:
    """Return a party's records after a run: their pseudonyms joined, and their person IDs."""
    m = membership.c
    wanted = select(m.pseudonym, m.person_id).where(
        m.study_id == study_id, m.party == party, _holds_at(sequence)
    )
    rows = connection.execute(wanted.order_by(m.pseudonym)).all()
    return b"".join(row.pseudonym for row in rows), [row.person_id for row in rows]


def _holds_at(sequence: int) -> ColumnElement[bool]:
    m = membership.c
    return (m.since <= sequence) & (m.until.is_(None) | (m.until > sequence))
