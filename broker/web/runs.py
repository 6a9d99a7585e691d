"""The pages of runs: the list, how to start one, one run under way or done, and two compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from broker.policy import Action
from broker.routes.common import ID
from broker.store.runs import OVER
from broker.web import run_figures, run_groups, run_tables, run_words
from broker.web.rendering import page, see_other
from broker.web.run_asked import RunAsked
from broker.web.run_remarks import remarks
from broker.web.visits import PageMay, Visit
from linkage.errors import LinkageError
from linkage.run_messages import LookState, RunForecast, RunState

router = APIRouter(prefix="/studies/{study_id}/runs", include_in_schema=False)

Reader = Annotated[Visit, Depends(PageMay(Action.READ_RUN))]
Comparer = Annotated[Visit, Depends(PageMay(Action.COMPARE_RUNS))]
Starter = Annotated[Visit, Depends(PageMay(Action.START_RUN))]
RunId = Annotated[str, Query(pattern=ID)]
_PAGE = 20


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    What a run under way waits for. worker: does one live? looks: what its second look asks of whom,
    for the admin. until: when it goes on without, Unix seconds.
    """

    worker: bool
    looks: tuple[LookState, ...] = ()

    @property
    def silent(self) -> list[str]:
        """Who is asked and has not answered."""
        return [one.uploader for one in self.looks if one.state in ("asked", "refused")]

    @property
    def until(self) -> float | None:
        """When the run goes on without an answer."""
        return min((one.until for one in self.looks), default=None)


@router.get("")
def runs(visit: Reader, before: Annotated[str | None, Query(pattern=ID)] = None) -> Response:
    """List the study's runs, newest first."""
    found = visit.broker.runs.page(visit.grant, limit=_PAGE + 1, before=before)
    shown, more = found[:_PAGE], len(found) > _PAGE
    return page(visit, "runs.html", runs=shown, more=more, before=before, words=run_words)


@router.get("/new")
def new_run(visit: Starter) -> Response:
    """Ask what a run shall be, and say what it would do."""
    return _new(visit, RunAsked.read(visit.request.query_params))


@router.post("")
def start_run(visit: Starter) -> Response:
    """Start a run, and show it; what is refused is said above the form."""
    asked = RunAsked.posted(visit.form)
    try:
        run = visit.broker.runs.start(
            visit.grant, asked.request(), allow_missing=asked.allow_missing
        )
    except LinkageError as refusal:
        return _new(visit, asked, refusal)
    return see_other(_at(run), "run-started" if run.state == "queued" else "run-there")


@router.get("/compare")
def compare(visit: Comparer, a: RunId, b: RunId) -> Response:
    """Show two runs side by side; their links are counted by the next page, or its part."""
    found = visit.broker.comparisons.of(visit.grant, a, b, links=False)
    return page(visit, "run_compare.html", found=found, tables=list(run_tables.tables(found)))


@router.get("/compare/links")
def compare_links(visit: Comparer, a: RunId, b: RunId) -> Response:
    """Count the links that only one of two runs has: the slow part, fetched by itself."""
    changes = visit.broker.comparisons.links(visit.grant, a, b)
    whole = "run_compare_part.html" if visit.partial else "run_compare_links.html"
    return page(visit, whole, changes=changes, a=a, b=b)


@router.get("/{run_id}")
def run(visit: Reader, run_id: str, pair: str = "") -> Response:
    """Show one run: under way, or what came of it."""
    found = visit.broker.runs.state(visit.grant, run_id)
    return page(visit, "run.html", **_shown(visit, found), **_figures(visit, found, pair))


@router.get("/{run_id}/live")
def run_live(visit: Reader, run_id: str, seen: str = "") -> Response:
    """Give the part that changes while a run is under way; nothing where nothing has changed."""
    found = visit.broker.runs.state(visit.grant, run_id)
    if found.state in OVER:
        return Response(status_code=204, headers={"hx-redirect": _at(found)})
    shown = _shown(visit, found)
    same = shown["seen"] == seen
    return Response(status_code=204) if same else page(visit, "run_live.html", **shown)


@router.post("/{run_id}/cancel")
def cancel_run(
    visit: Annotated[Visit, Depends(PageMay(Action.CANCEL_RUN))], run_id: str
) -> Response:
    """End a run that is under way, once its name was typed."""
    if visit.text("confirm") != run_id:
        return see_other(_path(visit, run_id), "not-confirmed")
    return see_other(_at(visit.broker.runs.cancel(visit.grant, run_id)), "run-cancelled")


@router.post("/{run_id}/go-on")
def go_on(visit: Annotated[Visit, Depends(PageMay(Action.END_LOOK))], run_id: str) -> Response:
    """Wait no longer for who has not answered a second look."""
    visit.broker.second_looks.end(visit.grant, run_id)
    return see_other(_path(visit, run_id), "look-ended")


def _new(visit: Visit, asked: RunAsked, refusal: LinkageError | None = None) -> Response:
    forecast: RunForecast | None = None
    if refusal is None:
        try:
            forecast = visit.broker.forecasts.of(
                visit.grant, asked.request(), allow_missing=asked.allow_missing
            )
        except LinkageError as found:
            refusal = found
    return page(
        visit,
        "run_new.html",
        status=409 if visit.request.method == "POST" else 200,
        asked=asked,
        forecast=forecast,
        refusal=refusal,
        config=visit.grant.study.config,
        words=run_words,
    )


def _shown(visit: Visit, found: RunState) -> dict[str, Any]:
    """Return what a page says of a run's state. seen: changes whenever that does."""
    waiting = None if found.state in OVER else _waiting(visit, found)
    # A run that has ended is not asked for again, and its report is long.
    seen = f"{found!r}{waiting!r}" if waiting else ""
    return {
        "run": found,
        "waiting": waiting,
        "stages": run_words.stages(found),
        "seen": hashlib.sha256(seen.encode()).hexdigest()[:16],
        "words": run_words,
    }


def _waiting(visit: Visit, found: RunState) -> Waiting:
    alive = bool(visit.broker.oversight.alive_now())
    if not visit.may(Action.END_LOOK):
        return Waiting(alive)
    looks = visit.broker.second_looks.of_run(visit.grant_for(Action.READ_LOOK), found.run_id)
    return Waiting(alive, tuple(looks))


def _figures(visit: Visit, found: RunState, pair: str) -> dict[str, Any]:
    """Return what a page shows of a report; the API gives it to admins only."""
    if (report := found.report) is None:
        return {"report": None}
    others = visit.broker.runs.page(visit.grant, limit=_PAGE)
    sets, smaller = run_figures.sets_of(report)
    return {
        "report": report,
        "views": run_figures.views(report),
        "view": run_figures.view_of(report, pair),
        "held": run_figures.held(report),
        "sets": sets,
        "smaller": smaller,
        "figures": run_figures,
        "groups": run_groups.shown(report),
        "remarks": list(remarks(report)),
        "others": [one for one in others if one.state == "done" and one.run_id != found.run_id],
    }


def _at(run: RunState) -> str:
    return f"/studies/{run.study_id}/runs/{run.run_id}"


def _path(visit: Visit, run_id: str) -> str:
    return f"/studies/{visit.grant.study.id}/runs/{run_id}"
