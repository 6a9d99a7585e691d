"""
What the worker prepares from a finished run: releases, questions and deliveries.

Each is one step. Everything random in it is drawn anew if it is repeated after a crash, and
becomes visible in one transaction: whole or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import structlog

from broker import audit, durable
from broker.container import Broker
from broker.durable import StepFailed
from broker.registered import RegisteredStudy
from broker.services.questions import two_sides
from broker.store import jobs, people, runs, studies
from broker.withdrawn import held_since
from linkage import delivery, idtables
from linkage.errors import NotFound
from linkage.matching.identity import as_names, find_in
from linkage.messages import (
    BROKER,
    CROSSWALK,
    DELIVERY_CROSSWALK,
    DELIVERY_KEY,
    QUESTION_IDS,
)
from linkage.pseudonyms import ID_BYTES, random_ids
from linkage.sealing import Context, Identity, seal

JOBS = "linkage-jobs"
Bytes2D = npt.NDArray[np.uint8]
_log = structlog.get_logger("linkage.worker")


@dataclass(frozen=True, slots=True)
class Sealable:
    """Something to be sealed to a party. data: the open bytes."""

    recipient: str
    purpose: str
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """
    A party's records in a run. pseudonyms: uint8[N, 16]. persons: int64[N], numbers that are the
    same at every party for one person, and mean nothing outside this job.
    """

    pseudonyms: Bytes2D
    persons: npt.NDArray[np.int64]


class JobMaker:
    """Makes releases, questions and deliveries. identity: the broker's own private keys."""

    def __init__(self, broker: Broker, identity: Identity) -> None:
        self._broker, self._identity = broker, identity

    def run(self, job_id: str) -> None:
        """The workflow of one job."""
        try:
            durable.step("make", self._make, job_id)
        except StepFailed as failed:
            self._fail(job_id, failed.failure)

    def give_up(self, job_id: str, cause: str) -> None:
        """Fail a job whose workflow will give no result any more."""
        self._fail(job_id, f"{cause}. Hint: start it again; the worker's log may say more")

    def _make(self, job_id: str) -> None:
        with self._broker.database.change() as connection:
            row = jobs.find(connection, job_id)
            if row is None or row.state in ("done", "failed"):
                return
            jobs.change(connection, job_id, state="running")
            study, run = _about(connection, row)
        held = held_since(self._broker, self._identity, study, json.loads(run.inputs))
        with self._broker.database.read() as connection:
            members = _members(connection, study, run, held)
        self._place(row, study, _MAKERS[row.kind](row, study, members))

    def _place(self, row: jobs.JobRow, study: RegisteredStudy, made: list[Sealable]) -> None:
        items = [self._sealed(row, study, one) for one in made]
        kept = False
        try:
            with self._broker.database.change() as connection:
                current = jobs.find(connection, row.id)
                if current is None or current.state != "running":
                    return
                for item in items:
                    jobs.add_item(connection, item)
                jobs.change(connection, row.id, state="done", finished_at=int(time.time()))
                audit.record(
                    connection,
                    actor="worker",
                    action=f"{row.kind} made",
                    study_id=row.study_id,
                    subject=row.id,
                    detail={f"digest to {i.recipient} ({i.purpose})": i.digest for i in items},
                )
            kept = True
        finally:
            if not kept:
                for item in items:
                    self._broker.blobs.delete(item.blob_id)

    def _sealed(self, row: jobs.JobRow, study: RegisteredStudy, one: Sealable) -> jobs.ItemRow:
        context = Context(study.id, BROKER, one.recipient, one.purpose, (row.id,))
        recipient = study.pin(one.recipient)
        sealed = seal(one.data, sender=self._identity, recipient=recipient, context=context)
        blob = self._broker.blobs.put(sealed)
        return jobs.ItemRow(
            id=f"item-{secrets.token_hex(8)}",
            study_id=study.id,
            sender=BROKER,
            recipient=one.recipient,
            purpose=one.purpose,
            subject=row.id,
            blob_id=blob.blob_id,
            size=blob.size,
            digest=blob.digest,
            placed_at=int(time.time()),
        )

    def _fail(self, job_id: str, failure: str) -> None:
        with self._broker.database.change() as connection:
            row = jobs.find(connection, job_id)
            if row is None or row.state in ("done", "failed"):
                return
            jobs.change(
                connection, job_id, state="failed", failure=failure, finished_at=int(time.time())
            )
            audit.record(
                connection,
                actor="worker",
                action=f"{row.kind} failed",
                study_id=row.study_id,
                subject=row.id,
            )
        _log.warning("job failed", job=job_id, failure=failure)


def _about(connection: people.Connection, row: jobs.JobRow) -> tuple[RegisteredStudy, runs.RunRow]:
    study = studies.find_study(connection, row.study_id)
    run = runs.find(connection, row.run_id)
    if study is None or run is None or run.sequence is None:
        raise NotFound("the job's run is not finished", hint="start a run, then ask again")
    return RegisteredStudy.of(study), run


def _members(
    connection: people.Connection,
    study: RegisteredStudy,
    run: runs.RunRow,
    held: Mapping[str, Bytes2D],
) -> dict[str, Members]:
    """
    Return by party the records of a run with their persons. held: by uploader, the pseudonyms
    that it still holds, ascending, where it has uploaded or withdrawn anything since.
    """
    found = _records_by_party(connection, study, json.loads(run.inputs), run.sequence or 0, held)
    joined = b"".join(persons for _, persons in found.values())
    _, number = np.unique(np.frombuffer(joined, f"V{ID_BYTES}"), return_inverse=True)
    members, at = {}, 0
    for party, (pseudonyms, persons) in found.items():
        count = len(persons) // ID_BYTES
        names = np.frombuffer(pseudonyms, np.uint8).reshape(-1, ID_BYTES)
        members[party] = Members(names, number[at : at + count].astype(np.int64))
        at += count
    return members


def _records_by_party(
    connection: people.Connection,
    study: RegisteredStudy,
    uploaders: Iterable[str],
    sequence: int,
    held: Mapping[str, Bytes2D],
) -> dict[str, tuple[bytes, bytes]]:
    """
    Return by party the pseudonyms and person IDs of all its uploaders' records, 16 bytes each.

    Who uploads for no party any more, since a later epoch was signed, is left out.
    """
    party_of = {one: p.id for p in study.config.party for one in study.config.uploaders_of(p)}
    found: dict[str, tuple[bytes, bytes]] = {}
    for uploader in uploaders:
        if party := party_of.get(uploader):
            names, persons = people.members_at(connection, study.id, uploader, sequence)
            if uploader in held:
                known, of = (
                    np.frombuffer(one, np.uint8).reshape(-1, 16) for one in (names, persons)
                )
                stays = find_in(as_names(held[uploader]), as_names(known)) >= 0
                names, persons = known[stays].tobytes(), of[stays].tobytes()
            before = found.get(party, (b"", b""))
            found[party] = (before[0] + names, before[1] + persons)
    return found


def _release(
    row: jobs.JobRow, _study: RegisteredStudy, members: Mapping[str, Members]
) -> list[Sealable]:
    audience: list[str] = json.loads(row.request)["audience"]
    made = crosswalks(members, audience, idtables.CROSSWALK, "cross_commons_id")
    return [Sealable(party, CROSSWALK, data) for party, data in made.items()]


def _question(
    _row: jobs.JobRow, study: RegisteredStudy, members: Mapping[str, Members]
) -> list[Sealable]:
    made = crosswalks(members, two_sides(study), idtables.QUESTION_IDS, "question_id")
    return [Sealable(party, QUESTION_IDS, data) for party, data in made.items()]


def _delivery(
    _row: jobs.JobRow, study: RegisteredStudy, members: Mapping[str, Members]
) -> list[Sealable]:
    imaging, enclave = two_sides(study)
    key = secrets.token_bytes(delivery.KEY_BYTES)
    table = delivery_crosswalk(_of(members, imaging), _of(members, enclave), key)
    return [
        Sealable(imaging, DELIVERY_KEY, key),
        Sealable(enclave, DELIVERY_CROSSWALK, idtables.pack(table, idtables.DELIVERY_CROSSWALK)),
    ]


_MAKERS = {"release": _release, "question": _question, "delivery": _delivery}


def crosswalks(
    members: Mapping[str, Members],
    parties: list[str] | tuple[str, ...],
    widths: dict[str, int],
    column: str,
) -> dict[str, bytes]:
    """
    Return by party its table of all its records: one random ID a person, the same at every
    party, in random order. Who has no counterpart gets an ID all the same.
    """
    everyone = np.unique(np.concatenate([_of(members, party).persons for party in parties]))
    drawn = random_ids(len(everyone))
    made = {}
    for party in parties:
        mine = _of(members, party)
        order = random_order(len(mine.persons))
        ids = drawn[np.searchsorted(everyone, mine.persons)]
        columns = {"record_pseudonym": mine.pseudonyms[order], column: ids[order]}
        made[party] = idtables.pack(columns, widths)
    return made


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


def _of(members: Mapping[str, Members], party: str) -> Members:
    """Return the party's records; none where it took no part in the run."""
    nobody = Members(np.zeros((0, ID_BYTES), np.uint8), np.zeros(0, np.int64))
    return members.get(party, nobody)
