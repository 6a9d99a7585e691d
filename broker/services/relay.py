"""
The relay: sealed objects waiting for their recipient. The broker cannot open what parties send
each other; it checks who sealed it, for whom and for what.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import BinaryIO

from broker import audit
from broker.blobs import Blobs, Receiving
from broker.config import Limits
from broker.policy import Grant
from broker.services.questions import two_sides
from broker.store import jobs, studies
from broker.store.engine import Database
from linkage.errors import Conflict, NotAllowed, NotFound, PackageRefused
from linkage.messages import (
    CASE_MAP,
    DELIVERY_ROWS,
    PART_BYTES,
    QUESTION_ANSWER,
    Inbox,
    SealedItem,
    read_case_map_subject,
)
from linkage.sealing import Context, verify_sealed_stream

RECORDS_PER_CHUNK = 1000
"""Every chunk of a case map but the last holds more records; the names of cases are short."""

RELAYED = {QUESTION_ANSWER: "question", DELIVERY_ROWS: "delivery"}
"""What the imaging party may send to the enclave, and which kind of subject it is about."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A sealed object that is about to come."""

    grant: Grant
    recipient: str
    purpose: str
    subject: str
    cap: int


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

    def open(self, grant: Grant, item_id: str) -> tuple[SealedItem, BinaryIO]:
        """Return one sealed object of the calling party's inbox. Raises NotFound."""
        with self.database.read() as connection:
            row = jobs.find_item(connection, grant.study.id, item_id)
        if row is None or row.recipient != grant.party:
            raise NotFound("there is no such item in your inbox", hint="GET .../inbox lists them")
        return _message(row), self.blobs.open(row.blob_id)

    def announce(self, grant: Grant, recipient: str, purpose: str, subject: str) -> Announced:
        """
        Check where a sealed object may go, before its body is read.

        Raises NotAllowed for another recipient or purpose, NotFound for an unknown subject.
        """
        if purpose == CASE_MAP:
            return self._announce_case_map(grant, recipient, subject)
        _, enclave = two_sides(grant.study)
        allowed = any(p.id == grant.party and p.kind == "imaging" for p in grant.study.config.party)
        if not allowed or recipient != enclave or purpose not in RELAYED:
            raise NotAllowed(
                "only answers and rows for the enclave are relayed, and contributors' case maps",
                hint=f"recipient {enclave!r}, purpose {' or '.join(RELAYED)}",
            )
        with self.database.read() as connection:
            about = jobs.find(connection, subject)
        if about is None or about.study_id != grant.study.id or about.kind != RELAYED[purpose]:
            raise NotFound(
                f"there is no such {RELAYED[purpose]} in this study", hint="check the subject"
            )
        return Announced(grant, recipient, purpose, subject, self.limits.relayed_bytes)

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

        Raises PackageRefused where the party did not seal it for exactly this, Conflict where
        another one is there already.
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
        kept = False
        try:
            with self.database.change() as connection:
                found = jobs.same_item(connection, row)
                if found is None:
                    jobs.add_item(connection, row)
                    audit.record(
                        connection,
                        actor=announced.grant.caller.actor,
                        action=f"relayed: {row.purpose}",
                        study_id=row.study_id,
                        subject=row.subject,
                        detail={"recipient": row.recipient, "digest": row.digest},
                    )
            kept = found is None
        finally:
            if not kept:
                self.blobs.delete(blob.blob_id)
        if found and found.digest != row.digest:
            raise Conflict(
                f"another {row.purpose} was sent for this subject already",
                hint="the first one stands; a new question or delivery takes a new one",
            )
        return _message(found or row), found is None


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
