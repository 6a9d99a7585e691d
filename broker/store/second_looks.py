"""Rows of second looks: what a run asks of every uploader, and how far the answers are."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from broker.store.tables import look_request, run, second_look

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


def of_study(connection: Connection, study_id: str) -> list[str]:
    """Return the study's runs that have asked, newest first. A run that ended asks no more."""
    wanted = select(second_look.c.run_id).join(run).where(run.c.study_id == study_id)
    ordered = wanted.order_by(second_look.c.asked_at.desc(), second_look.c.run_id)
    return list(connection.execute(ordered).scalars())


def sent(connection: Connection) -> list[tuple[str, str]]:
    """Return run and uploader of the answers that nobody has read yet."""
    wanted = select(look_request.c.run_id, look_request.c.uploader).where(
        look_request.c.state == SENT
    )
    ordered = wanted.order_by(look_request.c.run_id, look_request.c.uploader)
    return [(row.run_id, row.uploader) for row in connection.execute(ordered)]


def waiting(connection: Connection) -> list[str]:
    """Return the runs that wait for answers, oldest first."""
    wanted = select(second_look.c.run_id).where(second_look.c.over_at.is_(None))
    return list(connection.execute(wanted.order_by(second_look.c.asked_at)).scalars())


def went_on(connection: Connection) -> list[str]:
    """Return the runs whose wait is over, oldest first, until they end."""
    wanted = select(second_look.c.run_id).where(second_look.c.over_at.is_not(None))
    return list(connection.execute(wanted.order_by(second_look.c.over_at)).scalars())


def ready(connection: Connection, now: float, most_refusals: int) -> list[str]:
    """
    Return the runs that need not wait any longer: time is up, or nobody's answer is to come, for
    all have answered or were refused `most_refusals` times.
    """
    silent = select(func.count()).where(
        look_request.c.run_id == second_look.c.run_id,
        look_request.c.state != ACCEPTED,
        look_request.c.refusals < most_refusals,
    )
    wanted = select(second_look.c.run_id).where(
        second_look.c.over_at.is_(None),
        (second_look.c.until <= now) | (silent.scalar_subquery() == 0),
    )
    return list(connection.execute(wanted.order_by(second_look.c.asked_at)).scalars())


def change(connection: Connection, run_id: str, uploader: str, **columns: object) -> None:
    """Set columns of a request."""
    mine = (look_request.c.run_id == run_id) & (look_request.c.uploader == uploader)
    connection.execute(update(look_request).where(mine).values(**columns))


def end(connection: Connection, run_id: str, now: float) -> None:
    """Note that a run's wait is over."""
    mine = second_look.c.run_id == run_id
    connection.execute(update(second_look).where(mine).values(over_at=now))


def drop(connection: Connection, run_id: str) -> list[str]:
    """Forget a run's second look; return its blobs, to be deleted."""
    rows = requests(connection, run_id)
    connection.execute(delete(look_request).where(look_request.c.run_id == run_id))
    connection.execute(delete(second_look).where(second_look.c.run_id == run_id))
    return [one for row in rows for one in (row.blob_id, row.answer_blob_id) if one]
