"""Rows of studies, dataset versions and their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, select, update

from broker.store.tables import dataset, deactivation, part, past_study, study

DESTROYED = "destroyed"
"""State of a dataset version whose parts a retention rule has deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """
    A registered study. signed: JSON of the SignedStudy. state: of its life cycle
    (broker.services.lifecycle), since state_since; state_before: what it was when it was closed.
    """

    id: str
    study_hash: str
    signed: str
    registered_at: int
    state: str = "open"
    state_since: int | None = None
    state_before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """
    A dataset version. state: receiving, complete, quarantined, abandoned or withdrawn.
    manifest: JSON. bytes: of all parts. checked_at: when the worker opened it. quarantine: why.
    """

    study_id: str
    uploader: str
    number: int
    epoch: int
    manifest: str
    manifest_hash: str
    state: str
    announced_at: int
    completed_at: int | None
    bytes: int = 0
    checked_at: int | None = None
    quarantine: str = ""


def add_study(connection: Connection, row: StudyRow) -> None:
    """Register a study."""
    connection.execute(
        study.insert().values(
            id=row.id,
            study_hash=row.study_hash,
            signed=row.signed,
            registered_at=row.registered_at,
            state=row.state,
            state_since=row.state_since,
        )
    )


def find_study(connection: Connection, study_id: str) -> StudyRow | None:
    """Return a study."""
    found = connection.execute(select(study).where(study.c.id == study_id)).mappings().first()
    return StudyRow(**found) if found else None


def all_studies(connection: Connection) -> list[StudyRow]:
    """Return every study, by id."""
    found = connection.execute(select(study).order_by(study.c.id)).mappings()
    return [StudyRow(**row) for row in found]


def replace_study(connection: Connection, row: StudyRow, old: StudyRow, old_epoch: int) -> None:
    """Register a study's next epoch, and keep what held before."""
    connection.execute(
        past_study.insert().values(
            study_id=old.id,
            epoch=old_epoch,
            study_hash=old.study_hash,
            signed=old.signed,
            registered_at=old.registered_at,
            replaced_at=row.registered_at,
        )
    )
    connection.execute(
        update(study)
        .where(study.c.id == row.id)
        .values(
            study_hash=row.study_hash,
            signed=row.signed,
            registered_at=row.registered_at,
            state=row.state,
            state_since=row.state_since,
        )
    )


def set_state(
    connection: Connection, study_id: str, state: str, now: int, *, before: str | None = None
) -> None:
    """Change where a study is in its life cycle."""
    columns = {"state": state, "state_since": now, "state_before": before}
    connection.execute(update(study).where(study.c.id == study_id).values(**columns))


def find_study_at(connection: Connection, study_id: str, epoch: int) -> StudyRow | None:
    """Return a study as it was in an epoch that is over, else as it is."""
    p = past_study.c
    columns = (p.study_id.label("id"), p.study_hash, p.signed, p.registered_at)
    wanted = select(*columns).where(p.study_id == study_id, p.epoch == epoch)
    found = connection.execute(wanted).mappings().first()
    return StudyRow(**found) if found else find_study(connection, study_id)


def add_deactivation(
    connection: Connection, study_id: str, epoch: int, notice: str, now: int
) -> None:
    """Keep the custodian's notice that an epoch's study key is out of use."""
    connection.execute(
        deactivation.insert().values(
            study_id=study_id, epoch=epoch, notice=notice, registered_at=now
        )
    )


def find_deactivation(connection: Connection, study_id: str, epoch: int) -> str | None:
    """Return the notice, JSON, that an epoch's study key is out of use; None while it is in use."""
    mine = (deactivation.c.study_id == study_id) & (deactivation.c.epoch == epoch)
    return connection.execute(select(deactivation.c.notice).where(mine)).scalar()


def add_dataset(connection: Connection, row: DatasetRow) -> None:
    """Announce a dataset version."""
    connection.execute(
        dataset.insert().values(
            study_id=row.study_id,
            uploader=row.uploader,
            number=row.number,
            epoch=row.epoch,
            manifest=row.manifest,
            manifest_hash=row.manifest_hash,
            state=row.state,
            announced_at=row.announced_at,
            bytes=row.bytes,
        )
    )


def find_dataset(
    connection: Connection, study_id: str, uploader: str, number: int
) -> DatasetRow | None:
    """Return a dataset version."""
    found = connection.execute(_datasets(study_id, uploader).where(dataset.c.number == number))
    return next((DatasetRow(**row) for row in found.mappings()), None)


def newest_dataset(
    connection: Connection,
    study_id: str,
    uploader: str,
    *,
    state: str | None = None,
    epoch: int | None = None,
) -> DatasetRow | None:
    """Return the uploader's newest dataset version, of one state and one epoch if given."""
    wanted = _datasets(study_id, uploader).order_by(dataset.c.number.desc()).limit(1)
    if state:
        wanted = wanted.where(dataset.c.state == state)
    if epoch:
        wanted = wanted.where(dataset.c.epoch == epoch)
    return next((DatasetRow(**row) for row in connection.execute(wanted).mappings()), None)


def newest_numbers(connection: Connection, study_id: str) -> dict[tuple[str, str, int], int]:
    """Return the number of the newest dataset version by uploader, state and epoch."""
    d = dataset.c
    wanted = select(d.uploader, d.state, d.epoch, func.max(d.number)).where(d.study_id == study_id)
    found = connection.execute(wanted.group_by(d.uploader, d.state, d.epoch))
    return {(uploader, state, epoch): number for uploader, state, epoch, number in found}


def newest_held(connection: Connection, study_id: str, uploader: str) -> DatasetRow | None:
    """Return the uploader's newest version that is complete, or was until retention deleted it."""
    wanted = _datasets(study_id, uploader).where(dataset.c.state.in_(("complete", DESTROYED)))
    ordered = wanted.order_by(dataset.c.number.desc()).limit(1)
    return next((DatasetRow(**row) for row in connection.execute(ordered).mappings()), None)


def datasets_of(connection: Connection, study_id: str, uploader: str) -> list[DatasetRow]:
    """Return the uploader's dataset versions, oldest first."""
    wanted = _datasets(study_id, uploader).order_by(dataset.c.number)
    return [DatasetRow(**row) for row in connection.execute(wanted).mappings()]


def newest_datasets(
    connection: Connection, study_id: str, uploader: str, most: int
) -> list[DatasetRow]:
    """Return the uploader's newest dataset versions, newest first."""
    wanted = _datasets(study_id, uploader).order_by(dataset.c.number.desc()).limit(most)
    return [DatasetRow(**row) for row in connection.execute(wanted).mappings()]


def every_dataset(connection: Connection, study_id: str) -> list[DatasetRow]:
    """Return every dataset version of the study, by uploader and number."""
    wanted = select(dataset).where(dataset.c.study_id == study_id)
    ordered = wanted.order_by(dataset.c.uploader, dataset.c.number)
    return [DatasetRow(**row) for row in connection.execute(ordered).mappings()]


def set_dataset_state(
    connection: Connection, row: DatasetRow, state: str, *, completed_at: int | None = None
) -> None:
    """Change the state of a dataset version."""
    connection.execute(
        update(dataset)
        .where(
            dataset.c.study_id == row.study_id,
            dataset.c.uploader == row.uploader,
            dataset.c.number == row.number,
        )
        .values(state=state, completed_at=completed_at)
    )


def add_part(connection: Connection, row: DatasetRow, number: int, blob_id: str) -> None:
    """Store that a part has come."""
    connection.execute(
        part.insert().values(
            study_id=row.study_id,
            uploader=row.uploader,
            dataset=row.number,
            number=number,
            blob_id=blob_id,
        )
    )


def part_blobs(connection: Connection, row: DatasetRow) -> dict[int, str]:
    """Return the blobs of the parts that have come, by part number."""
    wanted = select(part.c.number, part.c.blob_id).where(_parts_of(row)).order_by(part.c.number)
    return {row.number: row.blob_id for row in connection.execute(wanted)}


def part_blob(connection: Connection, row: DatasetRow, number: int) -> str | None:
    """Return the blob of one part, None if it has not come."""
    wanted = select(part.c.blob_id).where(_parts_of(row), part.c.number == number)
    return connection.execute(wanted).scalar()


def drop_parts(connection: Connection, row: DatasetRow) -> list[str]:
    """Forget the parts of a version of no use; return their blobs, to be deleted."""
    blobs = list(part_blobs(connection, row).values())
    connection.execute(delete(part).where(_parts_of(row)))
    return blobs


def _datasets(study_id: str, uploader: str) -> Select[Any]:
    return select(dataset).where(dataset.c.study_id == study_id, dataset.c.uploader == uploader)


def _parts_of(row: DatasetRow) -> ColumnElement[bool]:
    return (
        (part.c.study_id == row.study_id)
        & (part.c.uploader == row.uploader)
        & (part.c.dataset == row.number)
    )
