"""
What the worker prepares from a finished run: releases, questions and deliveries; and what
withdrawals did to them (broker.effects).

Each is one step. Everything random in it is drawn anew if it is repeated after a crash, and
becomes visible in one transaction: whole or not at all.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import structlog

from broker import audit, durable
from broker.container import Broker
from broker.crosswalks import (
    Members,
    crosswalks,
    delivery_crosswalk,
    draw_ids,
    link_methods,
    of_party,
)
from broker.durable import StepFailed
from broker.effects import EffectsMaker, Made
from broker.registered import RegisteredStudy
from broker.services import agreements, standing, uses
from broker.services.consents import require_consents
from broker.services.questions import two_sides
from broker.services.releases import require_within_study
from broker.store import jobs, links, people, releases, runs, studies
from broker.withdrawn import held_since
from linkage import delivery, idtables
from linkage.errors import NotFound
from linkage.matching.identity import as_names, find_in
from linkage.messages import (
    BROKER,
    CROSSWALK,
    DELIVERY_CROSSWALK,
    DELIVERY_KEY,
    LINK_METHODS,
    QUESTION_IDS,
)
from linkage.pseudonyms import ID_BYTES
from linkage.records import Bytes2D
from linkage.sealing import Context, KeyHolder, seal

JOBS = "linkage-jobs"
_log = structlog.get_logger("linkage.worker")


@dataclass(frozen=True, slots=True)
class Sealable:
    """Something to be sealed to a party. data: the open bytes."""

    recipient: str
    purpose: str
    data: bytes


class JobMaker:
    """
    Makes releases, questions and deliveries, and finds out what withdrawals did to them. identity:
    the broker's own private keys.
    """

    def __init__(self, broker: Broker, identity: KeyHolder) -> None:
        self._broker, self._identity = broker, identity
        self._effects = EffectsMaker(broker, identity)

    def tend(self) -> None:
        """Queue what nobody asks for: a look at what withdrawals did."""
        self._effects.tend()

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
            # Taken first: what comes while the datasets are opened is looked at again.
            mark = releases.mark(connection, study.id)
        if row.kind == releases.EFFECTS:
            self._effects.make(row)
            return
        today = dt.datetime.now(dt.UTC).date()
        with self._broker.database.read() as connection:
            require_within_study(study, row)
            require_consents(connection, study, row)
            uses.require_job(connection, study, row, today=today)
            _require_standing(connection, study, row, today=today)
        held = held_since(self._broker, self._identity, study, json.loads(run.inputs))
        left_out: dict[str, bytes | None] = {}
        with self._broker.database.read() as connection:
            members = _members(connection, study, run, held, left_out)
            why = _links(connection, row, run)
        made = _MAKERS[row.kind](row, study, members, why)
        parties = releases.audience_of(row) if row.kind == "release" else two_sides(study)
        counts = {party: len(of_party(members, party).persons) for party in parties}
        row = replace(row, made=Made(counts, left_out).to_json(), checked=mark)
        self._place(row, study, made)

    def _place(self, row: jobs.JobRow, study: RegisteredStudy, made: list[Sealable]) -> None:
        items = [self._sealed(row, study, one) for one in made]
        with self._broker.blobs.unless_kept(*(item.blob_id for item in items)) as fate:
            with self._broker.database.change() as connection:
                current = jobs.find(connection, row.id)
                if current is None or current.state != "running":
                    return
                uses.require_job(connection, study, row, today=agreements.utc_today())
                _require_standing(connection, study, row, today=agreements.utc_today())
                for item in items:
                    jobs.add_item(connection, item)
                number = releases.next_number(connection, row) if row.kind == "release" else None
                jobs.change(
                    connection,
                    row.id,
                    state="done",
                    finished_at=int(time.time()),
                    number=number,
                    made=row.made,
                    checked=row.checked,
                )
                audit.record(
                    connection,
                    actor="worker",
                    action=f"{row.kind} made",
                    study_id=row.study_id,
                    subject=row.id,
                    detail={f"digest to {i.recipient} ({i.purpose})": i.digest for i in items},
                )
            fate.kept = True

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


def _require_standing(
    connection: people.Connection, study: RegisteredStudy, row: jobs.JobRow, *, today: dt.date
) -> None:
    """Raises where the question of a delivery stands no more, or rows may not go any more."""
    if row.kind != "delivery":
        return
    standing.require_rows(study)
    if (question := standing.about(connection, row.id)) is not None:
        standing.require_progress(connection, study, question, today=today)


def _members(
    connection: people.Connection,
    study: RegisteredStudy,
    run: runs.RunRow,
    held: Mapping[str, Bytes2D],
    left_out: dict[str, bytes | None],
) -> dict[str, Members]:
    """
    Return by party the records of a run with their persons. held: by uploader, the pseudonyms
    that it still holds, ascending, where it has uploaded or withdrawn anything since. left_out:
    gets by uploader the pseudonyms that are withdrawn; None: all.
    """
    found = _records_by_party(
        connection, study, json.loads(run.inputs), run.sequence or 0, held, left_out
    )
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
    left_out: dict[str, bytes | None],
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
                if not stays.all():
                    left_out[uploader] = known[~stays].tobytes() if stays.any() else None
            before = found.get(party, (b"", b""))
            found[party] = (before[0] + names, before[1] + persons)
    return found


def _links(
    connection: people.Connection, row: jobs.JobRow, run: runs.RunRow
) -> links.LinkRows | None:
    """Return the links that held after the run where the release says how IDs were linked."""
    if not json.loads(row.request).get("methods"):
        return None
    return links.held_at(connection, row.study_id, run.sequence or 0)


def _release(
    row: jobs.JobRow,
    _study: RegisteredStudy,
    members: Mapping[str, Members],
    why: links.LinkRows | None,
) -> list[Sealable]:
    audience = releases.audience_of(row)
    drawn = draw_ids(members, audience)
    made = crosswalks(members, audience, idtables.CROSSWALK, "cross_commons_id", drawn)
    sealable = [Sealable(party, CROSSWALK, data) for party, data in made.items()]
    if why is not None:
        # Never for several: `audience_of` in broker.services.releases.
        (enclave,) = audience
        table = link_methods(why, members, enclave, drawn)
        sealable.append(
            Sealable(enclave, LINK_METHODS, idtables.pack(table, idtables.LINK_METHODS))
        )
    return sealable


def _question(
    _row: jobs.JobRow,
    study: RegisteredStudy,
    members: Mapping[str, Members],
    _why: links.LinkRows | None,
) -> list[Sealable]:
    made = crosswalks(members, two_sides(study), idtables.QUESTION_IDS, "question_id")
    return [Sealable(party, QUESTION_IDS, data) for party, data in made.items()]


def _delivery(
    _row: jobs.JobRow,
    study: RegisteredStudy,
    members: Mapping[str, Members],
    _why: links.LinkRows | None,
) -> list[Sealable]:
    imaging, enclave = two_sides(study)
    key = secrets.token_bytes(delivery.KEY_BYTES)
    table = delivery_crosswalk(of_party(members, imaging), of_party(members, enclave), key)
    return [
        Sealable(imaging, DELIVERY_KEY, key),
        Sealable(enclave, DELIVERY_CROSSWALK, idtables.pack(table, idtables.DELIVERY_CROSSWALK)),
    ]


_MAKERS = {"release": _release, "question": _question, "delivery": _delivery}
