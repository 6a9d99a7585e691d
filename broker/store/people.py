"""
Rows of persons and memberships: which record belonged to which person after which run.

A membership holds from the run of sequence `since` until, exclusive, that of sequence `until`;
None: to this day. So "who was this after run n" has one answer for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, select

from broker.store import bulk
from broker.store.tables import membership, person
from linkage.matching.identity import IdentityChanges, Names, Previous, as_names, find_in
from linkage.records import Bytes2D

__all__ = [
    "Connection",
    "Known",
    "PersonRow",
    "Stay",
    "everyone",
    "find",
    "holds_at",
    "members_at",
    "members_of",
    "stays",
    "write",
]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Known:
    """
    Every record ever known, ascending by pseudonym: N parallel rows.

    pseudonyms, persons: uint8[N, 16], with the newest person of each. uploader: int64[N], numbers
    of `uploaders`. since: int64[N], since when the record has belonged there; 0 where it belongs
    nowhere now, being withdrawn. ended: uint8[M, 16], person IDs that were merged away.
    """

    pseudonyms: Bytes2D
    persons: Bytes2D
    uploaders: tuple[str, ...]
    uploader: npt.NDArray[np.int64]
    since: npt.NDArray[np.int64]
    ended: Bytes2D

    def __len__(self) -> int:
        return len(self.pseudonyms)

    def previous(self) -> Previous:
        """Return what `identity.assign` needs of it."""
        return Previous(self.pseudonyms, self.persons, self.ended)


@dataclass(frozen=True, slots=True, repr=False)
class Stay:
    """A record belonged to a person from the run `since` until, exclusive, the run `until`."""

    uploader: str
    person_id: bytes
    since: int
    until: int | None


@dataclass(frozen=True, slots=True, repr=False)
class PersonRow:
    """A person, made by the run `since`; merged_into: who took its records at the run `until`."""

    person_id: bytes
    since: int
    until: int | None
    merged_into: bytes | None
    split_from: bytes | None


def everyone(connection: Connection, study_id: str) -> Known:
    """Return every record that the study's runs have known."""
    m, p = membership.c, person.c
    wanted = select(m.pseudonym, m.person_id, m.uploader, m.since, m.until)
    numbers: dict[str, int] = {}
    names, persons = [np.zeros((0, 16), np.uint8)], [np.zeros((0, 16), np.uint8)]
    others = [np.zeros((0, 3), np.int64)]
    for rows in bulk.read(connection, wanted.where(m.study_id == study_id)):
        pseudonyms, ids, uploaders, since, until = zip(*rows, strict=True)
        names.append(bulk.matrix(pseudonyms))
        persons.append(bulk.matrix(ids))
        who = [numbers.setdefault(one, len(numbers)) for one in uploaders]
        over = [one is not None for one in until]
        others.append(np.array([who, since, over], np.int64).T)
    every, ids_of, facts = np.concatenate(names), np.concatenate(persons), np.concatenate(others)
    # Of several rows of one record the newest stays.
    order = np.lexsort((facts[:, 1], as_names(every)))
    ordered = as_names(every)[order]
    last = order[np.append(ordered[1:] != ordered[:-1], np.ones(min(1, len(order)), np.bool_))]
    gone = select(p.person_id).where(p.study_id == study_id, p.until.is_not(None))
    return Known(
        pseudonyms=every[last],
        persons=ids_of[last],
        uploaders=tuple(numbers),
        uploader=facts[last, 0],
        since=np.where(facts[last, 2], 0, facts[last, 1]),
        ended=bulk.matrix(connection.execute(gone).scalars().all()),
    )


def members_at(
    connection: Connection, study_id: str, uploader: str, sequence: int
) -> tuple[bytes, bytes]:
    """Return an uploader's records after a run: pseudonyms, person IDs, 16 bytes each, joined."""
    m = membership.c
    wanted = select(m.pseudonym, m.person_id).where(
        m.study_id == study_id, m.uploader == uploader, holds_at(sequence)
    )
    names, persons = [], []
    for rows in bulk.read(connection, wanted.order_by(m.pseudonym)):
        names.append(b"".join(row.pseudonym for row in rows))
        persons.append(b"".join(row.person_id for row in rows))
    return b"".join(names), b"".join(persons)


def write(
    connection: Connection,
    study_id: str,
    sequence: int,
    known: Known,
    pseudonyms: Mapping[str, Bytes2D],
    changes: IdentityChanges,
) -> None:
    """Write what a run changed: new, ended and split persons, begun and ended memberships."""
    came_from = dict(zip(*map(bulk.split, changes.split), strict=True))
    # In the order of its key a row goes beside the one before: on SQLite three times as fast.
    created = changes.created[np.argsort(as_names(changes.created))]
    bulk.insert(
        connection,
        person,
        len(created),
        {
            "study_id": study_id,
            "person_id": created,
            "since": sequence,
            "split_from": [came_from.get(one) for one in bulk.split(created)],
        },
    )
    ended, into = changes.merged
    bulk.change(
        connection,
        person,
        len(ended),
        to={"until": sequence, "merged_into": into},
        where={"study_id": study_id, "person_id": ended},
    )
    stays = np.zeros(len(known), np.bool_)
    begun: dict[str, npt.NDArray[np.int64]] = {}
    for uploader, names in pseudonyms.items():
        place = find_in(as_names(known.pseudonyms), as_names(names))
        begun[uploader] = np.flatnonzero(
            ~_same(known, place, uploader, as_names(changes.members[uploader]))
        )
        stays[place[np.setdiff1d(np.arange(len(names)), begun[uploader], assume_unique=True)]] = 1
    # What ends comes first, so that no row begins beside one that still holds.
    over = np.flatnonzero((known.since > 0) & ~stays)
    bulk.change(
        connection,
        membership,
        len(over),
        to={"until": sequence},
        where={
            "study_id": study_id,
            "uploader": [known.uploaders[number] for number in known.uploader[over]],
            "pseudonym": known.pseudonyms[over],
            "since": known.since[over],
        },
    )
    for uploader, new in begun.items():
        rows = new[np.argsort(as_names(pseudonyms[uploader][new]))]
        bulk.insert(
            connection,
            membership,
            len(rows),
            {
                "study_id": study_id,
                "uploader": uploader,
                "pseudonym": pseudonyms[uploader][rows],
                "since": sequence,
                "person_id": changes.members[uploader][rows],
            },
        )


def holds_at(sequence: int) -> ColumnElement[bool]:
    """Return the condition that a membership holds after the run of this sequence."""
    m = membership.c
    return (m.since <= sequence) & (m.until.is_(None) | (m.until > sequence))


def _same(
    known: Known, place: npt.NDArray[np.int64], uploader: str, persons: Names
) -> npt.NDArray[np.bool_]:
    """Return which records of an uploader are where they were. place: in `known`, -1 if new."""
    if not len(known):
        return np.zeros(len(place), np.bool_)
    number = known.uploaders.index(uploader) if uploader in known.uploaders else -1
    same = (place >= 0) & (known.since[place] > 0) & (known.uploader[place] == number)
    return np.asarray(same & (as_names(known.persons)[place] == persons))


def stays(connection: Connection, study_id: str, pseudonym: bytes) -> list[Stay]:
    """Return whose record this was over time, oldest first; empty for one that no run has known."""
    m = membership.c
    wanted = select(m.uploader, m.person_id, m.since, m.until).where(
        m.study_id == study_id, m.pseudonym == pseudonym
    )
    return [Stay(*row) for row in connection.execute(wanted.order_by(m.since))]


def members_of(
    connection: Connection, study_id: str, person_id: bytes, sequence: int
) -> list[tuple[str, bytes]]:
    """Return uploader and pseudonym of a person's records after a run, in that order."""
    m = membership.c
    wanted = select(m.uploader, m.pseudonym).where(
        m.study_id == study_id, m.person_id == person_id, holds_at(sequence)
    )
    rows = connection.execute(wanted.order_by(m.uploader, m.pseudonym))
    return [(row.uploader, row.pseudonym) for row in rows]


def find(connection: Connection, study_id: str, person_id: bytes) -> PersonRow | None:
    """Return a person."""
    p = person.c
    wanted = select(p.person_id, p.since, p.until, p.merged_into, p.split_from).where(
        p.study_id == study_id, p.person_id == person_id
    )
    found = connection.execute(wanted).first()
    return PersonRow(*found) if found else None
