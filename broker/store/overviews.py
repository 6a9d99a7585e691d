"""What waits in a study, in few queries: for the pages that begin with it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, func, select

from broker.store.jobs import JobRow
from broker.store.tables import approval, dataset, job, review


def newest_upload(connection: Connection, study_id: str, epoch: int) -> int | None:
    """Return when the newest dataset version of an epoch became complete."""
    d = dataset.c
    wanted = select(func.max(d.completed_at)).where(
        d.study_id == study_id, d.epoch == epoch, d.state == "complete"
    )
    return connection.execute(wanted).scalar()


def of_state(connection: Connection, study_id: str, kind: str, state: str) -> list[JobRow]:
    """Return a study's jobs of one kind in one state, oldest first; without what they made."""
    j = job.c
    wanted = _light().where(j.study_id == study_id, j.kind == kind, j.state == state)
    ordered = connection.execute(wanted.order_by(j.asked_at, j.id)).mappings()
    return [JobRow(**row) for row in ordered]


def newest_of_kind(connection: Connection, study_id: str, kind: str) -> list[JobRow]:
    """Return a study's jobs of one kind, newest first; without what they made."""
    wanted = _light().where(job.c.study_id == study_id, job.c.kind == kind)
    ordered = connection.execute(wanted.order_by(job.c.asked_at.desc(), job.c.id)).mappings()
    return [JobRow(**row) for row in ordered]


def undecided(connection: Connection, study_id: str, party: str) -> list[JobRow]:
    """
    Return the study's questions that this party has not decided about, and that nobody has denied
    or taken back, oldest first.
    """
    j, a = job.c, approval.c
    mine = select(a.question_id).where(a.party == party)
    ended = select(a.question_id).where(a.decision.in_(("deny", "revoke")))
    wanted = _light().where(
        j.study_id == study_id,
        j.kind == "question",
        j.state != "failed",
        j.id.not_in(mine),
        j.id.not_in(ended),
    )
    ordered = connection.execute(wanted.order_by(j.asked_at, j.id)).mappings()
    return [JobRow(**row) for row in ordered]


def open_reviews(connection: Connection, study_id: str) -> list[str]:
    """Return the runs of which people review pairs now, oldest first."""
    r = review.c
    wanted = select(r.run_id).where(r.study_id == study_id, r.state == "open")
    return list(connection.execute(wanted.order_by(r.opened_at, r.run_id)).scalars())


def _light() -> Select[Any]:
    """Of a job all but what it made, which may be as long as what was withdrawn."""
    return select(*(column for column in job.c if column.name != "made"))
