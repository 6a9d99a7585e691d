"""
Uploads: a signed manifest first, then its sealed parts in any order, then `complete`.

The server verifies every seal's signature but can open nothing: it has no private key. What is
inside the worker checks soon afterwards (broker.quarantine), and at the start of a run.
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
from broker.services.manifests import check_manifest
from broker.services.quotas import require_room
from broker.services.upload_rules import (
    require_base,
    require_in_use,
    require_same_normalisation,
    require_wanted,
    require_within_declared,
)
from broker.store import runs, studies, uploads
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, NotFound, PackageRefused
from linkage.governance import Withdrawal
from linkage.messages import BROKER, DATASET_PART, DatasetState, Manifest, Part
from linkage.sealing import Context, verify_sealed_stream


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
        the declared size or the parts a quota, and Conflict for a second upload of a version, for a
        version older than the newest, or once the epoch's study key is deactivated.
        """
        study = grant.study
        check_manifest(manifest, study, grant.uploader, self.limits)
        text = manifest.to_json().decode()
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
            bytes=sum(part.size for part in manifest.parts),
        )
        with self.database.change() as connection:
            require_in_use(connection, study, row)
            found = studies.find_dataset(connection, study.id, row.uploader, row.number)
            if found:
                return self._again(connection, found, row), False
            require_same_normalisation(connection, study, row.uploader, manifest)
            require_base(connection, row, manifest)
            require_within_declared(connection, study, manifest)
            abandoned = self._make_room(connection, row)
            require_room(connection, self.limits, study, row.uploader, row.bytes)
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
            require_in_use(connection, grant.study, row)
        require_wanted(row)
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
            if state.state in ("complete", "quarantined"):
                return state
            require_in_use(connection, grant.study, row)
            require_wanted(row)
            if state.missing:
                first = ", ".join(str(n) for n in state.missing[:10])
                raise Conflict(
                    f"{len(state.missing)} parts are missing, first: {first}",
                    hint="upload them, then complete",
                )
            # Another contributor may have completed since this one announced.
            manifest = Manifest.model_validate_json(row.manifest)
            require_within_declared(connection, grant.study, manifest)
            studies.set_dataset_state(connection, row, "complete", completed_at=int(time.time()))
            replaced = _lift_quarantine(connection, row)
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="dataset completed",
                study_id=row.study_id,
                subject=f"{row.uploader}/{row.number}",
                detail={"manifest": row.manifest_hash},
            )
        for blob_id in replaced:
            self.blobs.delete(blob_id)
        return state.model_copy(update={"state": "complete"})

    def all(self, grant: Grant) -> list[studies.DatasetRow]:
        """Return every dataset version of the study, by uploader and number; for the console."""
        with self.database.read() as connection:
            uploaders = uploads.uploaders(connection, grant.study.id)
            rows = [studies.datasets_of(connection, grant.study.id, one) for one in uploaders]
        return [row for some in rows for row in some]

    def recheck(self, grant: Grant, uploader: str, dataset: int | None = None) -> DatasetState:
        """
        Have the worker open a version again, the newest by default, after blobs were restored or
        the software was mended. A quarantine stays until that succeeds; nobody can lift it by hand.

        Of CHANGE_STORAGE. Raises NotFound, or Conflict for what is not complete.
        """
        study_id = grant.study.id
        with self.database.change() as connection:
            newest = studies.newest_dataset(connection, study_id, uploader)
            number = dataset or (newest.number if newest else 1)
            row = _existing(connection, study_id, uploader, number)
            if row.state not in ("complete", "quarantined"):
                raise Conflict(
                    f"dataset version {number} of {uploader!r} is {row.state}",
                    hint="only what has come whole can be opened",
                )
            uploads.set_checked(
                connection, row, state=row.state, quarantine=row.quarantine, checked_at=None
            )
            audit.record(
                connection,
                actor=grant.caller.actor,
                action="dataset to be checked again",
                study_id=study_id,
                subject=f"{uploader}/{number}",
            )
            return _state(connection, row)

    def withdraw(self, grant: Grant, said: Withdrawal) -> list[DatasetState]:
        """
        Take back the uploader's dataset versions up to the newest that it names, and delete their
        parts; return those that were not withdrawn before. A run under way fails; what is released
        stays released. Raises PackageRefused for what is not signed by the uploader's key (a token
        alone is not enough to undo its work), Conflict where it is about another uploader.
        """
        study, blobs = grant.study, list[str]()
        said.verify(study.pin(grant.uploader))
        if (said.study_id, said.uploader) != (study.id, grant.uploader):
            raise Conflict(
                "the withdrawal is about another study or uploader",
                hint="linkage-site withdraw --everything makes the right one",
            )
        with self.database.change() as connection:
            rows = studies.datasets_of(connection, study.id, grant.uploader)
            rows = [r for r in rows if r.state != "withdrawn" and r.number <= said.newest]
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
            if rows:  # the same again must not touch what was computed since
                blobs += _pairs(connection, study.id)
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
        with self.blobs.unless_kept(blob.blob_id) as fate:
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
            fate.kept = kept

    def _again(
        self, connection: Connection, found: studies.DatasetRow, row: studies.DatasetRow
    ) -> DatasetState:
        if found.manifest_hash != row.manifest_hash:
            raise Conflict(
                f"dataset version {row.number} exists with another manifest: second upload of the"
                " same version",
                hint=_tokenize_as(
                    studies.newest_dataset(connection, row.study_id, row.uploader) or row
                ),
            )
        if found.state != "quarantined":
            require_wanted(found)
        return _state(connection, found)

    def _make_room(self, connection: Connection, row: studies.DatasetRow) -> list[str]:
        """Give up an older version that never became complete; return its blobs."""
        newest = studies.newest_dataset(connection, row.study_id, row.uploader)
        if newest is None:
            return []
        if newest.number > row.number:
            raise Conflict(
                f"dataset version {newest.number} is newer than {row.number}",
                hint=_tokenize_as(newest),
            )
        if newest.state != "receiving":
            return []
        studies.set_dataset_state(connection, newest, "abandoned")
        return studies.drop_parts(connection, newest)


def _tokenize_as(newest: studies.DatasetRow) -> str:
    """Return the remedy for a number that is taken; a site that lost its folder counts from 1."""
    return f"tokenize as version {newest.number + 1}: --dataset {newest.number + 1}"


def _lift_quarantine(connection: Connection, row: studies.DatasetRow) -> list[str]:
    """A newer version is complete: give up quarantined ones before it; return their blobs."""
    blobs = []
    for older in studies.datasets_of(connection, row.study_id, row.uploader):
        if older.state == "quarantined" and older.number < row.number:
            blobs += studies.drop_parts(connection, older)
            studies.set_dataset_state(
                connection, older, "abandoned", completed_at=older.completed_at
            )
    return blobs


def _pairs(connection: Connection, study_id: str) -> list[str]:
    """Forget what finished runs of a study kept of their pairs; return the blobs."""
    kept = (runs.REVIEW_CASES, runs.REVIEW_DECISIONS)
    return [
        blob_id
        for row in runs.of_study(connection, study_id)
        if row.state == "done"
        for blob_id in runs.drop_intermediates(connection, row.id, keep=kept)
    ]


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
    if row.state in ("receiving", "abandoned"):
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
            "reason": row.quarantine if row.state == "quarantined" else "",
        }
    )
