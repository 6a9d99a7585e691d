"""
Does a question still stand? Asked whenever something is answered, ordered, made, sent or fetched
that belongs to it: what was agreed to ends by itself, and may be taken back.

It falls with the first party that denies it or revokes its approval, and after the earliest last
day among the question's own and those of the approvals. It is also bound to the signed study under
which it was asked: after the next epoch it is neither answered nor delivered. What was delivered
whole before then stays.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from broker.registered import RegisteredStudy
from broker.store import jobs, question_pages, releases
from broker.store.engine import Connection
from linkage.errors import Conflict, NotAllowed, NotFound
from linkage.messages import Approval, QuestionRequest

_ANEW = "ask it anew: linkage-cohort request"


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a question stands no more, and what to do."""

    reason: str
    hint: str


def existing(connection: Connection, study: RegisteredStudy, question_id: str) -> jobs.JobRow:
    """Return a question of the study. Raises NotFound."""
    row = jobs.find(connection, question_id)
    if row is None or row.study_id != study.id or row.kind != "question":
        raise NotFound(
            "there is no such question in this study", hint="linkage-cohort status lists them"
        )
    return row


def decisions_of(connection: Connection, question_id: str) -> dict[str, Approval]:
    """Return the signed decisions by party; text that is none counts for none."""
    return decisions_in(jobs.approval_texts(connection, question_id))


def decisions_in(texts: dict[str, str]) -> dict[str, Approval]:
    """Return the same of texts that were read already."""
    found = {}
    for party, text in texts.items():
        with suppress(ValidationError):
            found[party] = Approval.model_validate_json(text)
    return found


def last_day(row: jobs.JobRow, decisions: dict[str, Approval]) -> str:
    """Return the earliest last day of a question and its approvals, "" where there is none."""
    asked = QuestionRequest.model_validate_json(row.request).expires
    days = [asked, *(one.expires for one in decisions.values() if one.decision == "approve")]
    return min((day for day in days if day), default="")


def stopped(connection: Connection, row: jobs.JobRow, *, today: dt.date) -> Stop | None:
    """Return why a question may be used by nobody any more, None while it may."""
    decisions = decisions_of(connection, row.id)
    delivery = jobs.delivery_of(connection, row.id)
    withdrawn = delivery and releases.affected_of(connection, delivery.id)
    return stop_of(row, decisions, delivery.id if delivery and withdrawn else "", today=today)


def withdrawn_of(connection: Connection, deliveries: Mapping[str, jobs.JobRow]) -> dict[str, str]:
    """
    Return by question its delivery of which records were withdrawn since; a failed one delivered
    none. deliveries: by question. For `stop_of`, of many at once.
    """
    made = {question: one.id for question, one in deliveries.items() if one.state != "failed"}
    gone = question_pages.withdrawn_from(connection, made.values())
    return {question: one for question, one in made.items() if one in gone}


def stop_of(
    row: jobs.JobRow, decisions: dict[str, Approval], withdrawn: str, *, today: dt.date
) -> Stop | None:
    """
    Return the same of what was read already. withdrawn: the delivery of which records were
    withdrawn since it was made, "" for none.
    """
    for verb, decision in (("revoked", "revoke"), ("denied", "deny")):
        if who := sorted(p for p, one in decisions.items() if one.decision == decision):
            return Stop(f"{verb} by: {', '.join(who)}", "ask their stewards; or ask anew")
    last = last_day(row, decisions)
    if last and today.isoformat() > last:
        return Stop(f"its last day was {last}", _ANEW)
    if withdrawn:
        return Stop(f"records of {withdrawn} were withdrawn since it was made", _ANEW)
    return None


def other_epoch(study: RegisteredStudy, row: jobs.JobRow) -> Stop | None:
    """Return why a question is not answered or delivered under today's signed study."""
    terms = json.loads(row.terms or "{}")
    if not terms or terms["study_hash"] == study.study_hash:
        return None
    now = study.config.study.epoch
    return Stop(
        f"it was asked under epoch {terms['epoch']} of the study, which is in epoch {now}",
        "stewards approved it under other terms; " + _ANEW,
    )


def require_use(connection: Connection, row: jobs.JobRow, *, today: dt.date) -> None:
    """Raises Conflict where a question stands no more; what is offered instead is in the hint."""
    if stop := stopped(connection, row, today=today):
        raise _refused(connection, row, stop, today)


def require_progress(
    connection: Connection, study: RegisteredStudy, row: jobs.JobRow, *, today: dt.date
) -> None:
    """Raises Conflict where a question may be answered or delivered no more."""
    require_use(connection, row, today=today)
    if stop := other_epoch(study, row):
        raise _refused(connection, row, stop, today)


def about(connection: Connection, subject: str) -> jobs.JobRow | None:
    """Return the question that a question or delivery belongs to, None for anything else."""
    row = jobs.find(connection, subject)
    if row is not None and row.kind == "delivery" and row.about:
        row = jobs.find(connection, row.about)
    return row if row is not None and row.kind == "question" else None


def successor(connection: Connection, row: jobs.JobRow, *, today: dt.date) -> str:
    """Return the newest question that asks the same and still stands, "" where there is none."""
    mine = _content(row)
    for other in jobs.of_kind(connection, row.study_id, "question"):
        if other.id == row.id or other.asked_at < row.asked_at or other.state == "failed":
            continue
        if _content(other) == mine and stopped(connection, other, today=today) is None:
            return other.id
    return ""


def sequestered(study: RegisteredStudy) -> list[str]:
    """Return the two sides of a question that answer with counts and never deliver rows."""
    sides = [p for p in study.config.party if p.kind in ("imaging", "enclave")]
    return [party.id for party in sides if party.sequestered]


def require_rows(study: RegisteredStudy) -> None:
    """Raises NotAllowed where a side of the study is sequestered."""
    if who := sequestered(study):
        raise NotAllowed(
            f"the signed study has {', '.join(who)} sequestered: counts only, no rows",
            hint="counts stay possible; for rows the custodian signs a study file without it",
        )


def _refused(connection: Connection, row: jobs.JobRow, stop: Stop, today: dt.date) -> Conflict:
    newer = successor(connection, row, today=today)
    return Conflict(
        f"nobody uses {row.id} any more: {stop.reason}",
        hint=f"take {newer}, which asks the same" if newer else stop.hint,
    )


def _content(row: jobs.JobRow) -> tuple[str, str, object, object]:
    """What is asked and for which purpose; salts, keys and runs differ each time."""
    asked = QuestionRequest.model_validate_json(row.request)
    return asked.purpose, asked.use, asked.imaging, asked.clinical
