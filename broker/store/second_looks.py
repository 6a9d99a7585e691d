"""
Rows of second looks: what a run asks of every uploader, and how far the answers are.

That a run has asked is kept for ever, whatever became of it: the study bounds such runs
(`runs_that_asked`). What it asked is forgotten when it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select, update

from broker.store.tables import deactivation, look_request, run, second_look

ASKED, SENT, ACCEPTED, REFUSED = "asked", "sent", "accepted", "refused"
OPEN = (ASKED, SENT, REFUSED)
"""States in which an answer may still come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRow:
    """The second look of a run. asked_at, until, over_at: Unix seconds; over_at: once it is."""

    run_id: str
    asked_at: float
    until: float
    over_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """
    What one uploader is asked. blob_id, size, digest: of the sealed questions. questions: how
    many. refusals: answers that were refused; refusal: why the last one was.
    """

    run_id: str
    uploader: str
    blob_id: str
    size: int
    digest: str
    questions: int
    state: str = ASKED
    answer_blob_id: str | None = None
    answer_digest: str | None = None
    refusals: int = 0
    refusal: str = ""


def add(connection: Connection, look: LookRow, requests: list[RequestRow]) -> None:
    """Store a run's second look."""
    connection.execute(
        second_look.insert().values(run_id=look.run_id, asked_at=look.asked_at, until=look.until)
    )
    for row in requests:
        columns = {name: getattr(row, name) for name in RequestRow.__dataclass_fields__}
        connection.execute(look_request.insert().values(**columns))


def find(connection: Connection, run_id: str) -> LookRow | None:
    """Return a run's second look."""
    wanted = select(second_look).where(second_look.c.run_id == run_id)
    found = connection.execute(wanted).mappings().first()
    return LookRow(**found) if found else None


def requests(connection: Connection, run_id: str) -> list[RequestRow]:
    """Return what a run asks, by uploader in their order."""
    wanted = select(look_request).where(look_request.c.run_id == run_id)
    ordered = wanted.order_by(look_request.c.uploader)
    return [RequestRow(**row) for row in connection.execute(ordered).mappings()]


def request(connection: Connection, run_id: str, uploader: str) -> RequestRow | None:
    """Return what a run asks of one uploader."""
    wanted = select(look_request).where(
        look_request.c.run_id == run_id, look_request.c.uploader == uploader
    )
    found = connection.execute(wanted).mappings().first()
    return RequestRow(**found) if found else None


def runs_that_asked(connection: Connection, study_id: str, epoch: int) -> int:
    """Return how many runs of an epoch have asked, also those that failed."""
    mine = (run.c.study_id == study_id) & (run.c.epoch == epoch)
    wanted = select(func.count()).select_from(second_look.join(run)).where(mine)
    return connection.execute(wanted).scalar_one()


def of_study(connection: Connection, study_id: str) -> list[str]:
    """Return the study's runs that have asked and go on, newest first."""
    wanted = _unfinished().where(run.c.study_id == study_id)
    ordered = wanted.order_by(second_look.c.asked_at.desc(), second_look.c.run_id)
    return list(connection.execute(ordered).scalars())


def sent(connection: Connection) -> list[tuple[str, str]]:
    """Return run and uploader of the answers that nobody has read yet, of runs that wait."""
    wanted = (
        select(look_request.c.run_id, look_request.c.uploader)
        .where(look_request.c.state == SENT)
        .where(look_request.c.run_id.in_(_waiting()))
    )
    ordered = wanted.order_by(look_request.c.run_id, look_request.c.uploader)
    return [(row.run_id, row.uploader) for row in connection.execute(ordered)]


def waiting(connection: Connection) -> list[str]:
    """Return the runs that wait for answers, oldest first."""
    return list(connection.execute(_waiting().order_by(second_look.c.asked_at)).scalars())


def went_on(connection: Connection) -> list[str]:
    """Return the runs whose wait is over, oldest first, until they end."""
    wanted = _unfinished().where(second_look.c.over_at.is_not(None))
    return list(connection.execute(wanted.order_by(second_look.c.over_at)).scalars())


def ready(connection: Connection, now: float, most_refusals: int) -> list[str]:
    """
    Return the runs that need not wait any longer: time is up, or nobody's answer is to come, for
    all have answered or were refused `most_refusals` times, or the study key is out of use.
    """
    silent = select(func.count()).where(
        look_request.c.run_id == second_look.c.run_id,
        look_request.c.state != ACCEPTED,
        look_request.c.refusals < most_refusals,
    )
    retired = select(deactivation.c.epoch).where(
        deactivation.c.study_id == run.c.study_id, deactivation.c.epoch == run.c.epoch
    )
    done = (second_look.c.until <= now) | (silent.scalar_subquery() == 0) | retired.exists()
    return list(connection.execute(_waiting().where(done)).scalars())


def _unfinished() -> Select[Any]:
    going = run.c.state.in_(("queued", "running"))
    return select(second_look.c.run_id).join(run).where(going)


def _waiting() -> Select[Any]:
    return _unfinished().where(second_look.c.over_at.is_(None))


def change(connection: Connection, run_id: str, uploader: str, **columns: object) -> None:
    """Set columns of a request."""
    mine = (look_request.c.run_id == run_id) & (look_request.c.uploader == uploader)
    connection.execute(update(look_request).where(mine).values(**columns))


def hurry(connection: Connection, run_id: str, now: float) -> None:
    """Let a run's wait end at `now`."""
    mine = second_look.c.run_id == run_id
    connection.execute(update(second_look).where(mine).values(until=now))


def end(connection: Connection, run_id: str, now: float) -> None:
    """Note that a run's wait is over."""
    mine = second_look.c.run_id == run_id
    connection.execute(update(second_look).where(mine).values(over_at=now))


def drop(connection: Connection, run_id: str) -> list[str]:
    """Forget what a run asked; return the blobs of it and of answers, to be deleted."""
    rows = requests(connection, run_id)
    connection.execute(delete(look_request).where(look_request.c.run_id == run_id))
    return [one for row in rows for one in (row.blob_id, row.answer_blob_id) if one]
