"""Intermediate results that outlive their run: what it compared, for the study's next one."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, or_, select

from broker.store.tables import intermediate, run


def names(connection: Connection, run_id: str, prefixes: Collection[str]) -> list[str]:
    """Return the names of a run's intermediate results that start with any of these, sorted."""
    i = intermediate.c
    mine = (i.run_id == run_id) & or_(*(i.name.startswith(p, autoescape=True) for p in prefixes))
    return list(connection.execute(select(i.name).where(mine).order_by(i.name)).scalars())


def newest_with(
    connection: Connection, study_id: str, prefix: str, *, epoch: int, software: str
) -> str | None:
    """Return the run of a study that finished last and has such results; None without one."""
    wanted = (
        select(run.c.id)
        .join(intermediate, intermediate.c.run_id == run.c.id)
        .where(
            run.c.study_id == study_id,
            run.c.state == "done",
            run.c.epoch == epoch,
            run.c.software == software,
            intermediate.c.name.startswith(prefix, autoescape=True),
        )
        .order_by(run.c.sequence.desc())
        .limit(1)
    )
    return connection.execute(wanted).scalar()


def drop_but(
    connection: Connection, study_id: str, prefixes: Collection[str], run_id: str
) -> list[str]:
    """Forget such results of the study's finished runs, all but one run's; return their blobs."""
    done = select(run.c.id).where(run.c.study_id == study_id, run.c.state == "done")
    i = intermediate.c
    mine = i.run_id.in_(done) & (i.run_id != run_id)
    mine &= or_(*(i.name.startswith(p, autoescape=True) for p in prefixes))
    blobs = list(connection.execute(select(i.blob_id).where(mine)).scalars())
    connection.execute(delete(intermediate).where(mine))
    return blobs
