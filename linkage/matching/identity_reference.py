"""
`identity`, to be read: the same rules with a dict for every record. A test holds both equal.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from linkage.errors import MatchingFailed
from linkage.matching.dataset import as_scalars
from linkage.matching.identity import PARTITION, derive_person_id
from linkage.matching.solve import Entities
from linkage.records import Bytes2D


@dataclass(frozen=True, slots=True, repr=False)
class PlainChanges:
    """What `identity.IdentityChanges` says. members: the person ID by record pseudonym."""

    members: Mapping[bytes, bytes]
    created: tuple[bytes, ...]
    merged: Mapping[bytes, bytes]
    split: Mapping[bytes, bytes]
    unused: tuple[bytes, ...]


def assign(
    previous: Mapping[bytes, bytes],
    entities: Entities,
    pseudonyms: Mapping[str, Bytes2D],
    *,
    ended: Collection[bytes] = (),
) -> PlainChanges:
    """Return what `identity.assign` returns. previous: the person ID by pseudonym."""
    parts = partition(entities, pseudonyms)
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
            person_of[e] = _unused_id(part[0], used)
            created.append(person_of[e])
            if votes[e]:
                split[person_of[e]] = min(votes[e], key=lambda p: (-votes[e][p], p))
    merged: dict[bytes, bytes] = {}
    for _, person, _, e in claims:
        if person not in taken and person not in merged:
            merged[person] = person_of[e]
    return PlainChanges(
        members={r: person_of[e] for e, part in enumerate(parts) for r in part},
        created=tuple(created),
        merged=merged,
        split=split,
        unused=tuple(sorted(set(previous.values()) - taken - merged.keys())),
    )


def result_digest(entities: Entities, pseudonyms: Mapping[str, Bytes2D]) -> str:
    """Return what `identity.result_digest` returns."""
    digest = hashlib.sha256(PARTITION)
    for part in partition(entities, pseudonyms):
        digest.update(b"\1" + b"\0".join(part))
    return digest.hexdigest()


def partition(entities: Entities, pseudonyms: Mapping[str, Bytes2D]) -> list[list[bytes]]:
    """Return the pseudonyms of each entity ascending, entities by their smallest."""
    parts: dict[int, list[bytes]] = {}
    seen = 0
    for party in sorted(pseudonyms):
        names = [name.tobytes() for name in as_scalars(pseudonyms[party])]
        seen += len(names)
        for entity, name in zip(entities.of[party].tolist(), names, strict=True):
            parts.setdefault(entity, []).append(name)
    if len({name for part in parts.values() for name in part}) != seen:
        raise MatchingFailed("two records have one pseudonym")
    return sorted(sorted(part) for part in parts.values())


def _unused_id(smallest: bytes, used: set[bytes]) -> bytes:
    attempt = 0
    while (person := derive_person_id(smallest, attempt)) in used:
        attempt += 1
    used.add(person)
    return person
