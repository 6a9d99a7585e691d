"""How much waits, and how old what goes on is: for monitors. Counts only, of no study or party."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from broker.store.tables import heartbeat, job, look_request, run


@dataclass(frozen=True, slots=True)
class Load:
    """
    queued: what waits, by kind. stages: of each stage, when every run in it began it, Unix seconds.
    workers: seen of late. beat: when the newest was seen.
    """

    queued: Mapping[str, int]
    stages: Mapping[str, list[float]]
    workers: int
    beat: float | None


def now(connection: Connection, *, since: float, until: float) -> Load:
    """
    Return what waits and goes on. since, until: when a worker that lives was seen, Unix seconds;
    later than that it was seen by a clock that was put back.
    """
    queued = {
        "run": _count(connection, run, run.c.state == "queued"),
        "job": _count(connection, job, job.c.state == "queued"),
        "second look": _count(connection, look_request, look_request.c.state == "asked"),
    }
    going = select(run.c.stage, func.coalesce(run.c.stage_began, run.c.started_at))
    stages: dict[str, list[float]] = {}
    for stage, began in connection.execute(going.where(run.c.state == "running")):
        stages.setdefault(stage or "open", []).append(float(began))
    workers = _count(connection, heartbeat, heartbeat.c.seen_at.between(since, until))
    newest = select(func.max(heartbeat.c.seen_at)).where(heartbeat.c.seen_at <= until)
    beat = connection.execute(newest).scalar()
    return Load(queued, stages, workers, beat)


def _count(connection: Connection, table: object, condition: object) -> int:
    wanted = select(func.count()).select_from(table).where(condition)  # type: ignore[arg-type]
    return int(connection.execute(wanted).scalar_one())
