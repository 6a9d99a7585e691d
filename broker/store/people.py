"""
Rows of persons and memberships: which record belonged to which person after which run.

A membership holds from the run of sequence `since` until, exclusive, that of sequence `until`;
None: to this day. So "who was this after run n" has one answer for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, select, update

from broker.store.tables import membership, person
from linkage.matching.identity import IdentityChanges
from linkage.records import Bytes2D

__all__ = ["Connection", "Known", "ended", "everyone", "members_at", "write"]

_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Known:
    """
    Every record ever known: by pseudonym, its uploader, its newest person, and since when it has
    belonged there; since is None where it belongs nowhere now, being withdrawn.
    """

    records: Mapping[bytes, tuple[str, bytes, int | None]]

    def person_of(self) -> dict[bytes, bytes]:
        """Return the newest person ID by pseudonym, of withdrawn records too."""
        return {pseudonym: person_id for pseudonym, (_, person_id, _) in self.records.items()}


def everyone(connection: Connection, study_id: str) -> Known:
    """Return every record that the study's runs have known."""
    m = membership.c
    wanted = select(m.pseudonym, m.uploader, m.person_id, m.since, m.until)
    rows = connection.execute(wanted.where(m.study_id == study_id).order_by(m.since))
    # Later rows replace earlier ones: the newest stays.
    return Known(
        {
            row.pseudonym: (row.uploader, row.person_id, row.since if row.until is None else None)
            for row in rows
        }
    )


def ended(connection: Connection, study_id: str) -> list[bytes]:
    """Return the person IDs that were merged away."""
    p = person.c
    wanted = select(p.person_id).where(p.study_id == study_id, p.until.is_not(None))
    return list(connection.execute(wanted).scalars())


def members_at(
    connection: Connection, study_id: str, uploader: str, sequence: int
) -> tuple[bytes, bytes]:
    """Return an uploader's records after a run: pseudonyms, person IDs, 16 bytes each, joined."""
    m = membership.c
    wanted = select(m.pseudonym, m.person_id).where(
        m.study_id == study_id, m.uploader == uploader, _holds_at(sequence)
    )
    rows = connection.execute(wanted.order_by(m.pseudonym)).all()
    return b"".join(row.pseudonym for row in rows), b"".join(row.person_id for row in rows)


def write(
    connection: Connection,
    study_id: str,
    sequence: int,
    known: Known,
    pseudonyms: Mapping[str, Bytes2D],
    changes: IdentityChanges,
) -> None:
    """Write what a run changed: new, ended and split persons, begun and ended memberships."""
    made = (
        {
            "study_id": study_id,
            "person_id": one,
            "since": sequence,
            "split_from": changes.split.get(one),
        }
        for one in changes.created
    )
    for rows in _batches(made):
        connection.execute(person.insert(), rows)
    _end_persons(connection, study_id, sequence, changes.merged)
    uploader_of = {name.tobytes(): who for who, rows in pseudonyms.items() for name in rows}
    moved = {
        name: who
        for name, who in changes.members.items()
        if name not in known.records
        or known.records[name][1] != who
        or known.records[name][2] is None
    }
    over = (
        (name, uploader, since)
        for name, (uploader, _, since) in known.records.items()
        if since is not None and (name in moved or name not in changes.members)
    )
    _end_memberships(connection, study_id, sequence, over)
    begun = (
        {
            "study_id": study_id,
            "uploader": uploader_of[name],
            "pseudonym": name,
            "since": sequence,
            "person_id": who,
        }
        for name, who in moved.items()
    )
    for rows in _batches(begun):
        connection.execute(membership.insert(), rows)


def _end_persons(
    connection: Connection, study_id: str, sequence: int, merged: Mapping[bytes, bytes]
) -> None:
    ending = (
        update(person)
        .where(person.c.study_id == study_id, person.c.person_id == bindparam("ending"))
        .values(until=sequence, merged_into=bindparam("into"))
    )
    pairs = ({"ending": gone, "into": into} for gone, into in merged.items())
    for rows in _batches(pairs):
        connection.execute(ending, rows)


def _end_memberships(
    connection: Connection,
    study_id: str,
    sequence: int,
    over: Iterable[tuple[bytes, str, int]],
) -> None:
    m = membership.c
    ending = (
        update(membership)
        .where(
            m.study_id == study_id,
            m.uploader == bindparam("of_uploader"),
            m.pseudonym == bindparam("name"),
            m.since == bindparam("begun"),
        )
        .values(until=sequence)
    )
    named = ({"name": name, "of_uploader": who, "begun": since} for name, who, since in over)
    for rows in _batches(named):
        connection.execute(ending, rows)


def _holds_at(sequence: int) -> ColumnElement[bool]:
    m = membership.c
    return (m.since <= sequence) & (m.until.is_(None) | (m.until > sequence))


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    left = iter(rows)
    while batch := list(islice(left, _BATCH)):
        yield batch
