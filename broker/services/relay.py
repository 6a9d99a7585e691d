"""
The relay: sealed objects waiting for their recipient. The broker cannot open what parties send
each other; it checks who sealed it, for whom and for what.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from broker import audit
from broker.blobs import Blobs, Receiving
from broker.config import Limits
from broker.policy import Grant
from broker.services import lifecycle, standing
from broker.services.questions import two_sides
from broker.services.quotas import require_room
from broker.services.releases import require_usable
from broker.store import jobs, studies
from broker.store.engine import Connection, Database
from linkage.case_map_names import read_case_map_subject
from linkage.errors import AlreadySent, NotAllowed, NotFound, PackageRefused
from linkage.messages import (
    BROKER,
    CASE_MAP,
    COHORT_REPORT,
    DELIVERY_ROWS,
    PART_BYTES,
    QUESTION_ANSWER,
    QUESTION_COUNTS,
    READER,
    Inbox,
    SealedItem,
)
from linkage.sealing import Context, verify_sealed_stream

RECORDS_PER_CHUNK = 1000
"""Every chunk of a case map but the last holds more records; the names of cases are short."""

RELAYED = {QUESTION_ANSWER: "question", DELIVERY_ROWS: "delivery"}
"""What the imaging party may send to the enclave, and which kind of subject it is about."""

COUNTED = {QUESTION_COUNTS: "question"}
"""Likewise what the enclave may send to the imaging party, and to the question's reader."""

READ = COUNTED | {COHORT_REPORT: "delivery"}
"""Likewise what it may send to the reader."""

COUNTS_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Announced:
    """A sealed object that is about to come."""

    grant: Grant
    recipient: str
    purpose: str
    subject: str
    cap: int


@dataclass(frozen=True, slots=True)
class SharedReport:
    """A sealed report that lies here. shared_at: Unix seconds; digest: SHA-256 of it, sealed."""

    delivery_id: str
    shared_at: int
    digest: str


@dataclass(frozen=True, slots=True)
class Relay:
    """Inboxes and outboxes of the parties."""

    database: Database
    blobs: Blobs
    limits: Limits

    def inbox(self, grant: Grant, *, purpose: str | None, subject: str | None) -> Inbox:
        """Return what is addressed to the calling party."""
        with self.database.read() as connection:
            rows = jobs.items_for(
                connection, grant.study.id, grant.party, purpose=purpose, subject=subject
            )
        return Inbox(items=tuple(_message(row) for row in rows))

    def open(
        self, grant: Grant, item_id: str, asked: range | None = None
    ) -> tuple[SealedItem, Iterator[bytes], range | None]:
        """
        Return one sealed object of the calling party's inbox, in pieces, and which of its bytes
        they are. None: all, as for an `asked` that has none of them. Raises NotFound.
        """
        with self.database.read() as connection:
            row = jobs.find_item(connection, grant.study.id, item_id)
            if row is None or row.recipient != grant.party:
                raise NotFound(
                    "there is no such item in your inbox", hint="GET .../inbox lists them"
                )
            _require_given(connection, grant, row)
        if asked and (span := range(row.size)[asked.start : asked.stop]):
            return _message(row), self.blobs.part(row.blob_id, span), span
        return _message(row), self.blobs.verified(row.blob_id, row.digest), None

    def open_counts(self, grant: Grant, question_id: str) -> tuple[SealedItem, Iterator[bytes]]:
        """Return a question's counts, sealed to its reader, in pieces. Raises NotFound."""
        with self.database.read() as connection:
            row = jobs.find_sent(connection, question_id, READER, QUESTION_COUNTS)
            if row is None or row.study_id != grant.study.id:
                raise NotFound(
                    "there are no counts of this question yet",
                    hint="linkage-cohort status says what it waits for",
                )
        return _message(row), self.blobs.verified(row.blob_id, row.digest)

    def report(self, grant: Grant, question_id: str) -> SharedReport | None:
        """Return what is here of a report of a question's delivery, None where none was shared."""
        with self.database.read() as connection:
            question = standing.existing(connection, grant.study, question_id)
            row = _report(connection, question.id)
        return SharedReport(row.subject, row.placed_at, row.digest) if row else None

    def open_report(self, grant: Grant, question_id: str) -> tuple[SealedItem, Iterator[bytes]]:
        """
        Return the report that the enclave sealed to a question's reader, in pieces.

        Raises NotFound where it shared none; Conflict where the question stands no more.
        """
        with self.database.read() as connection:
            question = standing.existing(connection, grant.study, question_id)
            row = _report(connection, question.id)
            if row is None:
                raise NotFound(
                    "the enclave has shared no report of this question's cohort",
                    hint="its data manager does: linkage-cohort share-report",
                )
            today = dt.datetime.now(dt.UTC).date()
            standing.require_use(connection, question, today=today)
        return _message(row), self.blobs.verified(row.blob_id, row.digest)

    def announce(self, grant: Grant, recipient: str, purpose: str, subject: str) -> Announced:
        """
        Check where a sealed object may go, before its body is read.

        Raises NotAllowed for another recipient or purpose, NotFound for an unknown subject.
        """
        if purpose == CASE_MAP:
            return self._announce_case_map(grant, recipient, subject)
        imaging, enclave = two_sides(grant.study)
        ways = {
            (imaging, enclave): (RELAYED, self.limits.relayed_bytes),
            (enclave, imaging): (COUNTED, COUNTS_BYTES),
            (enclave, READER): (READ, COUNTS_BYTES),
        }
        relayed, cap = ways.get((grant.party, recipient), ({}, 0))
        if purpose not in relayed:
            raise NotAllowed(
                "only answers and rows for the enclave are relayed, the counts and reports that it"
                " makes of them, and contributors' case maps",
                hint=f"recipient {enclave!r}, purpose {' or '.join(RELAYED)}",
            )
        if purpose == DELIVERY_ROWS:
            standing.require_rows(grant.study)
        with self.database.read() as connection:
            about = jobs.find(connection, subject)
            if about is None or about.study_id != grant.study.id or about.kind != relayed[purpose]:
                raise NotFound(
                    f"there is no such {relayed[purpose]} in this study", hint="check the subject"
                )
            question = standing.about(connection, subject)
            if question is not None:
                today = dt.datetime.now(dt.UTC).date()
                standing.require_progress(connection, grant.study, question, today=today)
        return Announced(grant, recipient, purpose, subject, cap)

    def _announce_case_map(self, grant: Grant, recipient: str, subject: str) -> Announced:
        """A contributor names its cases to its own party; nobody else learns them."""
        study, contributor = grant.study, grant.uploader
        own = next((p.id for p in study.config.party if contributor in p.contributors), None)
        if own is None or recipient != own:
            raise NotAllowed(
                "a contributor sends its case map to its own party only",
                hint=f"recipient {own!r}" if own else "the party itself keeps its own map",
            )
        dataset, _, chunks = read_case_map_subject(subject)
        with self.database.read() as connection:
            row = studies.find_dataset(connection, study.id, contributor, dataset)
            sent = jobs.items_for(connection, study.id, own, purpose=CASE_MAP)
        if row is None or row.state in ("abandoned", "withdrawn"):
            raise NotFound(
                f"{contributor!r} has no dataset version {dataset}", hint="upload it first"
            )
        records = int(json.loads(row.manifest)["records"])
        if chunks > 1 + records // RECORDS_PER_CHUNK:
            raise PackageRefused(
                f"{chunks} chunks are too many for the case map of {records} records",
                hint="submit with this version of the software",
            )
        named = [read_case_map_subject(one.subject) for one in sent if one.sender == contributor]
        if any(number == dataset and count != chunks for number, _, count in named):
            raise PackageRefused(
                f"the case map of dataset version {dataset} was begun in another number of chunks",
                hint="tokenize and submit the next dataset version",
            )
        return Announced(grant, recipient, CASE_MAP, subject, 2 * PART_BYTES)

    def take(self, announced: Announced, received: Receiving) -> tuple[SealedItem, bool]:
        """
        Keep a sealed object; return it, and whether it is new. The same again is one.

        Raises PackageRefused where the party did not seal it for exactly this, AlreadySent where
        another one is there already, TooLarge where it passes a quota.
        """
        study, sender = announced.grant.study, announced.grant.party
        context = Context(
            study.id, sender, announced.recipient, announced.purpose, (announced.subject,)
        )
        if not received.size:
            raise PackageRefused("the body is empty", hint="send the sealed object")
        with received.reader() as file:
            verify_sealed_stream(file, sender=study.pin(sender), context=context)
        blob = received.keep()
        row = jobs.ItemRow(
            id=f"item-{secrets.token_hex(8)}",
            study_id=study.id,
            sender=sender,
            recipient=announced.recipient,
            purpose=announced.purpose,
            subject=announced.subject,
            blob_id=blob.blob_id,
            size=blob.size,
            digest=blob.digest,
            placed_at=int(time.time()),
        )
        with self.blobs.unless_kept(blob.blob_id) as fate:
            with self.database.change() as connection:
                lifecycle.require(connection, row.study_id)
                found = jobs.same_item(connection, row)
                if found is None:
                    require_room(connection, self.limits, study, sender, row.size)
                    jobs.add_item(connection, row)
                    audit.record(
                        connection,
                        actor=announced.grant.caller.actor,
                        action=f"relayed: {row.purpose}",
                        study_id=row.study_id,
                        subject=row.subject,
                        detail={"recipient": row.recipient, "digest": row.digest},
                    )
            fate.kept = found is None
        if found and found.digest != row.digest:
            raise AlreadySent(
                f"another {row.purpose} was sent for this subject already",
                hint="the first one stands; a new question or delivery takes a new one",
            )
        return _message(found or row), found is None


def _report(connection: Connection, question_id: str) -> jobs.ItemRow | None:
    delivery = jobs.delivery_of(connection, question_id)
    return jobs.find_sent(connection, delivery.id, READER, COHORT_REPORT) if delivery else None


def _require_given(connection: Connection, grant: Grant, row: jobs.ItemRow) -> None:
    """Raises where what an object belongs to is given out no more; counts stay readable."""
    today = dt.datetime.now(dt.UTC).date()
    if row.purpose == QUESTION_COUNTS:
        return
    if (question := standing.about(connection, row.subject)) is not None:
        standing.require_use(connection, question, today=today)
    if row.sender == BROKER or row.purpose == DELIVERY_ROWS:
        about = jobs.find(connection, row.subject)
        require_usable(connection, grant.study, about, party=grant.party, today=today)


def _message(row: jobs.ItemRow) -> SealedItem:
    return SealedItem(
        item_id=row.id,
        purpose=row.purpose,
        subject=row.subject,
        sender=row.sender,
        recipient=row.recipient,
        size=row.size,
        digest=row.digest,
    )
