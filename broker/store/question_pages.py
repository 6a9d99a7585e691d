"""What a page's questions have: read for all of them at once, not one by one."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from broker.store.jobs import JobRow
from broker.store.tables import affected, approval, item, job, remark


def page(connection: Connection, study_id: str, *, start: int, most: int) -> list[JobRow]:
    """Return `most` questions of a study from the `start`th on, newest first."""
    wanted = select(job).where(job.c.study_id == study_id, job.c.kind == "question")
    ordered = wanted.order_by(job.c.asked_at.desc(), job.c.id).offset(start).limit(most)
    return [JobRow(**row) for row in connection.execute(ordered).mappings()]


def how_many(connection: Connection, study_id: str) -> int:
    """Return how many questions a study has."""
    mine = (job.c.study_id == study_id) & (job.c.kind == "question")
    return connection.execute(select(func.count()).select_from(job).where(mine)).scalar_one()


def decisions(connection: Connection, ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return by question and party the decisions as they were signed."""
    a = approval.c
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(
        select(a.question_id, a.party, a.approval).where(a.question_id.in_(ids))
    ):
        found.setdefault(row.question_id, {})[row.party] = row.approval
    return found


def deliveries(connection: Connection, ids: Collection[str]) -> dict[str, JobRow]:
    """Return by question its newest delivery, one that has not failed before one that has."""
    wanted = select(job).where(job.c.about.in_(ids), job.c.kind == "delivery")
    rows = connection.execute(wanted.order_by(job.c.asked_at, job.c.id)).mappings()
    found: dict[str, JobRow] = {}
    for row in (JobRow(**one) for one in rows):
        before = found.get(row.about or "")
        if before is None or before.state == "failed" or row.state != "failed":
            found[row.about or ""] = row
    return found


def sent(connection: Connection, ids: Collection[str]) -> set[tuple[str, str, str]]:
    """Return subject, purpose and recipient of all that was sent about these."""
    i = item.c
    wanted = select(i.subject, i.purpose, i.recipient).where(i.subject.in_(ids))
    return {(row.subject, row.purpose, row.recipient) for row in connection.execute(wanted)}


def remarks(connection: Connection, ids: Collection[str]) -> dict[str, list[tuple[int, str]]]:
    """Return by question number and text of what was said, in order."""
    r = remark.c
    found: dict[str, list[tuple[int, str]]] = {}
    wanted = select(r.question_id, r.number, r.remark).where(r.question_id.in_(ids))
    for row in connection.execute(wanted.order_by(r.number)):
        found.setdefault(row.question_id, []).append((row.number, row.remark))
    return found


def withdrawn_from(connection: Connection, ids: Collection[str]) -> set[str]:
    """Return those of these deliveries of which records were withdrawn since they were made."""
    a = affected.c
    wanted = select(a.job_id).where(a.job_id.in_(ids)).distinct()
    return set(connection.execute(wanted).scalars())
