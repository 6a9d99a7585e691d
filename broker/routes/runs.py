"""Linkage runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from broker.policy import Action, Grant
from broker.routes.common import ID, May, Services
from linkage.run_messages import RunComparison, RunForecast, RunRequest, RunState

router = APIRouter(prefix="/v1/studies/{study_id}/runs")

Reader = Annotated[Grant, Depends(May(Action.READ_RUN))]


@router.post("", status_code=202)
def start_run(
    body: RunRequest,
    grant: Annotated[Grant, Depends(May(Action.START_RUN))],
    broker: Services,
    allow_missing: bool = False,
) -> RunState:
    """Queue one linkage run over the study's newest complete dataset versions."""
    return broker.runs.start(grant, body, allow_missing=allow_missing)


@router.get("")
def runs(
    grant: Reader,
    broker: Services,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[str | None, Query(pattern=ID)] = None,
) -> list[RunState]:
    """Return the study's runs, newest first, without reports; before: those older than this run."""
    return broker.runs.page(grant, limit=limit, before=before)


@router.get("/{run_id}")
def run_state(grant: Reader, broker: Services, run_id: str) -> RunState:
    """Return how far a run is, and its report when done."""
    return broker.runs.state(grant, run_id)


@router.get("/{run_id}/comparison")
def compare_runs(
    grant: Annotated[Grant, Depends(May(Action.COMPARE_RUNS))],
    broker: Services,
    run_id: str,
    other: Annotated[str, Query(alias="with", pattern=ID)],
    links: bool = True,
) -> RunComparison:
    """Return this run and another that are done, side by side; links=false counts no links."""
    return broker.comparisons.of(grant, run_id, other, links=links)


@router.post("/dry-run")
def dry_run(
    body: RunRequest,
    grant: Annotated[Grant, Depends(May(Action.START_RUN))],
    broker: Services,
    allow_missing: bool = False,
) -> RunForecast:
    """Say what a run would do: datasets, comparisons, time and memory; start none."""
    return broker.forecasts.of(grant, body, allow_missing=allow_missing)


@router.post("/{run_id}/cancel")
def cancel_run(
    grant: Annotated[Grant, Depends(May(Action.CANCEL_RUN))], broker: Services, run_id: str
) -> RunState:
    """End a run that is queued, running or waiting; what it has found so far is forgotten."""
    return broker.runs.cancel(grant, run_id)
