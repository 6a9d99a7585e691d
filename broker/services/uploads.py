"""
Uploads: a signed manifest first, then its sealed parts in any order, then `complete`.

The server verifies every seal's signature but can open nothing: it has no private key. What
is inside is checked by the worker, at the start of a run.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace

from broker import audit
from broker.blobs import Blobs, Receiving
from broker.config import Limits
from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services.manifests import check_manifest, require_declared
from broker.store import studies
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, NotFound, PackageRefused
from linkage.messages import BROKER, DATASET_PART, DatasetState, Deactivation, Manifest, Part
from linkage.sealing import Context, verify_sealed_stream

MOST_DELTAS = 50
"""Deltas that may follow one another; the worker opens them all."""


@dataclass(frozen=True, slots=True)
class ExpectedPart:
    """A part that the manifest announces, before its body has come."""

    grant: Grant
    row: studies.DatasetRow
    part: Part
    parts: int


def part_context(study_id: str, uploader: str, dataset: int, part: int, parts: int) -> Context:
    """Return what a dataset part is sealed for."""
    details = (str(dataset), str(part), str(parts))
    return Context(study_id, uploader, BROKER, DATASET_PART, details)


@dataclass(frozen=True, slots=True)
class Uploads:
    """Dataset versions of the uploaders."""

    database: Database
    blobs: Blobs
    limits: Limits

    def announce(self, grant: Grant, manifest: Manifest) -> tuple[DatasetState, bool]:
        """
        Take a manifest; return the version's state, and whether it is new. The same again is one.

        Raises what `check_manifest` raises, TooLarge where the party's contributors together pass
        the declared size, and Conflict for a second upload of a version, for a
        version older than the newest, or once the epoch's study key is deactivated.
        """
        study = grant.study
        check_manifest(manifest, study, grant.uploader, self.limits)
        text = manifest.model_dump_json()
        row = studies.DatasetRow(
            study_id=study.id,
            uploader=grant.uploader,
            number=manifest.dataset,
            epoch=manifest.epoch,
            manifest=text,
            manifest_hash=hashlib.sha256(manifest.signed_bytes()).hexdigest(),
            state="receiving",
            announced_at=int(time.time()),
            completed_at=None,
        )
        with self.database.change() as connection:
            _in_use(connection, study, row)
            found = studies.find_dataset(connection, study.id, row.uploader, row.number)
            if found:
                return self._again(connection, found, row), False
            _same_normalisation(connection, study, row.uploader, manifest)
            _base_is_here(connection, row, manifest)
            _within_declared(connection, study, manifest)
            abandoned = self._make_room(connection, row)
            studies.add_dataset(connection, row)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="dataset announced",
                study_id=study.id,
                subject=f"{row.uploader}/{row.number}",
                detail={"records": manifest.records, "manifest": row.manifest_hash},
            )
            state = _state(connection, row)
        for blob_id in abandoned:
            self.blobs.delete(blob_id)
        return state, True

    def expected_part(self, grant: Grant, dataset: int, number: int) -> ExpectedPart:
        """Return the announced part. Raises NotFound, or Conflict where it cannot come any more."""
        with self.database.read() as connection:
            row = _existing(connection, grant.study.id, grant.uploader, dataset)
            _in_use(connection, grant.study, row)
        _require_wanted(row)
        parts = Manifest.model_validate_json(row.manifest).parts
        if not 1 <= number <= len(parts):
            raise NotFound(f"the manifest announces parts 1 to {len(parts)}", hint="check it")
        return ExpectedPart(grant, row, parts[number - 1], len(parts))

    def take_part(self, expected: ExpectedPart, received: Receiving) -> None:
        """
        Keep a part that is exactly the announced one. Idempotent.

        Raises PackageRefused where it is truncated, altered, or not sealed by the party for this
        study, dataset version and place.
        """
        part, row = expected.part, expected.row
        if received.size < part.size:
            raise PackageRefused(
                f"part {part.number} is truncated: {received.size} of {part.size} bytes",
                hint="send it again",
            )
        if received.digest != part.digest:
            raise PackageRefused(
                f"part {part.number} is not the one in the manifest",
                hint="it was altered on the way; send it again",
            )
        context = part_context(row.study_id, row.uploader, row.number, part.number, expected.parts)
        with received.reader() as file:
            sender = expected.grant.study.pin(row.uploader)
            verify_sealed_stream(file, sender=sender, context=context)
        with self.database.read() as connection:
            if studies.part_blob(connection, row, part.number):
                return
        self._keep(expected, received)

    def complete(self, grant: Grant, dataset: int) -> DatasetState:
        """Confirm that every part has come. Raises Conflict naming those that have not."""
        with self.database.change() as connection:
            row = _existing(connection, grant.study.id, grant.uploader, dataset)
            state = _state(connection, row)
            if state.state == "complete":
                return state
            _in_use(connection, grant.study, row)
            _require_wanted(row)
            if state.missing:
                first = ", ".join(str(n) for n in state.missing[:10])
                raise Conflict(
                    f"{len(state.missing)} parts are missing, first: {first}",
                    hint="upload them, then complete",
                )
            # Another contributor may have completed since this one announced.
            manifest = Manifest.model_validate_json(row.manifest)
            _within_declared(connection, grant.study, manifest)
            studies.set_dataset_state(connection, row, "complete", completed_at=int(time.time()))
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="dataset completed",
                study_id=row.study_id,
                subject=f"{row.uploader}/{row.number}",
                detail={"manifest": row.manifest_hash},
            )
        return state.model_copy(update={"state": "complete"})

    def withdraw(self, grant: Grant) -> list[DatasetState]:
        """
        Take back every dataset version of the uploader and delete its parts; return those that
        were not withdrawn before. A run under way fails; what is released stays released.
        """
        study, blobs = grant.study, list[str]()
        with self.database.change() as connection:
            rows = studies.datasets_of(connection, study.id, grant.uploader)
            rows = [row for row in rows if row.state != "withdrawn"]
            for row in rows:
                blobs += studies.drop_parts(connection, row)
                studies.set_dataset_state(
                    connection, row, "withdrawn", completed_at=row.completed_at
                )
                audit.record(
                    connection,
                    actor=grant.caller.actor,
                    action="dataset withdrawn",
                    study_id=study.id,
                    subject=f"{row.uploader}/{row.number}",
                )
            states = [_state(connection, replace(row, state="withdrawn")) for row in rows]
        for blob_id in blobs:
            self.blobs.delete(blob_id)
        return states

    def state(self, grant: Grant, uploader: str, dataset: int) -> DatasetState:
        """Return how much of a dataset version has come. Raises NotFound."""
        with self.database.read() as connection:
            return _state(connection, _existing(connection, grant.study.id, uploader, dataset))

    def _keep(self, expected: ExpectedPart, received: Receiving) -> None:
        blob = received.keep()
        try:
            with self.database.change() as connection:
                row = _existing(
                    connection, expected.row.study_id, expected.row.uploader, expected.row.number
                )
                kept = row.state == "receiving" and not studies.part_blob(
                    connection, row, expected.part.number
                )
                if kept:
                    studies.add_part(connection, row, expected.part.number, blob.blob_id)
                    audit.record(
                        connection,
                        actor=expected.grant.caller.actor,
                        action="part received",
                        study_id=row.study_id,
                        subject=f"{row.uploader}/{row.number}/{expected.part.number}",
                        detail={"digest": blob.digest},
                    )
        except BaseException:
            self.blobs.delete(blob.blob_id)
            raise
        if not kept:
            self.blobs.delete(blob.blob_id)

    def _again(
        self, connection: Connection, found: studies.DatasetRow, row: studies.DatasetRow
    ) -> DatasetState:
        if found.manifest_hash != row.manifest_hash:
            raise Conflict(
                f"dataset version {row.number} exists with another manifest: second upload of the"
                " same version",
                hint="tokenize with the next version number",
            )
        _require_wanted(found)
        return _state(connection, found)

    def _make_room(self, connection: Connection, row: studies.DatasetRow) -> list[str]:
        """Give up an older version that never became complete; return its blobs."""
        newest = studies.newest_dataset(connection, row.study_id, row.uploader)
        if newest is None:
            return []
        if newest.number > row.number:
            raise Conflict(
                f"dataset version {newest.number} is newer than {row.number}",
                hint=f"tokenize as version {newest.number + 1}: --dataset {newest.number + 1}",
            )
        if newest.state != "receiving":
            return []
        studies.set_dataset_state(connection, newest, "abandoned")
        return studies.drop_parts(connection, newest)


def _in_use(connection: Connection, study: RegisteredStudy, row: studies.DatasetRow) -> None:
    """Raises Conflict where the dataset's epoch is over or its study key deactivated."""
    epoch = study.config.study.epoch
    if row.epoch != epoch:
        raise Conflict(
            f"dataset version {row.number} is of epoch {row.epoch}, the study of {epoch}",
            hint="take the newest signed study and key from the custodian, tokenize again",
        )
    require_key_in_use(connection, study)


def require_key_in_use(connection: Connection, study: RegisteredStudy) -> None:
    """Raises Conflict where the study key of the study's epoch is deactivated."""
    epoch = study.config.study.epoch
    notice = studies.find_deactivation(connection, study.id, epoch)
    if notice:
        said = Deactivation.model_validate_json(notice).said
        raise Conflict(
            f"the study key of epoch {epoch} was deactivated {said}",
            hint="ask the custodian for the next epoch's signed study and key",
        )


def _same_normalisation(
    connection: Connection, study: RegisteredStudy, uploader: str, manifest: Manifest
) -> None:
    """For studies signed before they named the version: whoever came first has set it."""
    if study.signed.normalisation:
        return
    epoch = study.config.study.epoch
    for other in study.config.uploaders:
        row = studies.newest_dataset(connection, study.id, other, state="complete", epoch=epoch)
        if other == uploader or row is None:
            continue
        if json.loads(row.manifest)["normalisation"] != manifest.normalisation:
            raise Conflict(
                f"the normalisation version differs from that of {other!r}; the same person"
                " would not match",
                hint="all parties tokenize with the same software version",
            )


def _within_declared(connection: Connection, study: RegisteredStudy, manifest: Manifest) -> None:
    """All newest complete versions of a party's contributors count together; TooLarge."""
    elsewhere = {}
    for other in study.config.uploaders_of(study.config.party_named(manifest.party)):
        row = studies.newest_dataset(
            connection, study.id, other, state="complete", epoch=manifest.epoch
        )
        if row is not None and other != manifest.uploader:
            elsewhere[other] = Manifest.model_validate_json(row.manifest).records
    require_declared(manifest, study, elsewhere=elsewhere)


def _base_is_here(connection: Connection, row: studies.DatasetRow, manifest: Manifest) -> None:
    """A delta needs the complete version that it changes, and not too many deltas before it."""
    number, deltas = manifest.base, 0
    while number:
        base = studies.find_dataset(connection, row.study_id, row.uploader, number)
        if base is None or base.state != "complete" or base.epoch != row.epoch:
            raise Conflict(
                f"the broker has no complete dataset version {number} of this epoch for the delta",
                hint=f"submit version {number} first, or tokenize again without --delta",
            )
        number, deltas = Manifest.model_validate_json(base.manifest).base, deltas + 1
        if deltas > MOST_DELTAS:
            raise Conflict(
                f"more than {MOST_DELTAS} deltas follow one another",
                hint="tokenize again without --delta",
            )


def _require_wanted(row: studies.DatasetRow) -> None:
    """Raises Conflict for a version that a newer one replaced, or that was withdrawn."""
    if row.state == "abandoned":
        raise Conflict("a newer dataset version replaced this one", hint="upload the newer one")
    if row.state == "withdrawn":
        raise Conflict(
            f"dataset version {row.number} was withdrawn",
            hint="tokenize again; that makes the next version",
        )


def _existing(
    connection: Connection, study_id: str, uploader: str, dataset: int
) -> studies.DatasetRow:
    row = studies.find_dataset(connection, study_id, uploader, dataset)
    if row is None:
        raise NotFound(
            f"{uploader!r} has no dataset version {dataset}", hint="send its manifest first"
        )
    return row


def _state(connection: Connection, row: studies.DatasetRow) -> DatasetState:
    missing: tuple[int, ...] = ()
    if row.state not in ("complete", "withdrawn"):
        there = studies.part_blobs(connection, row)
        announced = len(json.loads(row.manifest)["parts"])
        missing = tuple(n for n in range(1, announced + 1) if n not in there)
    return DatasetState.model_validate(
        {
            "study_id": row.study_id,
            "uploader": row.uploader,
            "dataset": row.number,
            "state": "receiving" if row.state == "abandoned" else row.state,
            "missing": missing,
        }
    )
