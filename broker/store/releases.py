"""
Rows about what was given out: numbers of releases, what withdrawals did, who uses what.

A job is given out once it is done: releases, questions and deliveries, from which somebody has IDs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from broker.store import jobs, overviews
from broker.store.governance import newest_opt_outs
from broker.store.studies import DESTROYED
from broker.store.tables import affected, dataset, job, pin


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A job that gave out records, without what it made. finished_at: Unix seconds."""

    id: str
    kind: str
    run_id: str
    finished_at: int | None


GIVING = ("release", "question", "delivery")
"""Kinds of jobs that give out IDs."""

EFFECTS = "effects"
"""Kind of the job that finds out what withdrawals did to those."""


def given_out(connection: Connection, study_id: str) -> list[jobs.JobRow]:
    """Return the study's jobs that gave out IDs, newest first."""
    wanted = select(job).where(
        job.c.study_id == study_id, job.c.kind.in_(GIVING), job.c.state == "done"
    )
    ordered = wanted.order_by(job.c.finished_at.desc(), job.c.id)
    return [jobs.JobRow(**row) for row in connection.execute(ordered).mappings()]


def audience_of(row: jobs.JobRow) -> tuple[str, ...]:
    """Return the parties that a release is for, ascending."""
    return _audience(row.request)


@lru_cache(maxsize=4_096)
def _audience(request: str) -> tuple[str, ...]:
    # A page looks at every release of its study, most of which were asked for in the same words.
    return tuple(sorted(json.loads(request)["audience"]))


def of_audience(
    connection: Connection,
    study_id: str,
    audience: tuple[str, ...],
    among: Sequence[jobs.JobRow] | None = None,
) -> list[jobs.JobRow]:
    """
    Return the releases made for exactly these parties, oldest first; without what they made. among:
    all of the study, where they are read already.
    """
    every = overviews.newest_of_kind(connection, study_id, "release") if among is None else among
    ours = [row for row in every if row.state == "done" and audience_of(row) == audience]
    return sorted(ours, key=lambda row: (row.number or 0, row.finished_at or 0, row.id))


def next_number(connection: Connection, row: jobs.JobRow) -> int:
    """
    Return the number of a release that is being made, one more than of any before it. Those that
    older software made without one are numbered first.
    """
    before = of_audience(connection, row.study_id, audience_of(row))
    number = max((one.number or 0 for one in before), default=0)
    for one in before:
        if one.number is None:
            number += 1
            jobs.change(connection, one.id, number=number)
    return number + 1


def mark(connection: Connection, study_id: str) -> str:
    """
    Return up to which uploads a look at a study's withdrawals counts: JSON, the newest complete
    dataset version by uploader, and the newest opt-out lists. While it is the same, nothing was
    withdrawn.
    """
    d = dataset.c
    wanted = select(d.uploader, func.max(d.number)).where(
        d.study_id == study_id, d.state.in_(("complete", DESTROYED))
    )
    newest = {one: number for one, number in connection.execute(wanted.group_by(d.uploader))}  # noqa: C416
    lists = newest_opt_outs(connection, study_id)
    return json.dumps({**newest, **({"opt-outs": lists} if lists else {})}, sort_keys=True)


def unchecked(connection: Connection) -> dict[str, set[str | None]]:
    """Return by study up to which uploads the effects on what was given out are known."""
    wanted = select(job.c.study_id, job.c.checked).where(
        job.c.kind.in_(GIVING), job.c.state == "done"
    )
    found: dict[str, set[str | None]] = {}
    for row in connection.execute(wanted.distinct()):
        found.setdefault(row.study_id, set()).add(row.checked)
    return found


def studies_looking(connection: Connection) -> set[str]:
    """Return the studies of which a job looks for effects now."""
    wanted = select(job.c.study_id).where(
        job.c.kind == EFFECTS, job.c.state.in_(("queued", "running"))
    )
    return set(connection.execute(wanted.distinct()).scalars())


def set_affected(connection: Connection, job_id: str, found: Mapping[str, int], now: int) -> bool:
    """
    Store by party how many records of a job were withdrawn since it was made; say whether that is
    news. A party keeps the time at which its first was seen, and is forgotten where none is gone.
    """
    before = affected_of(connection, job_id)
    for party, records in found.items():
        mine = (affected.c.job_id == job_id) & (affected.c.party == party)
        if not records:
            connection.execute(delete(affected).where(mine))
        elif party in before:
            connection.execute(update(affected).where(mine).values(records=records))
        else:
            values = {"job_id": job_id, "party": party, "records": records, "since": now}
            connection.execute(affected.insert().values(**values))
    return {p: n for p, (n, _) in before.items()} != {p: n for p, n in found.items() if n}


def affected_of(connection: Connection, job_id: str) -> dict[str, tuple[int, int]]:
    """Return by party how many records of a job were withdrawn, and since when."""
    a = affected.c
    wanted = select(a.party, a.records, a.since).where(a.job_id == job_id)
    return {row.party: (row.records, row.since) for row in connection.execute(wanted)}


def affected_page(connection: Connection, study_id: str, *, start: int, most: int) -> list[Given]:
    """
    Return `most` from the `start`th on of the study's jobs that gave out records which were
    withdrawn since, newest first.
    """
    columns = (job.c[name] for name in Given.__dataclass_fields__)
    wanted = select(*columns).where(_is_affected(study_id))
    ordered = wanted.order_by(job.c.finished_at.desc(), job.c.id).offset(start).limit(most)
    return [Given(**row) for row in connection.execute(ordered).mappings()]


def how_many_affected(connection: Connection, study_id: str) -> int:
    """Return how many jobs `affected_page` goes over."""
    counted = select(func.count()).select_from(job).where(_is_affected(study_id))
    return connection.execute(counted).scalar_one()


def _is_affected(study_id: str) -> ColumnElement[bool]:
    given = (job.c.kind.in_(GIVING)) & (job.c.state == "done")
    return (job.c.study_id == study_id) & given & job.c.id.in_(select(affected.c.job_id))


def affected_among(
    connection: Connection, ids: Collection[str]
) -> dict[str, dict[str, tuple[int, int]]]:
    """Return `affected_of` for each of these jobs that has any."""
    a = affected.c
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for row in connection.execute(select(affected).where(a.job_id.in_(ids)).order_by(a.party)):
        found.setdefault(row.job_id, {})[row.party] = (row.records, row.since)
    return found


def set_pin(
    connection: Connection, job_id: str, party: str, name: str, *, holds: bool, now: int
) -> bool:
    """Add or take away what a party names as using a release; say whether that changes anything."""
    mine = (pin.c.job_id == job_id) & (pin.c.party == party) & (pin.c.name == name)
    there = connection.execute(select(pin.c.name).where(mine)).first() is not None
    if holds and not there:
        values = {"job_id": job_id, "party": party, "name": name, "pinned_at": now}
        connection.execute(pin.insert().values(**values))
    elif there and not holds:
        connection.execute(delete(pin).where(mine))
    return holds != there


def pins_of(connection: Connection, job_id: str) -> dict[str, tuple[str, ...]]:
    """Return by party what uses a release, by name."""
    return pins_among(connection, [job_id]).get(job_id, {})


def pins_among(
    connection: Connection, ids: Collection[str]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return `pins_of` for each of these jobs that has any."""
    p = pin.c
    wanted = select(p.job_id, p.party, p.name).where(p.job_id.in_(ids))
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for row in connection.execute(wanted.order_by(p.party, p.name)):
        of = found.setdefault(row.job_id, {})
        of[row.party] = (*of.get(row.party, ()), row.name)
    return found
