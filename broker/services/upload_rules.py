"""What this broker's records must say before an upload begins or goes on."""

from __future__ import annotations

import json

from broker.registered import RegisteredStudy
from broker.services import agreements, lifecycle
from broker.services.manifests import require_declared
from broker.store import studies
from broker.store.engine import Connection
from linkage.errors import Conflict
from linkage.messages import Deactivation, Manifest

MOST_DELTAS = 50
"""Deltas that may follow one another; the worker opens them all."""


def require_in_use(connection: Connection, study: RegisteredStudy, row: studies.DatasetRow) -> None:
    """
    Raises Conflict where the dataset's epoch is over or its study key deactivated, or the study was
    closed meanwhile; NotAllowed where the party's agreement has ended.
    """
    lifecycle.require(connection, study.id)
    party = study.config.party_of_uploader(row.uploader).id
    agreements.require_in_force(study.config, [party], today=agreements.utc_today())
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


def require_same_normalisation(
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


def require_within_declared(
    connection: Connection, study: RegisteredStudy, manifest: Manifest
) -> None:
    """All newest complete versions of a party's contributors count together; TooLarge."""
    elsewhere = {}
    for other in study.config.uploaders_of(study.config.party_named(manifest.party)):
        row = studies.newest_dataset(
            connection, study.id, other, state="complete", epoch=manifest.epoch
        )
        if row is not None and other != manifest.uploader:
            elsewhere[other] = Manifest.model_validate_json(row.manifest).records
    require_declared(manifest, study, elsewhere=elsewhere)


def require_base(connection: Connection, row: studies.DatasetRow, manifest: Manifest) -> None:
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


def require_wanted(row: studies.DatasetRow) -> None:
    """Raises Conflict for a version that is replaced, withdrawn or in quarantine."""
    if row.state == "quarantined":
        raise Conflict(
            f"dataset version {row.number} is in quarantine: {row.quarantine}",
            hint="tokenize again; that makes the next version",
        )
    if row.state == "abandoned":
        raise Conflict("a newer dataset version replaced this one", hint="upload the newer one")
    if row.state == studies.DESTROYED:
        raise Conflict(
            f"dataset version {row.number} was kept as long as the study allows, and deleted",
            hint="tokenize again; that makes the next version",
        )
    if row.state == "withdrawn":
        raise Conflict(
            f"dataset version {row.number} was withdrawn",
            hint="tokenize again; that makes the next version",
        )
