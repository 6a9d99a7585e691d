"""Rows of what the worker prepares (releases, questions, deliveries), approvals and the relay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from broker.store.tables import approval, item, job, remark, request_key


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """
    A release, question or delivery; or a look for what withdrawals did to them ("effects"). about:
    of a delivery, its question. request: JSON. number: of a release, by study and audience, once it
    is made. terms: JSON; of a release its `ReleaseTerms`, of a question epoch and hash of the
    signed study. made, checked: broker.effects.
    """

    id: str
    study_id: str
    kind: str
    run_id: str
    about: str | None = None
    request: str
    state: str = "queued"
    failure: str | None = None
    asked_at: int
    finished_at: int | None = None
    number: int | None = None
    terms: str | None = None
    made: str | None = None
    checked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """A sealed object in the relay. subject: the release, question or delivery."""

    id: str
    study_id: str
    sender: str
    recipient: str
    purpose: str
    subject: str
    blob_id: str
    size: int
    digest: str
    placed_at: int


def add(connection: Connection, row: JobRow) -> None:
    """Queue a job."""
    connection.execute(job.insert().values(**_columns(row)))


def add_key(
    connection: Connection, actor: str, key: str, *, request_hash: str, job_id: str, now: int
) -> None:
    """Remember which job an idempotency key made."""
    connection.execute(
        request_key.insert().values(
            actor=actor, key=key, request_hash=request_hash, job_id=job_id, used_at=now
        )
    )


def find_key(connection: Connection, actor: str, key: str) -> tuple[str, str] | None:
    """Return request hash and job of an idempotency key."""
    k = request_key.c
    wanted = select(k.request_hash, k.job_id).where(k.actor == actor, k.key == key)
    found = connection.execute(wanted).first()
    return (found.request_hash, found.job_id) if found else None


def find(connection: Connection, job_id: str) -> JobRow | None:
    """Return a job."""
    found = connection.execute(select(job).where(job.c.id == job_id)).mappings().first()
    return JobRow(**found) if found else None


def of_kind(connection: Connection, study_id: str, kind: str) -> list[JobRow]:
    """Return a study's jobs of one kind, newest first."""
    wanted = select(job).where(job.c.study_id == study_id, job.c.kind == kind)
    ordered = wanted.order_by(job.c.asked_at.desc(), job.c.id)
    return [JobRow(**row) for row in connection.execute(ordered).mappings()]


def delivery_of(connection: Connection, question_id: str) -> JobRow | None:
    """Return the question's delivery that has not failed."""
    wanted = select(job).where(
        job.c.about == question_id, job.c.kind == "delivery", job.c.state != "failed"
    )
    found = connection.execute(wanted).mappings().first()
    return JobRow(**found) if found else None


def unfinished(connection: Connection) -> list[str]:
    """Return the jobs that are queued or running, oldest first."""
    wanted = select(job.c.id).where(job.c.state.in_(("queued", "running")))
    return list(connection.execute(wanted.order_by(job.c.asked_at, job.c.id)).scalars())


def change(connection: Connection, job_id: str, **columns: Any) -> None:
    """Set columns of a job."""
    connection.execute(update(job).where(job.c.id == job_id).values(**columns))


def set_approval(
    connection: Connection, question_id: str, party: str, decision: str, text: str, now: int
) -> None:
    """Store a party's decision about a question or release, in place of an earlier one."""
    values = {"decision": decision, "approval": text, "decided_at": now}
    mine = (approval.c.question_id == question_id) & (approval.c.party == party)
    changed = connection.execute(update(approval).where(mine).values(**values))
    if not changed.rowcount:
        connection.execute(approval.insert().values(question_id=question_id, party=party, **values))


def approvals(connection: Connection, question_id: str) -> dict[str, str]:
    """Return the decisions by party."""
    wanted = select(approval.c.party, approval.c.decision).where(
        approval.c.question_id == question_id
    )
    return {row.party: row.decision for row in connection.execute(wanted)}


def decision_of(connection: Connection, about: str, party: str) -> tuple[str, int] | None:
    """Return a party's decision about a question or release, and when it came, Unix seconds."""
    a = approval.c
    wanted = select(a.decision, a.decided_at).where(a.question_id == about, a.party == party)
    found = connection.execute(wanted).first()
    return (found.decision, found.decided_at) if found else None


def approval_texts(connection: Connection, job_id: str) -> dict[str, str]:
    """Return the decisions by party, as they were signed."""
    wanted = select(approval.c.party, approval.c.approval).where(approval.c.question_id == job_id)
    return {row.party: row.approval for row in connection.execute(wanted)}


def add_remark(
    connection: Connection, question_id: str, number: int, author: str, text: str, now: int
) -> None:
    """Store what was said about a question, as it was signed."""
    values = {"number": number, "author": author, "remark": text, "said_at": now}
    connection.execute(remark.insert().values(question_id=question_id, **values))


def remarks(connection: Connection, question_id: str) -> list[tuple[int, str]]:
    """Return number and text of what was said about a question, in order."""
    wanted = select(remark.c.number, remark.c.remark).where(remark.c.question_id == question_id)
    return [
        (row.number, row.remark) for row in connection.execute(wanted.order_by(remark.c.number))
    ]


def add_item(connection: Connection, row: ItemRow) -> None:
    """Place a sealed object in the relay."""
    connection.execute(item.insert().values(**_columns(row)))


def find_item(connection: Connection, study_id: str, item_id: str) -> ItemRow | None:
    """Return a sealed object of a study."""
    wanted = select(item).where(item.c.study_id == study_id, item.c.id == item_id)
    found = connection.execute(wanted).mappings().first()
    return ItemRow(**found) if found else None


def same_item(connection: Connection, like: ItemRow) -> ItemRow | None:
    """Return the object that already has this sender, recipient, purpose and subject."""
    wanted = select(item).where(
        item.c.study_id == like.study_id,
        item.c.sender == like.sender,
        item.c.recipient == like.recipient,
        item.c.purpose == like.purpose,
        item.c.subject == like.subject,
    )
    found = connection.execute(wanted).mappings().first()
    return ItemRow(**found) if found else None


def find_sent(connection: Connection, subject: str, recipient: str, purpose: str) -> ItemRow | None:
    """Return the object of this purpose about a subject that is addressed to `recipient`."""
    wanted = select(item).where(
        item.c.subject == subject, item.c.recipient == recipient, item.c.purpose == purpose
    )
    found = connection.execute(wanted).mappings().first()
    return ItemRow(**found) if found else None


def items_for(
    connection: Connection,
    study_id: str,
    recipient: str,
    *,
    purpose: str | None = None,
    subject: str | None = None,
) -> list[ItemRow]:
    """Return the sealed objects addressed to a party, oldest first."""
    wanted = select(item).where(item.c.study_id == study_id, item.c.recipient == recipient)
    if purpose:
        wanted = wanted.where(item.c.purpose == purpose)
    if subject:
        wanted = wanted.where(item.c.subject == subject)
    ordered = wanted.order_by(item.c.placed_at, item.c.id)
    return [ItemRow(**row) for row in connection.execute(ordered).mappings()]


def _columns(row: JobRow | ItemRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}
