"""Rows of runs and their intermediate results, and the heartbeats of workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from broker.store import second_looks
from broker.store.tables import heartbeat, intermediate, run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """
    A linkage run. inputs: JSON, dataset number by uploader. seconds: JSON, by stage.
    stage_began: Unix seconds.

    sequence: order of finished runs within the study, from 1; None until done. looks: 1 where it
    may ask a second look, else 0. work: JSON, see broker.run_progress. asserted: JSON, assertion
    list number by uploader. precision: wanted of the links, None for the best F1.
    """

    id: str
    study_id: str
    seed: int
    epoch: int
    inputs: str
    software: str
    state: str = "queued"
    stage: str = ""
    stage_began: float | None = None
    progress: float = 0.0
    seconds: str = "{}"
    work: str = "{}"
    sequence: int | None = None
    result_digest: str | None = None
    report: str | None = None
    failure: str | None = None
    started_at: int
    finished_at: int | None = None
    looks: int = 0
    asserted: str = "{}"
    precision: float | None = None


def add(connection: Connection, row: RunRow) -> None:
    """Queue a run."""
    columns = {name: getattr(row, name) for name in RunRow.__dataclass_fields__}
    connection.execute(run.insert().values(**columns))


def find(connection: Connection, run_id: str) -> RunRow | None:
    """Return a run."""
    found = connection.execute(select(run).where(run.c.id == run_id)).mappings().first()
    return RunRow(**found) if found else None


def find_same(connection: Connection, wanted: RunRow) -> RunRow | None:
    """Return a run that was asked for the same, of the same inputs, and that has not failed."""
    same = select(run).where(
        run.c.study_id == wanted.study_id,
        run.c.seed == wanted.seed,
        run.c.inputs == wanted.inputs,
        run.c.software == wanted.software,
        run.c.looks == wanted.looks,
        run.c.asserted == wanted.asserted,
        run.c.precision == wanted.precision,
        run.c.state != "failed",
    )
    found = connection.execute(same.order_by(run.c.started_at.desc())).mappings().first()
    return RunRow(**found) if found else None


def of_study(connection: Connection, study_id: str) -> list[RunRow]:
    """Return the study's runs, newest first."""
    wanted = select(run).where(run.c.study_id == study_id)
    ordered = wanted.order_by(run.c.started_at.desc(), run.c.id)
    return [RunRow(**row) for row in connection.execute(ordered).mappings()]


def newest_finished(connection: Connection, study_id: str) -> RunRow | None:
    """Return the study's run that finished last."""
    wanted = select(run).where(run.c.study_id == study_id, run.c.sequence.is_not(None))
    ordered = wanted.order_by(run.c.sequence.desc()).limit(1)
    return next((RunRow(**row) for row in connection.execute(ordered).mappings()), None)


def unfinished(connection: Connection) -> list[str]:
    """Return the runs that are queued or running, oldest first."""
    wanted = select(run.c.id).where(run.c.state.in_(("queued", "running")))
    return list(connection.execute(wanted.order_by(run.c.started_at, run.c.id)).scalars())


def change(connection: Connection, run_id: str, **columns: Any) -> None:
    """Set columns of a run."""
    connection.execute(update(run).where(run.c.id == run_id).values(**columns))


def next_sequence(connection: Connection, study_id: str) -> int:
    """Return the number that the study's next finished run gets."""
    newest = select(func.max(run.c.sequence)).where(run.c.study_id == study_id)
    return int(connection.execute(newest).scalar() or 0) + 1


def set_intermediate(connection: Connection, run_id: str, name: str, blob_id: str) -> str | None:
    """Name a run's intermediate blob; return the one it replaces, to be deleted."""
    mine = (intermediate.c.run_id == run_id) & (intermediate.c.name == name)
    old = connection.execute(select(intermediate.c.blob_id).where(mine)).scalar()
    connection.execute(delete(intermediate).where(mine))
    connection.execute(intermediate.insert().values(run_id=run_id, name=name, blob_id=blob_id))
    return old


def find_intermediate(connection: Connection, run_id: str, name: str) -> str | None:
    """Return the blob of a run's intermediate result."""
    mine = (intermediate.c.run_id == run_id) & (intermediate.c.name == name)
    return connection.execute(select(intermediate.c.blob_id).where(mine)).scalar()


def count_intermediates(connection: Connection, run_id: str, prefix: str) -> int:
    """Return how many intermediate results of a run have a name that starts with `prefix`."""
    mine = (intermediate.c.run_id == run_id) & intermediate.c.name.startswith(prefix)
    return connection.execute(select(func.count()).where(mine)).scalar_one()


def drop_intermediates(connection: Connection, run_id: str) -> list[str]:
    """
    Forget a run's intermediate results, its questions and their answers among them; return their
    blobs, to be deleted.
    """
    asked = second_looks.drop(connection, run_id)
    mine = intermediate.c.run_id == run_id
    blobs = list(connection.execute(select(intermediate.c.blob_id).where(mine)).scalars())
    connection.execute(delete(intermediate).where(mine))
    return blobs + asked


def beat(connection: Connection, worker: str, now: float) -> None:
    """Note that a worker lives."""
    changed = connection.execute(
        update(heartbeat).where(heartbeat.c.worker == worker).values(seen_at=now)
    )
    if not changed.rowcount:
        connection.execute(heartbeat.insert().values(worker=worker, seen_at=now))


def alive_since(connection: Connection, since: float) -> list[str]:
    """Return the workers that were seen at `since`, Unix seconds, or later."""
    wanted = select(heartbeat.c.worker).where(heartbeat.c.seen_at >= since)
    return list(connection.execute(wanted).scalars())


def last_beat(connection: Connection) -> float | None:
    """Return when any worker was last seen, Unix seconds."""
    return connection.execute(select(func.max(heartbeat.c.seen_at))).scalar()
