"""
A study's questions by pages, each in a line: where it stands and what it waits for.

What a page needs is read for all of its questions at once. How far a delivery is, is in the line
too, a failed one as well.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from broker.policy import Grant
from broker.services.questions import two_sides
from broker.services.remarks import open_in
from broker.services.standing import decisions_in, other_epoch, stop_of, withdrawn_of
from broker.store import jobs, question_pages
from broker.store.engine import Connection, Database
from linkage.messages import (
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_COUNTS,
    READER,
    QuestionRequest,
)
from linkage.uses import Use

Stage = Literal[
    "prepared",
    "failed",
    "ended",
    "asked",
    "answered",
    "counted",
    "approved",
    "delivery-prepared",
    "delivery-failed",
    "delivery-ready",
    "rows-sent",
]
"""
prepared: the broker prepares it; asked: the imaging commons has to answer; answered: the enclave
has to count; counted: counts are there; approved: by both sides, and the enclave may order the
delivery; delivery-*: ordered; rows-sent: the imaging commons has sent its rows to the enclave.
"""

PAGE = 20
"""Questions on one page."""


@dataclass(frozen=True, slots=True)
class QuestionLine:
    """
    One question of a list. asked_at: Unix seconds. expires: its last day or "". why: of one that
    ended or failed. waits: the parties whose stewards have not approved; asks: those that wait for
    an answer of the researcher. counted: are there counts for its reader?
    """

    question_id: str
    title: str
    use: Use
    asked_at: int
    expires: str
    stage: Stage
    why: str
    waits: tuple[str, ...]
    asks: tuple[str, ...]
    counted: bool
    delivery_id: str


@dataclass(frozen=True, slots=True)
class QuestionPage:
    """Lines, newest first. number: of this page, from 1; last: of the last one."""

    lines: tuple[QuestionLine, ...]
    number: int
    last: int
    questions: int


@dataclass(frozen=True, slots=True)
class QuestionLines:
    """The questions of the studies in lines."""

    database: Database

    def page(self, grant: Grant, number: int) -> QuestionPage:
        """Return a page; one beyond the last is the last."""
        with self.database.read() as connection:
            many = question_pages.how_many(connection, grant.study.id)
            last = max(1, -(-many // PAGE))
            number = min(max(number, 1), last)
            rows = question_pages.page(
                connection, grant.study.id, start=(number - 1) * PAGE, most=PAGE
            )
            lines = _lines(connection, grant, rows, today=dt.datetime.now(dt.UTC).date())
        return QuestionPage(tuple(lines), number, last, many)

    def line(self, grant: Grant, question_id: str) -> QuestionLine | None:
        """Return the line of one question, None where the study has no such question."""
        with self.database.read() as connection:
            row = jobs.find(connection, question_id)
            if row is None or row.kind != "question" or row.study_id != grant.study.id:
                return None
            today = dt.datetime.now(dt.UTC).date()
            return _lines(connection, grant, [row], today=today)[0]


def _lines(
    connection: Connection, grant: Grant, rows: list[jobs.JobRow], *, today: dt.date
) -> list[QuestionLine]:
    ids = [row.id for row in rows]
    decided = question_pages.decisions(connection, ids)
    deliveries = question_pages.deliveries(connection, ids)
    ordered = [one.id for one in deliveries.values()]
    withdrawn = withdrawn_of(connection, deliveries)
    sent = question_pages.sent(connection, [*ids, *ordered])
    said = question_pages.remarks(connection, ids)
    imaging, enclave = two_sides(grant.study) if rows else ("", "")
    lines = []
    for row in rows:
        asked = QuestionRequest.model_validate_json(row.request)
        decisions = decisions_in(decided.get(row.id, {}))
        delivery = deliveries.get(row.id)
        stop = stop_of(row, decisions, withdrawn.get(row.id, ""), today=today)
        if stop is None and (delivery is None or delivery.state != "done"):
            stop = other_epoch(grant.study, row)
        approved = {p for p, one in decisions.items() if one.decision == "approve"}
        counted = any((row.id, QUESTION_COUNTS, to) in sent for to in (READER, imaging))
        answered = (row.id, QUESTION_ANSWER, enclave) in sent
        rows_sent = (delivery.id if delivery else "", DELIVERY_ROWS, enclave) in sent
        waits = tuple(party for party in (imaging, enclave) if party not in approved)
        failure = delivery.failure if delivery and delivery.state == "failed" else row.failure
        stage = _stage(row, delivery, answered=answered, counted=counted, rows_sent=rows_sent)
        if stage == "counted" and not waits:
            stage = "approved"
        lines.append(
            QuestionLine(
                question_id=row.id,
                title=asked.title,
                use=asked.use,
                asked_at=row.asked_at,
                expires=asked.expires,
                stage="ended" if stop else stage,
                why=stop.reason if stop else failure or "",
                waits=waits,
                asks=open_in(said.get(row.id, [])),
                counted=(row.id, QUESTION_COUNTS, READER) in sent,
                delivery_id=delivery.id if delivery else "",
            )
        )
    return lines


def _stage(
    row: jobs.JobRow,
    delivery: jobs.JobRow | None,
    *,
    answered: bool,
    counted: bool,
    rows_sent: bool,
) -> Stage:
    if row.state != "done":
        return "failed" if row.state == "failed" else "prepared"
    if delivery is not None:
        if delivery.state == "failed":
            return "delivery-failed"
        if delivery.state != "done":
            return "delivery-prepared"
        return "rows-sent" if rows_sent else "delivery-ready"
    if counted:
        return "counted"
    return "answered" if answered else "asked"
