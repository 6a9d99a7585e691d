"""
Rows of clerical reviews: their cases without what they are about, and what reviewers decided.

Which records a case is about, and which cases have known answers, lies sealed: broker.review_cases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, or_, select, update
from sqlalchemy import case as case_when

from broker.store import bulk
from broker.store.runs import REVIEW_CASES, REVIEW_DECISIONS
from broker.store.tables import (
    intermediate,
    review,
    review_case,
    review_decision,
    review_undone,
    run,
)
from linkage.review import ANSWERS, READINGS

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
    """
    What a reviewer decided. reading: 1, 2 or 3 of its case. answer: same, different, unsure. entry:
    of the audit log; None of decisions by older software.
    """

    run_id: str
    case_id: str
    reading: int
    reviewer: str
    answer: str
    decided_at: int
    entry: int | None = None


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


def add_cases(connection: Connection, rows: Sequence[CaseRow]) -> None:
    """Add what is shown."""
    names = CaseRow.__dataclass_fields__
    if rows:
        connection.execute(
            review_case.insert(), [{name: getattr(row, name) for name in names} for row in rows]
        )
        bulk.count(connection, review_case)


def case(connection: Connection, run_id: str, case_id: str) -> CaseRow | None:
    """Return a case of a review."""
    c = review_case.c
    columns = [c[name] for name in CaseRow.__dataclass_fields__]
    wanted = select(*columns).where(c.run_id == run_id, c.case_id == case_id)
    found = connection.execute(wanted).mappings().first()
    return CaseRow(**found) if found else None


def drop_cases(connection: Connection, run_id: str) -> None:
    """Forget what was shown; the decisions stay."""
    connection.execute(delete(review_case).where(review_case.c.run_id == run_id))


def add_decision(connection: Connection, row: DecisionRow) -> None:
    """Add a decision."""
    columns = {name: getattr(row, name) for name in DecisionRow.__dataclass_fields__}
    connection.execute(review_decision.insert().values(**columns))
    _count(connection, row, 1)


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


def own_last(connection: Connection, run_id: str, reviewer: str, *, most: int) -> list[DecisionRow]:
    """Return a reviewer's decisions, the newest first."""
    d = review_decision.c
    wanted = select(review_decision).where(d.run_id == run_id, d.reviewer == reviewer)
    newest = (func.coalesce(d.entry, 0).desc(), d.decided_at.desc(), d.case_id)
    return [
        DecisionRow(**r)
        for r in connection.execute(wanted.order_by(*newest).limit(most)).mappings()
    ]


def take_back(connection: Connection, row: DecisionRow, *, entry: int, at: int) -> None:
    """Move a decision into history. entry: of the audit log, that says so."""
    d = review_decision.c
    columns = {name: getattr(row, name) for name in DecisionRow.__dataclass_fields__}
    connection.execute(review_undone.insert().values(**columns, undone_entry=entry, undone_at=at))
    this = (d.run_id == row.run_id, d.case_id == row.case_id, d.reviewer == row.reviewer)
    connection.execute(delete(review_decision).where(*this))
    _count(connection, row, -1)


def has_taken_back(connection: Connection, run_id: str, case_id: str, reviewer: str) -> bool:
    """Did a reviewer take a decision about this case back?"""
    u = review_undone.c
    wanted = select(u.case_id).where(
        u.run_id == run_id, u.case_id == case_id, u.reviewer == reviewer
    )
    return connection.execute(wanted.limit(1)).first() is not None


def counts(connection: Connection, run_id: str) -> tuple[int, int]:
    """Return how many cases a review has, and how many decisions count."""
    n = [
        connection.execute(select(func.count()).where(t.c.run_id == run_id)).scalar_one()
        for t in (review_case, review_decision)
    ]
    return n[0], n[1]


def readers(connection: Connection, run_id: str) -> dict[str, int]:
    """Return how many decisions of each reviewer count."""
    d = review_decision.c
    wanted = select(d.reviewer, func.count()).where(d.run_id == run_id).group_by(d.reviewer)
    return {row[0]: row[1] for row in connection.execute(wanted.order_by(d.reviewer))}


def open_to(connection: Connection, run_id: str, reviewer: str) -> list[str]:
    """
    Return the cases that a reviewer may read: without a reading of its own, and not decided; or
    it took its reading back, and its place is free. The rule itself is `linkage.review.verdict`.
    """
    c, d, u = review_case.c, review_decision.c, review_undone.c
    mine = select(d.case_id).where(d.run_id == run_id, d.reviewer == reviewer)
    back = select(u.case_id).where(u.run_id == run_id, u.reviewer == reviewer)
    undecided = and_(c.said_same < 2, c.said_different < 2)
    wanted = (
        select(c.case_id)
        .where(c.run_id == run_id, c.readings < READINGS)
        .where(or_(undecided, c.case_id.in_(back)))
        .where(c.case_id.not_in(mine))
    )
    return list(connection.execute(wanted).scalars())


def patterns(connection: Connection, run_id: str) -> list[tuple[int, int, int, int]]:
    """Return by what was read: readings of a case, same, different among them, how many cases."""
    c = review_case.c
    by = (c.readings, c.said_same, c.said_different)
    wanted = select(*by, func.count()).where(c.run_id == run_id).group_by(*by)
    return [tuple(row) for row in connection.execute(wanted)]


def pairs_read(connection: Connection, run_id: str) -> list[tuple[str, str, str, str, int]]:
    """
    Return for every two reviewers of a case's first two readings: names, answers, how many cases.

    One pass, not a join of the table with itself: PostgreSQL, before it has statistics, compares
    all readings with all.
    """
    d = review_decision.c

    def of(reading: int, column: Any) -> Any:
        return func.max(case_when((d.reading == reading, column)))

    first = select(
        of(1, d.reviewer).label("one"),
        of(2, d.reviewer).label("two"),
        of(1, d.answer).label("said_one"),
        of(2, d.answer).label("said_two"),
    ).where(d.run_id == run_id, d.reading <= 2)
    both = first.group_by(d.case_id).having(func.count() == 2).subquery()
    found = Counter[tuple[str, str, str, str]]()
    wanted = select(*both.c, func.count().label("cases")).group_by(*both.c)
    for row in connection.execute(wanted):
        ends = sorted([(row.one, row.said_one), (row.two, row.said_two)])
        (one, said_one), (two, said_two) = ends
        found[one, two, said_one, said_two] += row.cases
    return [(*key, cases) for key, cases in found.items()]


def to_open(connection: Connection, study_id: str, *, most: int) -> list[tuple[str, int | None]]:
    """Return runs with something to show and no review, the newest first: id, end."""
    has = select(intermediate.c.run_id).where(intermediate.c.name == REVIEW_CASES)
    begun = select(review.c.run_id).where(review.c.study_id == study_id)
    wanted = (
        select(run.c.id, run.c.finished_at)
        .where(run.c.study_id == study_id, run.c.state == "done")
        .where(run.c.id.in_(has), run.c.id.not_in(begun))
        .order_by(run.c.started_at.desc(), run.c.id)
    )
    return [(row.id, row.finished_at) for row in connection.execute(wanted.limit(most))]


def _count(connection: Connection, row: DecisionRow, by: int) -> None:
    c = review_case.c
    counted = {c.readings: c.readings + by}
    if row.answer in ANSWERS[:2]:
        said = c[f"said_{row.answer}"]
        counted[said] = said + by
    this = update(review_case).where(c.run_id == row.run_id, c.case_id == row.case_id)
    connection.execute(this.values({one.name: value for one, value in counted.items()}))
