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
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from linkage.errors import MatchingFailed
from linkage.matching.dataset import as_scalars
from linkage.matching.solve import Entities
from linkage.records import Bytes2D

PERSON_ID_BYTES = 16
_PERSON = b"commons-linkage/person/1"
_PARTITION = b"commons-linkage/partition/1"

NewId = Callable[[bytes, int], bytes]


@dataclass(frozen=True, slots=True, repr=False)
class IdentityChanges:
    """
    members: the person ID of every record now, by record pseudonym.
    created: new person IDs. merged: tombstones, from the ID that ended to the one that took its
    records. split: from each new ID to the ID that its records had before. unused: known IDs
    whose records are all gone, neither merged nor in use.
    """

    members: Mapping[bytes, bytes]
    created: tuple[bytes, ...]
    merged: Mapping[bytes, bytes]
    split: Mapping[bytes, bytes]
    unused: tuple[bytes, ...]


def derive_person_id(smallest_pseudonym: bytes, attempt: int) -> bytes:
    """
    Return 16 bytes for a new person: SHA-256 of a label, the smallest pseudonym and a counter.

    Deterministic, so that a repeated step gives the same ID. Whoever knows the pseudonyms can
    recompute it, so it is no secret and no cross-commons ID; it stays within the broker.
    """
    text = _PERSON + smallest_pseudonym + attempt.to_bytes(4, "big")
    return hashlib.sha256(text).digest()[:PERSON_ID_BYTES]


def assign(
    previous: Mapping[bytes, bytes],
    entities: Entities,
    pseudonyms: Mapping[str, Bytes2D],
    *,
    ended: Collection[bytes] = (),
    new_id: NewId = derive_person_id,
) -> IdentityChanges:
    """
    Return the person ID of every record of `entities`, and what changed.

    previous: the person ID of every record known before, by pseudonym, also of withdrawn ones.
    pseudonyms: by party, uint8[N, 16]. ended: IDs that were merged away earlier and must not come
    back. new_id: called with the entity's smallest pseudonym and 0, 1, 2 ... until the ID is
    unused. Raises MatchingFailed if a pseudonym occurs in two parties or sizes differ.
    """
    parts = _partition(entities, pseudonyms)
    votes = [Counter(previous[r] for r in part if r in previous) for part in parts]
    claims = sorted(
        (-count, person, part[0], e)
        for e, (part, vote) in enumerate(zip(parts, votes, strict=True))
        for person, count in vote.items()
    )
    person_of: dict[int, bytes] = {}
    taken: set[bytes] = set()
    for _, person, _, e in claims:
        if e not in person_of and person not in taken:
            person_of[e] = person
            taken.add(person)
    used = {*previous.values(), *ended}
    created, split = [], {}
    for e, part in enumerate(parts):
        if e not in person_of:
            person_of[e] = _unused_id(part[0], used, new_id)
            created.append(person_of[e])
            if votes[e]:
                split[person_of[e]] = min(votes[e], key=lambda p: (-votes[e][p], p))
    merged: dict[bytes, bytes] = {}
    for _, person, _, e in claims:
        if person not in taken and person not in merged:
            merged[person] = person_of[e]
    return IdentityChanges(
        members={r: person_of[e] for e, part in enumerate(parts) for r in part},
        created=tuple(created),
        merged=merged,
        split=split,
        unused=tuple(sorted(set(previous.values()) - taken - merged.keys())),
    )


def result_digest(entities: Entities, pseudonyms: Mapping[str, Bytes2D]) -> str:
    """
    Return the SHA-256, in hex, of the sorted partition of all record pseudonyms.

    Each entity's pseudonyms ascend, entities ascend by their smallest; every pseudonym is preceded
    by one byte, 1 where an entity begins, else 0. Two runs with the same result have the same
    digest, whatever the order of parties, records or entity numbers.
    """
    digest = hashlib.sha256(_PARTITION)
    for part in _partition(entities, pseudonyms):
        digest.update(b"\1" + b"\0".join(part))
    return digest.hexdigest()


def _partition(entities: Entities, pseudonyms: Mapping[str, Bytes2D]) -> list[list[bytes]]:
    """Return the pseudonyms of each entity ascending, entities by their smallest."""
    if entities.of.keys() != pseudonyms.keys() or any(
        len(entities.of[p]) != len(pseudonyms[p]) for p in pseudonyms
    ):
        raise MatchingFailed("entities and pseudonyms are not of the same records")
    parts: dict[int, list[bytes]] = {}
    seen = 0
    for party in sorted(pseudonyms):
        names = [name.tobytes() for name in as_scalars(pseudonyms[party])]
        seen += len(names)
        for entity, name in zip(entities.of[party].tolist(), names, strict=True):
            parts.setdefault(entity, []).append(name)
    if len({name for part in parts.values() for name in part}) != seen:
        raise MatchingFailed(
            "two records have one pseudonym",
            hint="each contributor needs its own secret, and record ids must be unique",
        )
    return sorted(sorted(part) for part in parts.values())


def _unused_id(smallest: bytes, used: set[bytes], new_id: NewId) -> bytes:
    attempt = 0
    while (person := new_id(smallest, attempt)) in used:
        attempt += 1
    used.add(person)
    return person
