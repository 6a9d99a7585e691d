"""What retention rules find: packages, intermediate results, inboxes and proposals by their age."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from broker.store import runs, studies
from broker.store.tables import dataset, intermediate, item, part, past_study, proposal, run, study


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    Something that a clock runs on. subject: a dataset version "uploader/number", a run, an item.
    since: Unix seconds, when its clock began. blobs: how many.
    """

    study_id: str
    subject: str
    since: int
    blobs: int


def packages_of_closed(connection: Connection) -> list[Found]:
    """Return the dataset versions of closed studies whose parts are here."""
    wanted = (
        select(
            part.c.study_id,
            part.c.uploader,
            part.c.dataset,
            study.c.state_since,
            study.c.registered_at,
            func.count().label("blobs"),
        )
        .join(study, study.c.id == part.c.study_id)
        .where(study.c.state == "closed")
        .group_by(
            part.c.study_id,
            part.c.uploader,
            part.c.dataset,
            study.c.state_since,
            study.c.registered_at,
        )
    )
    return [
        Found(
            study_id=row.study_id,
            subject=f"{row.uploader}/{row.dataset}",
            since=row.state_since if row.state_since is not None else row.registered_at,
            blobs=row.blobs,
        )
        for row in connection.execute(wanted)
    ]


def packages_of_old_epochs(connection: Connection) -> list[Found]:
    """Return the dataset versions of epochs that were replaced, whose parts are here."""
    p = past_study.c
    columns = (part.c.study_id, part.c.uploader, part.c.dataset, p.replaced_at)
    wanted = (
        select(*columns, func.count().label("blobs"))
        .join(
            dataset,
            (dataset.c.study_id == part.c.study_id)
            & (dataset.c.uploader == part.c.uploader)
            & (dataset.c.number == part.c.dataset),
        )
        .join(past_study, (p.study_id == dataset.c.study_id) & (p.epoch == dataset.c.epoch))
        .group_by(*columns)
    )
    return [
        Found(
            study_id=row.study_id,
            subject=f"{row.uploader}/{row.dataset}",
            since=row.replaced_at,
            blobs=row.blobs,
        )
        for row in connection.execute(wanted)
    ]


def intermediates(connection: Connection) -> list[Found]:
    """Return the runs that have ended and whose intermediate results are here."""
    columns = (run.c.study_id, run.c.id, run.c.finished_at)
    wanted = (
        select(*columns, func.count().label("blobs"))
        .join(intermediate, intermediate.c.run_id == run.c.id)
        .where(run.c.finished_at.is_not(None))
        .group_by(*columns)
    )
    return [
        Found(study_id=row.study_id, subject=row.id, since=row.finished_at, blobs=row.blobs)
        for row in connection.execute(wanted)
    ]


def inbox(connection: Connection) -> list[Found]:
    """Return the sealed objects in the relay."""
    columns = (item.c.study_id, item.c.id, item.c.placed_at)
    return [
        Found(study_id=row.study_id, subject=row.id, since=row.placed_at, blobs=1)
        for row in connection.execute(select(*columns))
    ]


def proposed(connection: Connection) -> list[Found]:
    """Return what people proposed to parties, whatever became of it."""
    columns = (proposal.c.study_id, proposal.c.id, proposal.c.made_at)
    return [
        Found(study_id=row.study_id, subject=row.id, since=row.made_at, blobs=0)
        for row in connection.execute(select(*columns))
    ]


def drop_package(connection: Connection, study_id: str, subject: str) -> list[str]:
    """Forget a dataset version's parts; return their blobs. It stays known that it was here."""
    uploader, _, number = subject.rpartition("/")
    row = studies.find_dataset(connection, study_id, uploader, int(number))
    if row is None:
        return []
    blobs = studies.drop_parts(connection, row)
    d = dataset.c
    mine = (d.study_id == study_id) & (d.uploader == uploader) & (d.number == int(number))
    state = studies.DESTROYED if row.state == "complete" else "abandoned"
    connection.execute(update(dataset).where(mine).values(state=state))
    return blobs


def drop_intermediates(connection: Connection, _study_id: str, run_id: str) -> list[str]:
    """Forget the intermediate results of a run that has ended; return their blobs."""
    return runs.drop_intermediates(connection, run_id)


def drop_item(connection: Connection, study_id: str, item_id: str) -> list[str]:
    """Forget a sealed object in the relay; return its blob."""
    mine = (item.c.study_id == study_id) & (item.c.id == item_id)
    blobs = list(connection.execute(select(item.c.blob_id).where(mine)).scalars())
    connection.execute(delete(item).where(mine))
    return blobs


def drop_proposal(connection: Connection, study_id: str, proposal_id: str) -> list[str]:
    """Forget what was proposed; it has no blob."""
    mine = (proposal.c.study_id == study_id) & (proposal.c.id == proposal_id)
    connection.execute(delete(proposal).where(mine))
    return []
