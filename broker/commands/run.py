"""`linkage-broker run`: start linkage runs, and see how far they are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from broker.console import HomeOption, JsonOption, granted, services, show

run = typer.Typer(help="Linkage runs.", no_args_is_help=True)


@run.command("start")
def run_start(
    study_id: str,
    home: HomeOption,
    seed: int = 1,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Link the parties that have uploaded, at least two."),
    ] = False,
    second_look: Annotated[
        bool, typer.Option(help="Ask the sites about doubtful pairs, where the study allows it.")
    ] = True,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Precision wanted of the links, .5 to 1. Default: the best F1.",
            show_default=False,
        ),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Decide anew about the pairs of this finished run; nothing is compared again.",
            show_default=False,
        ),
    ] = None,
    purpose: Annotated[
        str, typer.Option(help="Of those that the study declares; can be left out if it is one.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what a run would do, and start none.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Queue a linkage run; a worker must be running."""
    from broker.policy import Action
    from broker.services.forecasts import forecast_lines
    from linkage.matching.estimates import check_precision
    from linkage.run_messages import RunRequest

    check_precision(precision)

    broker = services(home)
    grant = granted(broker, Action.START_RUN, study_id)
    request = RunRequest(
        seed=seed, second_look=second_look, precision=precision, of=of, purpose=purpose
    )
    if dry_run:
        forecast = broker.forecasts.of(grant, request, allow_missing=allow_missing)
        show(as_json, forecast.model_dump(mode="json"), "\n".join(forecast_lines(forecast)))
        return
    state = broker.runs.start(grant, request, allow_missing=allow_missing)
    show(as_json, state.model_dump(mode="json"), f"Run {state.run_id} is {state.state}.")


@run.command("show")
def run_show(
    study_id: str,
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """Show a run: stages, estimates, thresholds, histogram, overlaps; or why it failed."""
    from broker.policy import Action
    from broker.run_show import lines

    broker = services(home)
    state = broker.runs.state(granted(broker, Action.READ_RUN, study_id), run_id)
    found = state.model_dump(mode="json")
    show(as_json, found, "\n".join(lines(found)))


@run.command("cancel")
def run_cancel(
    study_id: str,
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """End a run that is queued, running or waiting; what it has found so far is forgotten."""
    from broker.policy import Action

    broker = services(home)
    state = broker.runs.cancel(granted(broker, Action.CANCEL_RUN, study_id), run_id)
    show(as_json, state.model_dump(mode="json"), f"Run {state.run_id} is {state.state}.")


@run.command("compare")
def run_compare(
    study_id: str,
    first: Annotated[str, typer.Argument(metavar="RUN")],
    second: Annotated[str, typer.Argument(metavar="OTHER")],
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """Show two runs that are done side by side: what differs, figures, links that only one has."""
    from broker.policy import Action
    from broker.run_compared import lines

    broker = services(home)
    grant = granted(broker, Action.COMPARE_RUNS, study_id)
    found = broker.comparisons.of(grant, first, second)
    show(as_json, found.model_dump(mode="json"), "\n".join(lines(found)))


@run.command("list")
def run_list(study_id: str, home: HomeOption, as_json: JsonOption = False) -> None:
    """List the study's runs, newest first: state, stage, estimated quality."""
    from broker.policy import Action

    broker = services(home)
    grant = granted(broker, Action.READ_RUN, study_id)
    found = [state.model_dump(mode="json") for state in broker.runs.all(grant)]
    show(as_json, found, "\n".join(map(_run_line, found)) or "No run was started yet.")


def _run_line(run: dict[str, Any]) -> str:
    line = f"{run['run_id']}  {run['state']}"
    if run["state"] in ("queued", "running"):
        line += f"  {run['stage']} {run['progress']:.0%}{_work(run)}"
    if report := run["report"]:
        line += (
            f"  {report['persons']:,} persons; estimated precision"
            f" {report['estimated_precision']:.4f}, recall {report['estimated_recall']:.4f}"
        )
        line += "".join(map(_loss, report.get("losses", ())))
    return f"{line}  {run['failure']}" if run["failure"] else line


def _work(run: dict[str, Any]) -> str:
    """Say how far the search for candidates is."""
    work = run["work"]
    if not work or not run["stage"].startswith("candidates"):
        return ""
    text = (
        f", {work['chunks_done']} of {work['chunks']} chunks, {work['pairs_found']:,} pairs found,"
        f" {work['comparisons_per_second'] / 1e6:,.0f} million comparisons a second"
    )
    if work["seconds_left"] is not None:
        text += f", {_duration(work['seconds_left'])} left"
    if work["phases"] > work["phase"]:
        text += " in this phase; how much the second has to do is known only then"
    return text


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _loss(one: dict[str, Any]) -> str:
    return (
        f"; {' and '.join(one['parties'])}: comparing in two phases lost {one['share']:.2%} of the"
        f" matches (95 %: {one['low']:.2%} to {one['high']:.2%})"
    )
