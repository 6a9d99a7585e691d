"""
From entities to person IDs that stay, stage 6 of a run.

An entity is a set of records in one run; a **person ID** outlives runs. `assign` compares the
entities now with the person of every record before:

    all records are new            a new person
    all known ones had one ID      that ID, whoever joins: adding never renames
    they had several IDs (merge)   the ID that most of them had; the others become tombstones
    an ID's records part (split)   the part with most of them keeps it; the rest are new persons

Ties go to the smaller ID, then to the entity with the smaller pseudonym, bytewise. A person whose
records are all withdrawn keeps its ID, unused. Person IDs never leave the broker.

Names and IDs are compared as S16 here. numpy drops trailing zero bytes of a single S16 element, so
none is ever taken out by itself; compared as wholes, equal bytes and equal S16 are the same. The
readable reference is `identity_reference`; a test holds both equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

import numba
import numpy as np
import numpy.typing as npt

from linkage.errors import MatchingFailed
from linkage.matching.solve import Entities
from linkage.records import Bytes2D

PERSON_ID_BYTES = 16
PARTITION = b"commons-linkage/partition/1"
_PERSON = b"commons-linkage/person/1"
_NOBODY = np.zeros((0, PERSON_ID_BYTES), np.uint8)

Names = npt.NDArray[np.bytes_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Previous:
    """
    The newest person of every record known before, withdrawn ones too: N parallel rows.

    pseudonyms: uint8[N, 16], each once, in any order. persons: uint8[N, 16].
    ended: uint8[M, 16], IDs that were merged away earlier and must not come back.
    """

    pseudonyms: Bytes2D
    persons: Bytes2D
    ended: Bytes2D


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class IdentityChanges:
    """
    members: by party, the person ID of every record now: uint8[N, 16], parallel to its pseudonyms.
    created: uint8[C, 16], new person IDs. merged: tombstones, the IDs that ended and the ones that
    took their records, uint8[M, 16] each. split: new IDs, and the ID that their records had before.
    unused: uint8[U, 16], known IDs whose records are all gone, neither merged nor in use.
    """

    members: Mapping[str, Bytes2D]
    created: Bytes2D
    merged: tuple[Bytes2D, Bytes2D]
    split: tuple[Bytes2D, Bytes2D]
    unused: Bytes2D


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Partition:
    """
    Records by pseudonym, ascending: N parallel rows. row: int64[N], its place in all records,
    parties sorted. part: int64[N], its entity's rank by smallest pseudonym. first: int64[parts].
    """

    names: Names
    row: Numbers
    part: Numbers
    first: Numbers


def derive_person_id(smallest_pseudonym: bytes, attempt: int) -> bytes:
    """
    Return 16 bytes for a new person: SHA-256 of a label, the smallest pseudonym and a counter.

    Deterministic, so that a repeated step gives the same ID. Whoever knows the pseudonyms can
    recompute it, so it is no secret and no cross-commons ID; it stays within the broker.
    """
    text = _PERSON + smallest_pseudonym + attempt.to_bytes(4, "big")
    return hashlib.sha256(text).digest()[:PERSON_ID_BYTES]


def assign(
    previous: Previous, entities: Entities, pseudonyms: Mapping[str, Bytes2D]
) -> IdentityChanges:
    """
    Return the person ID of every record of `entities`, and what changed.

    pseudonyms: by party, uint8[N, 16]. A new person's ID is `derive_person_id` of its smallest
    pseudonym and the first of 0, 1, 2 ... that gives an unused one. Raises MatchingFailed if a
    pseudonym occurs in two parties or sizes differ.
    """
    now = _partition(entities, pseudonyms)
    persons, person_of = np.unique(as_names(previous.persons), return_inverse=True)
    part, person = _claims(now, previous, person_of.ravel(), len(persons))
    takes = _take(part, person, len(now.first), len(persons))
    fresh = np.flatnonzero(takes < 0)
    used = np.unique(np.concatenate([persons, as_names(previous.ended)]))
    created = _new_ids(now.names[now.first[fresh]], used)
    ids = np.zeros(len(now.first), "S16")
    ids[fresh] = created
    ids[takes >= 0] = persons[takes[takes >= 0]]
    free = np.ones(len(persons), np.bool_)
    free[takes[takes >= 0]] = False
    over = np.flatnonzero(free[person])
    ended, first = np.unique(person[over], return_index=True)
    free[ended] = False
    leaving = np.flatnonzero(takes[part] < 0)
    parted, largest = np.unique(part[leaving], return_index=True)
    members = np.zeros(len(now.names), "S16")
    members[now.row] = ids[now.part]
    return IdentityChanges(
        members=_by_party(members, pseudonyms),
        created=as_bytes(created),
        merged=(as_bytes(persons[ended]), as_bytes(ids[part[over[first]]])),
        split=(as_bytes(ids[parted]), as_bytes(persons[person[leaving[largest]]])),
        unused=as_bytes(persons[free]),
    )


def result_digest(entities: Entities, pseudonyms: Mapping[str, Bytes2D]) -> str:
    """
    Return the SHA-256, in hex, of the sorted partition of all record pseudonyms.

    Each entity's pseudonyms ascend, entities ascend by their smallest; every pseudonym is preceded
    by one byte, 1 where an entity begins, else 0. Two runs with the same result have the same
    digest, whatever the order of parties, records or entity numbers.
    """
    now = _partition(entities, pseudonyms)
    order = np.argsort(now.part, kind="stable")
    text = np.zeros((len(order), 1 + PERSON_ID_BYTES), np.uint8)
    text[:, 1:] = as_bytes(now.names[order])
    text[:, 0] = np.diff(now.part[order], prepend=-1)
    digest = hashlib.sha256(PARTITION)
    digest.update(text.data if len(text) else b"")
    return digest.hexdigest()


def as_names(values: Bytes2D) -> Names:
    """View uint8[N, 16] as S16[N], to be compared and sorted as wholes."""
    return np.ascontiguousarray(values).view("S16").reshape(len(values))


def as_bytes(names: Names) -> Bytes2D:
    """View S16[N] as uint8[N, 16]."""
    return np.ascontiguousarray(names).view(np.uint8).reshape(-1, PERSON_ID_BYTES)


def find_in(among: Names, wanted: Names) -> Numbers:
    """Return where each of `wanted` is in `among`, which ascends; -1 where it is not: int64[N]."""
    if not len(among):
        return np.full(len(wanted), -1, np.int64)
    place = np.minimum(np.searchsorted(among, wanted), len(among) - 1)
    return np.where(among[place] == wanted, place, -1)


def _partition(entities: Entities, pseudonyms: Mapping[str, Bytes2D]) -> _Partition:
    if entities.of.keys() != pseudonyms.keys() or any(
        len(entities.of[p]) != len(pseudonyms[p]) for p in pseudonyms
    ):
        raise MatchingFailed("entities and pseudonyms are not of the same records")
    parties = sorted(pseudonyms)
    names = as_names(np.concatenate([_NOBODY, *(pseudonyms[p] for p in parties)]))
    entity = np.concatenate([np.zeros(0, np.int64), *(entities.of[p] for p in parties)])
    row = np.argsort(names, kind="stable")
    names = names[row]
    if (names[1:] == names[:-1]).any():
        raise MatchingFailed(
            "two records have one pseudonym",
            hint="each contributor needs its own secret, and record ids must be unique",
        )
    _, first, number = np.unique(entity[row], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return _Partition(names, row, rank[number.ravel()], np.sort(first))


def _claims(
    now: _Partition, previous: Previous, person_of: Numbers, persons: int
) -> tuple[Numbers, Numbers]:
    """
    Return which parts hold records of which earlier persons, the strongest claim first: by the
    number of records, then person, then part. int64[K] each.
    """
    before = as_names(previous.pseudonyms)
    order = np.argsort(before)
    place = find_in(before[order], now.names)
    known = place >= 0
    code = now.part[known] * max(1, persons) + person_of[order[place[known]]]
    code, votes = np.unique(code, return_counts=True)
    part, person = np.divmod(code, max(1, persons))
    strongest = np.lexsort((part, person, -votes))
    return part[strongest], person[strongest]


@numba.njit(cache=True, nogil=True)
def _take(part, person, parts, persons):  # type: ignore[no-untyped-def]
    """Give each part the person of its first claim on one that is free; -1 where none is."""
    takes = np.full(parts, -1, np.int64)
    taken = np.zeros(persons, np.bool_)
    for k in range(len(part)):
        if takes[part[k]] < 0 and not taken[person[k]]:
            takes[part[k]] = person[k]
            taken[person[k]] = True
    return takes


def _new_ids(smallest: Names, used: Names) -> Names:
    """Return a new person ID for each of these pseudonyms. used: ascending."""
    text = smallest.tobytes()
    names = [text[i : i + 16] for i in range(0, len(text), 16)]
    made = [derive_person_id(name, 0) for name in names]
    again = np.flatnonzero(find_in(used, np.array(made, "S16")) >= 0)
    if len(again):  # a part that left takes its pseudonym with it, and a tombstone keeps its ID
        gone = {*made}
        for row in again.tolist():
            tries = (derive_person_id(names[row], attempt) for attempt in count(1))
            made[row] = next(
                one for one in tries if one not in gone and find_in(used, _one(one))[0] < 0
            )
            gone.add(made[row])
    return as_names(np.frombuffer(b"".join(made), np.uint8).reshape(-1, PERSON_ID_BYTES))


def _one(name: bytes) -> Names:
    return as_names(np.frombuffer(name, np.uint8).reshape(1, PERSON_ID_BYTES))


def _by_party(values: Names, pseudonyms: Mapping[str, Bytes2D]) -> dict[str, Bytes2D]:
    parties = sorted(pseudonyms)
    ends = np.cumsum([len(pseudonyms[p]) for p in parties])
    pieces = np.split(as_bytes(values), ends[:-1])
    return dict(zip(parties, pieces, strict=True)) if parties else {}
