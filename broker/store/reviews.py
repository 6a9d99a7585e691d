"""
Rows of clerical reviews: their cases without what they are about, and what reviewers decided.

Which records a case is about, and which cases have known answers, lies sealed: broker.review_cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from broker.store.runs import REVIEW_DECISIONS
from broker.store.tables import intermediate, review, review_case, review_decision

OPENING, OPEN, CLOSING, CLOSED = "opening", "open", "closing", "closed"
FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRow:
    """
    The review of one run. reviewers: JSON, who may review at the console. result: JSON, figures,
    once closed. failure: cause and remedy, where it could not be opened.
    """

    run_id: str
    study_id: str
    state: str
    reviewers: str
    opened_at: int
    closed_at: int | None = None
    result: str | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow:
    """A case: one and other, its parties; fields: JSON, agreement by field."""

    run_id: str
    case_id: str
    one: str
    other: str
    fields: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """What a reviewer decided. reading: 1, 2 or 3 of its case. answer: same, different, unsure."""

    run_id: str
    case_id: str
    reading: int
    reviewer: str
    answer: str
    decided_at: int


def add(connection: Connection, row: ReviewRow) -> None:
    """Add a review."""
    columns = {name: getattr(row, name) for name in ReviewRow.__dataclass_fields__}
    connection.execute(review.insert().values(**columns))


def find(connection: Connection, run_id: str) -> ReviewRow | None:
    """Return the review of a run."""
    found = connection.execute(select(review).where(review.c.run_id == run_id)).mappings().first()
    return ReviewRow(**found) if found else None


def of_study(connection: Connection, study_id: str) -> list[ReviewRow]:
    """Return the study's reviews, newest first."""
    wanted = select(review).where(review.c.study_id == study_id)
    ordered = wanted.order_by(review.c.opened_at.desc(), review.c.run_id)
    return [ReviewRow(**row) for row in connection.execute(ordered).mappings()]


def in_state(connection: Connection, *states: str) -> list[ReviewRow]:
    """Return all reviews in these states, oldest first."""
    wanted = select(review).where(review.c.state.in_(states)).order_by(review.c.opened_at)
    return [ReviewRow(**row) for row in connection.execute(wanted).mappings()]


def closed(connection: Connection, study_id: str) -> list[str]:
    """Return the runs of the study whose review is closed and whose decisions are still here."""
    here = select(intermediate.c.run_id).where(intermediate.c.name == REVIEW_DECISIONS)
    wanted = select(review.c.run_id).where(
        review.c.study_id == study_id, review.c.state == CLOSED, review.c.run_id.in_(here)
    )
    return list(connection.execute(wanted.order_by(review.c.closed_at, review.c.run_id)).scalars())


def change(connection: Connection, run_id: str, **columns: Any) -> None:
    """Set columns of a review."""
    connection.execute(update(review).where(review.c.run_id == run_id).values(**columns))


def remove(connection: Connection, run_id: str) -> None:
    """Forget a review without a decision."""
    for table in (review_case, review_decision, review):
        connection.execute(delete(table).where(table.c.run_id == run_id))


def add_cases(connection: Connection, rows: Sequence[CaseRow]) -> None:
    """Add what is shown."""
    names = CaseRow.__dataclass_fields__
    if rows:
        connection.execute(
            review_case.insert(), [{name: getattr(row, name) for name in names} for row in rows]
        )


def cases(connection: Connection, run_id: str) -> list[CaseRow]:
    """Return a review's cases, by their ids, which are random."""
    wanted = select(review_case).where(review_case.c.run_id == run_id)
    ordered = wanted.order_by(review_case.c.case_id)
    return [CaseRow(**row) for row in connection.execute(ordered).mappings()]


def drop_cases(connection: Connection, run_id: str) -> None:
    """Forget what was shown; the decisions stay."""
    connection.execute(delete(review_case).where(review_case.c.run_id == run_id))


def add_decision(connection: Connection, row: DecisionRow) -> None:
    """Add a decision."""
    columns = {name: getattr(row, name) for name in DecisionRow.__dataclass_fields__}
    connection.execute(review_decision.insert().values(**columns))


def decisions(connection: Connection, run_id: str) -> list[DecisionRow]:
    """Return a review's decisions, by case, then in the order in which they were made."""
    d = review_decision.c
    wanted = select(review_decision).where(d.run_id == run_id).order_by(d.case_id, d.reading)
    return [DecisionRow(**row) for row in connection.execute(wanted).mappings()]


def decisions_of(connection: Connection, run_id: str, case_id: str) -> list[DecisionRow]:
    """Return the decisions about a case, in the order in which they were made."""
    d = review_decision.c
    wanted = select(review_decision).where(d.run_id == run_id, d.case_id == case_id)
    return [DecisionRow(**row) for row in connection.execute(wanted.order_by(d.reading)).mappings()]


def counts(connection: Connection, run_id: str) -> tuple[int, int]:
    """Return how many cases a review has, and how many decisions were made."""
    n = [
        connection.execute(select(func.count()).where(t.c.run_id == run_id)).scalar_one()
        for t in (review_case, review_decision)
    ]
    return n[0], n[1]
