"""
The tables of IDs that releases, questions and deliveries give out, made in the worker's memory.

Every record of the party is in its table, matched or not, in random order; nothing about a table's
size or shape depends on what others hold. The one exception, `link_methods`, is for an enclave
alone, and only where every steward has agreed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from broker.store.links import LinkRows
from linkage import delivery, idtables
from linkage.matching.identity import as_names, find_in
from linkage.pseudonyms import ID_BYTES, random_ids
from linkage.records import Bytes2D


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """
    A party's records in a run. pseudonyms: uint8[N, 16]. persons: int64[N], numbers that are the
    same at every party for one person, and mean nothing outside this job.
    """

    pseudonyms: Bytes2D
    persons: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The IDs of one release or question. persons: int64[P], ascending. ids: uint8[P, width]."""

    persons: npt.NDArray[np.int64]
    ids: Bytes2D

    def of(self, persons: npt.NDArray[np.int64]) -> Bytes2D:
        """Return the ID of each person: uint8[N, width]."""
        return self.ids[np.searchsorted(self.persons, persons)]


def draw_ids(members: Mapping[str, Members], parties: Iterable[str]) -> Drawn:
    """Return one random ID for each person of these parties."""
    persons = [of_party(members, party).persons for party in parties]
    everyone = np.unique(np.concatenate([np.zeros(0, np.int64), *persons]))
    return Drawn(everyone, random_ids(len(everyone)))


def crosswalks(
    members: Mapping[str, Members],
    parties: Iterable[str],
    widths: dict[str, int],
    column: str,
    drawn: Drawn | None = None,
) -> dict[str, bytes]:
    """
    Return by party its table of all its records: one random ID a person, the same at every
    party, in random order. Who has no counterpart gets an ID all the same. drawn: those IDs.
    Any further column of `widths` is random bytes, likewise the same for one person.
    """
    parties = tuple(parties)
    drawn = drawn or draw_ids(members, parties)
    further = {
        name: Drawn(drawn.persons, _random(len(drawn.persons), width))
        for name, width in widths.items()
        if name not in ("record_pseudonym", column)
    }
    made = {}
    for party in parties:
        mine = of_party(members, party)
        order = random_order(len(mine.persons))
        ids = drawn.of(mine.persons)
        columns = {"record_pseudonym": mine.pseudonyms[order], column: ids[order]}
        columns |= {name: one.of(mine.persons)[order] for name, one in further.items()}
        made[party] = idtables.pack(columns, widths)
    return made


def link_methods(
    why: LinkRows, members: Mapping[str, Members], party: str, drawn: Drawn
) -> dict[str, Bytes2D]:
    """
    Return the columns that say how a party's IDs were linked: once each, every tier and model of
    the links of its records, in random order. No score; nothing of links among others.
    """
    none = [np.zeros((0, ID_BYTES), np.uint8)]
    names = as_names(np.concatenate([*none, *(one.pseudonyms for one in members.values())]))
    persons = np.concatenate([np.zeros(0, np.int64), *(one.persons for one in members.values())])
    own = np.concatenate(
        [np.zeros(0, np.bool_), *(np.full(len(m.persons), p == party) for p, m in members.items())]
    )
    order = np.argsort(names)
    names, persons, own = names[order], persons[order], own[order]
    left, right = find_in(names, as_names(why.left)), find_in(names, as_names(why.right))
    kept = (left >= 0) & (right >= 0) & (why.tier >= 0)
    left, right, tier, model = left[kept], right[kept], why.tier[kept], why.model[kept]
    touched = own[left] | own[right]
    facts = np.stack([persons[left], tier, model], axis=1)[touched]
    facts = np.unique(facts, axis=0)[random_order(len(np.unique(facts, axis=0)))]
    return {
        "cross_commons_id": drawn.of(facts[:, 0]),
        "tier": facts[:, 1:2].astype(np.uint8),
        "model": facts[:, 2].astype(">u2").view(np.uint8).reshape(-1, 2),
    }


def delivery_crosswalk(imaging: Members, enclave: Members, key: bytes) -> dict[str, Bytes2D]:
    """
    Return the columns of the delivery crosswalk: every enclave record, in random order.

    A matched person's row IDs and keys are those of its imaging records, everyone else's are
    random, so the enclave cannot tell who is matched but by what opens. Where an imaging person
    has several records, every enclave record has as many rows as the largest number of them.
    """
    persons, which = np.unique(enclave.persons, return_inverse=True)
    slots = int(np.unique(imaging.persons, return_counts=True)[1].max(initial=1))
    shape = (len(persons), slots)
    row_ids = _random(*shape, ID_BYTES)
    row_keys = _random(*shape, delivery.KEY_BYTES)
    filled = np.zeros(len(persons), np.int64)
    at = np.searchsorted(persons, imaging.persons)
    for pseudonym, person, place in zip(imaging.pseudonyms, imaging.persons, at, strict=True):
        if place < len(persons) and persons[place] == person:
            name = pseudonym.tobytes()
            slot = filled[place]
            row_ids[place, slot] = np.frombuffer(delivery.row_id(key, name), np.uint8)
            row_keys[place, slot] = np.frombuffer(delivery.row_key(key, name), np.uint8)
            filled[place] += 1
    records = np.repeat(np.arange(len(which)), slots)
    slot_of = np.tile(np.arange(slots), len(which))
    order = random_order(len(records))
    records, slot_of = records[order], slot_of[order]
    person_of = which[records]
    return {
        "record_pseudonym": enclave.pseudonyms[records],
        "cohort_id": random_ids(len(persons))[person_of],
        "row_id": row_ids[person_of, slot_of],
        "row_key": row_keys[person_of, slot_of],
    }


def random_order(count: int) -> npt.NDArray[np.int64]:
    """Return a permutation of `count` rows, drawn from the operating system's generator."""
    order = list(range(count))
    secrets.SystemRandom().shuffle(order)
    return np.array(order, np.int64)


def _random(*shape: int) -> Bytes2D:
    size = int(np.prod(shape))
    return np.frombuffer(os.urandom(size), np.uint8).reshape(shape).copy()


def of_party(members: Mapping[str, Members], party: str) -> Members:
    """Return the party's records; none where it took no part in the run."""
    nobody = Members(np.zeros((0, ID_BYTES), np.uint8), np.zeros(0, np.int64))
    return members.get(party, nobody)
