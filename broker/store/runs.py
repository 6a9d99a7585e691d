"""Rows of runs and their intermediate results, and the heartbeats of workers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection, Select, delete, func, select, update

from broker.store import second_looks
from broker.store.tables import heartbeat, intermediate, run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """
    A linkage run. inputs: JSON, dataset number by uploader. seconds: JSON, by stage.
    stage_began: Unix seconds.

    sequence: order of finished runs within the study, from 1; None until done. looks: 1 where it
    may ask a second look, else 0. work: JSON, see broker.run_progress. asserted: JSON, assertion
    list number by uploader. precision: wanted of the links, None for the best F1. opted_out: JSON,
    opt-out list number by uploader. purpose: of those that the study declares, "" for none.
    of_run: the run whose pairs this one decides anew. reviewed: JSON, the closed reviews whose
    decisions count, by run.
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
    opted_out: str = "{}"
    purpose: str = ""
    of_run: str | None = None
    reviewed: str = "[]"

    def read_report(self) -> dict[str, Any]:
        """Return the report, empty where there is none; of twelve datasets it has two megabytes."""
        # A quarter of the time that json.loads takes.
        read: dict[str, Any] = from_json(self.report) if self.report else {}
        return read


WEIGHTS = "weights"
"""Name of a run's weighed pairs among its intermediate results."""
REVIEW_CASES, REVIEW_DECISIONS = "review-cases", "review-decisions"
"""Names of what reviewers could be shown of a run, and of what they decided, likewise."""
OVER = ("done", "failed", "cancelled")
"""States of a run that has ended."""
_VAIN = ("failed", "cancelled")
_SLIM = [column for column in run.c if column.name != "report"]
"""A report has kilobytes, and a study may have hundreds of runs."""


def add(connection: Connection, row: RunRow) -> None:
    """Queue a run."""
    columns = {name: getattr(row, name) for name in RunRow.__dataclass_fields__}
    connection.execute(run.insert().values(**columns))


def find(connection: Connection, run_id: str) -> RunRow | None:
    """Return a run."""
    found = connection.execute(select(run).where(run.c.id == run_id)).mappings().first()
    return RunRow(**found) if found else None


def find_same(connection: Connection, wanted: RunRow) -> RunRow | None:
    """Return a run that was asked for the same, of the same inputs, and is done or may be."""
    same = select(run).where(
        run.c.study_id == wanted.study_id,
        run.c.seed == wanted.seed,
        run.c.inputs == wanted.inputs,
        run.c.software == wanted.software,
        run.c.looks == wanted.looks,
        run.c.asserted == wanted.asserted,
        run.c.precision == wanted.precision,
        run.c.opted_out == wanted.opted_out,
        run.c.purpose == wanted.purpose,
        run.c.reviewed == wanted.reviewed,
        run.c.state.not_in(_VAIN),
    )
    found = connection.execute(same.order_by(run.c.started_at.desc())).mappings().first()
    return RunRow(**found) if found else None


def of_study(connection: Connection, study_id: str, *, reports: bool = False) -> list[RunRow]:
    """Return the study's runs, newest first; without their reports, unless these are wanted."""
    wanted = (select(run) if reports else select(*_SLIM)).where(run.c.study_id == study_id)
    return _newest_first(connection, wanted)


def page(
    connection: Connection, study_id: str, *, limit: int, before: RunRow | None = None
) -> list[RunRow]:
    """Return at most `limit` of the study's runs, newest first, without their reports."""
    wanted = select(*_SLIM).where(run.c.study_id == study_id)
    if before is not None:
        older = run.c.started_at < before.started_at
        same = (run.c.started_at == before.started_at) & (run.c.id > before.id)
        wanted = wanted.where(older | same)
    return _newest_first(connection, wanted.limit(limit))


def _newest_first(connection: Connection, wanted: Select[Any]) -> list[RunRow]:
    ordered = wanted.order_by(run.c.started_at.desc(), run.c.id)
    return [RunRow(**row) for row in connection.execute(ordered).mappings()]


def last_done(connection: Connection, study_id: str, count: int) -> list[RunRow]:
    """Return at most `count` of the study's runs that are done, newest first, with reports."""
    wanted = select(run).where(run.c.study_id == study_id, run.c.state == "done")
    return _newest_first(connection, wanted.limit(count))


def newest_finished(connection: Connection, study_id: str) -> RunRow | None:
    """Return the study's run that finished last."""
    wanted = select(run).where(run.c.study_id == study_id, run.c.sequence.is_not(None))
    ordered = wanted.order_by(run.c.sequence.desc()).limit(1)
    return next((RunRow(**row) for row in connection.execute(ordered).mappings()), None)


def unfinished(connection: Connection) -> list[str]:
    """Return the runs that are queued or running, oldest first."""
    wanted = select(run.c.id).where(run.c.state.in_(("queued", "running")))
    return list(connection.execute(wanted.order_by(run.c.started_at, run.c.id)).scalars())


def cancelled_since(connection: Connection, since: int) -> list[str]:
    """Return the runs that were cancelled at `since`, Unix seconds, or later."""
    wanted = select(run.c.id).where(run.c.state == "cancelled", run.c.finished_at >= since)
    return list(connection.execute(wanted.order_by(run.c.finished_at)).scalars())


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


def drop_intermediates(
    connection: Connection, run_id: str, *, keep: Collection[str] = ()
) -> list[str]:
    """
    Forget a run's intermediate results, its questions and their answers among them; return their
    blobs, to be deleted. keep: names of those that stay.
    """
    asked = second_looks.drop(connection, run_id)
    mine = (intermediate.c.run_id == run_id) & intermediate.c.name.not_in(keep)
    blobs = list(connection.execute(select(intermediate.c.blob_id).where(mine)).scalars())
    connection.execute(delete(intermediate).where(mine))
    return blobs + asked


def drop_kept(
    connection: Connection, names: Collection[str], *, run_id: str = "", before: int | None = None
) -> list[str]:
    """
    Forget what was kept under these names: of one run, or of all that ended before `before`, Unix
    seconds; return the blobs, to be deleted.
    """
    of = run.c.id == run_id if before is None else run.c.finished_at < before
    ended = select(run.c.id).where(run.c.state.in_(OVER), of)
    mine = intermediate.c.run_id.in_(ended) & intermediate.c.name.in_(names)
    blobs = list(connection.execute(select(intermediate.c.blob_id).where(mine)).scalars())
    connection.execute(delete(intermediate).where(mine))
    return blobs


def beat(connection: Connection, worker: str, now: float) -> None:
    """Note that a worker lives."""
    changed = connection.execute(
        update(heartbeat).where(heartbeat.c.worker == worker).values(seen_at=now)
    )
    if not changed.rowcount:
        connection.execute(heartbeat.insert().values(worker=worker, seen_at=now))


def beats(connection: Connection, *, since: float) -> list[tuple[str, float]]:
    """Return which workers were seen after `since`, and when last, Unix seconds; by name."""
    h = heartbeat.c
    found = connection.execute(select(h.worker, h.seen_at).where(h.seen_at > since))
    return sorted((str(name), float(at)) for name, at in found)


def alive_since(connection: Connection, since: float, *, until: float) -> list[str]:
    """Return the workers that were seen between `since` and `until`, Unix seconds."""
    wanted = select(heartbeat.c.worker).where(heartbeat.c.seen_at.between(since, until))
    return list(connection.execute(wanted).scalars())
