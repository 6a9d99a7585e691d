"""
What a finished run may be used for: releases, questions, deliveries and reviews of it, by those
who agreed to them for the run's purpose, while their agreements hold.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from broker.registered import RegisteredStudy
from broker.services import agreements, lifecycle
from broker.services.runs import finished
from broker.store import jobs, releases, runs
from broker.store.engine import Connection
from linkage.errors import Conflict
from linkage.participation import Feature

_FEATURES: dict[str, Feature] = {
    "release": "releases",
    "question": "questions",
    "delivery": "deliveries",
}


def finished_for(connection: Connection, study: RegisteredStudy, run_id: str) -> runs.RunRow:
    """
    Return a run that is done; without run_id the newest. Raises NotFound or Conflict, also where
    runs for several purposes are done and none was named.
    """
    run = finished(connection, study.id, run_id)
    rows = runs.of_study(connection, study.id)
    purposes = {row.purpose for row in rows if row.state == "done" and row.purpose}
    if not run_id and len(purposes) > 1:
        raise Conflict(
            f"runs for several purposes are done: {', '.join(sorted(purposes))}",
            hint="name the run of the purpose that is meant",
        )
    return run


def require_use(
    connection: Connection,
    study: RegisteredStudy,
    feature: Feature,
    run: runs.RunRow,
    audience: Iterable[str],
    *,
    today: dt.date | None = None,
) -> None:
    """
    Raises Conflict where the study is not in use, NotAllowed unless each of the audience takes part
    in the feature for the run's purpose and its agreement holds. today: UTC, default: now.
    """
    lifecycle.require(connection, study.id)
    day = today or agreements.utc_today()
    agreements.require(study.config, feature, run.purpose, audience, today=day)


def require_of_run(
    connection: Connection, study: RegisteredStudy, feature: Feature, run: runs.RunRow
) -> None:
    """Like `require_use`, for everybody whose records are in the run."""
    require_use(connection, study, feature, run, agreements.parties_of(study.config, run))


def require_job(
    connection: Connection, study: RegisteredStudy, row: jobs.JobRow, *, today: dt.date
) -> None:
    """Raises as `require_use` where what a job makes may not be given out any more."""
    run = runs.find(connection, row.run_id)
    feature = _FEATURES.get(row.kind)
    if run is None or feature is None:
        return
    sides = [p.id for p in study.config.party if p.kind in ("imaging", "enclave")]
    audience = releases.audience_of(row) if row.kind == "release" else sides
    require_use(connection, study, feature, run, audience, today=today)
