"""`linkage-broker review`: people look at pairs that stay in doubt, as field agreements."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.console import HomeOption, JsonOption, granted, services, show
from linkage.errors import PackageRefused

if TYPE_CHECKING:
    from linkage.review_messages import NextCase, ReviewCase, ReviewState

review = typer.Typer(
    help="Clerical review: people look at pairs that stay in doubt.", no_args_is_help=True
)
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run that is reviewed.")]
ReviewerOption = Annotated[
    str, typer.Option("--reviewer", help="Who reviews; `review open` names them.")
]
_KEYS = {"s": "same", "d": "different", "u": "unsure"}
_MARKS = {"equal": "=", "similar": "~", "different": "x", "missing": "."}


@review.command("open")
def review_open(
    study_id: str,
    home: HomeOption,
    run_id: Annotated[
        str | None, typer.Option("--run", help="Default: the newest finished run.")
    ] = None,
    reviewer: Annotated[
        list[str] | None,
        typer.Option(help="Who may review at this console; again for each of them."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Open the review of a finished run, or name more reviewers of an open one."""
    from pydantic import TypeAdapter, ValidationError

    from broker.policy import Action
    from linkage.review_messages import ReviewerName

    names = reviewer or []
    try:
        TypeAdapter(list[ReviewerName]).validate_python(names)
    except ValidationError:
        raise PackageRefused(
            "this cannot be a reviewer's name", hint="small letters, digits, dots and hyphens"
        ) from None
    broker = services(home)
    state = broker.reviews.open(granted(broker, Action.OPEN_REVIEW, study_id), run_id, names)
    _show(state, as_json)


@review.command("list")
def review_list(study_id: str, home: HomeOption, as_json: JsonOption = False) -> None:
    """List the study's reviews, newest first."""
    from broker.policy import Action

    broker = services(home)
    found = broker.reviews.all(granted(broker, Action.READ_REVIEW, study_id))
    lines = "\n".join(_line(one) for one in found)
    show(as_json, [one.model_dump(mode="json") for one in found], lines or "No review was opened.")


@review.command("status")
def review_status(
    study_id: str, run_id: RunArgument, home: HomeOption, as_json: JsonOption = False
) -> None:
    """Show how far a review is, how reviewers agree, and what came out of a closed one."""
    from broker.policy import Action

    broker = services(home)
    _show(broker.reviews.state(granted(broker, Action.READ_REVIEW, study_id), run_id), as_json)


@review.command("next")
def review_next(
    study_id: str,
    run_id: RunArgument,
    reviewer: ReviewerOption,
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """Show a reviewer's cases one after another and take the answers; with --json just the next."""
    from broker.policy import Action

    broker = services(home)
    grant = granted(broker, Action.READ_REVIEW, study_id)
    found = broker.reviews.next_case(grant, run_id, reviewer)
    if as_json or not sys.stdin.isatty():
        show(as_json, found.model_dump(mode="json"), _next_text(found))
        return
    typer.echo(
        "Are both records one person? s: same, d: different, u: unsure, z: take the last answer"
        " back, q: stop here."
    )
    while case := found.case:
        typer.echo(_next_text(found))
        key = typer.prompt("s, d, u, z or q").strip().lower()[:1]
        if key == "q":
            typer.echo("Your answers are kept; the same command goes on.")
            return
        if key == "z":
            made = broker.reviews.own_last(grant, run_id, reviewer)
            if made:
                found = broker.reviews.take_back(grant, run_id, made[0].case_id, reviewer)
            else:
                typer.echo("You have answered nothing yet.")
            continue
        if key not in _KEYS:
            typer.echo("Please s, d, u, z or q.")
            continue
        answer = _KEYS[key]
        found = broker.reviews.decide(grant, run_id, case.case_id, answer, reviewer)  # type: ignore[arg-type]
    typer.echo(_next_text(found))


@review.command("decide")
def review_decide(
    study_id: str,
    run_id: RunArgument,
    case_id: Annotated[str, typer.Argument(metavar="CASE", help="As `review next` shows it.")],
    answer: Annotated[str, typer.Argument(help="same, different or unsure.")],
    reviewer: ReviewerOption,
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """Take a reviewer's answer to one case, and show the next."""
    from broker.policy import Action

    if answer not in _KEYS.values():
        raise PackageRefused(
            "this is no answer to a case", hint=f"answer {', '.join(_KEYS.values())}"
        )
    broker = services(home)
    grant = granted(broker, Action.READ_REVIEW, study_id)
    found = broker.reviews.decide(grant, run_id, case_id, answer, reviewer)  # type: ignore[arg-type]
    show(as_json, found.model_dump(mode="json"), _next_text(found))


@review.command("close")
def review_close(
    study_id: str, run_id: RunArgument, home: HomeOption, as_json: JsonOption = False
) -> None:
    """Take no more answers; a worker judges them, and the next run counts what was decided."""
    from broker.policy import Action

    broker = services(home)
    _show(broker.reviews.close(granted(broker, Action.OPEN_REVIEW, study_id), run_id), as_json)


@review.command("export")
def review_export(
    study_id: str, run_id: RunArgument, home: HomeOption, as_json: JsonOption = False
) -> None:
    """Print the figures of a closed review as CSV: one row a figure, with interval and count."""
    from broker.policy import Action

    broker = services(home)
    grant = granted(broker, Action.READ_REVIEW, study_id)
    state = broker.reviews.state(grant, run_id)
    if state.figures is None:
        raise PackageRefused(
            f"the review is {state.state} and has no figures yet",
            hint="`linkage-broker review close STUDY RUN` makes them",
        )
    if as_json:
        show(True, state.figures, "")
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["figure", "of", "value", "low", "high", "count"])
    writer.writerows(_rows(state.figures))


def _show(state: ReviewState, as_json: bool) -> None:
    show(as_json, state.model_dump(mode="json"), "\n".join(_lines(state)))


def _line(state: ReviewState) -> str:
    text = f"{state.run_id}  {state.state}"
    if state.state in ("open", "closing", "closed"):
        text += f"  {state.cases:,} cases, {state.readings:,} answers"
    if state.state == "open" and state.undecided is not None:
        text += f", {state.undecided:,} cases undecided"
    return f"{text}  {state.failure}" if state.failure else text


def _lines(state: ReviewState) -> Iterator[str]:
    yield f"Review of {_line(state)}"
    if state.state == "opening":
        yield "A worker opens it within seconds."
    if state.state == "closing":
        yield "A worker judges the answers within seconds: `linkage-broker review status`."
    if state.reviewers:
        yield f"  at this console: {', '.join(state.reviewers)}"
    for reviewer, count in sorted(state.readers.items()):
        yield f"  {reviewer:<24}{count:>6,} answers"
    for one in state.agreement:
        yield f"  {' and '.join(one['reviewers'])}: {_kappa(one)}"
    if state.figures:
        yield from _figures(state.figures)


def _kappa(one: Mapping[str, Any]) -> str:
    text = f"agreed in {one['agreed']:,} of {one['cases']:,} cases"
    if one["kappa"] is None:
        return f"{text}, kappa has no meaning here"
    return f"{text}, kappa {one['kappa']:.2f} ({one['low']:.2f} to {one['high']:.2f})"


def _figures(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"  shown: {found['doubts']:,} in doubt, {found['checks']:,} links to check,"
        f" {found['decoys']:,} with known answers"
    )
    yield "  on known answers, 95 % intervals"
    for one in [
        *found["reviewers"],
        {"reviewer": "two agreeing", "counted": True} | found["panel"],
    ]:
        counted = "" if one["counted"] else "  not counted: not surely better than chance"
        yield (
            f"    {one['reviewer']:<22}finds {_share(one['sensitivity'])} of the same,"
            f" {_share(one['specificity'])} of the different{counted}"
        )
    usual = found["panel"]["sensitivity_typical"]
    yield f"    of usual matches, two agreeing find {_share(usual)}"
    decided = found["doubts_decided"]
    yield (
        f"  pairs in doubt: {decided['same']:,} the same, {decided['different']:,} different,"
        f" {decided['unsure']:,} not agreed, {decided['open']:,} not read to the end"
    )
    made = found["evidence"]
    yield (
        f"  the next run counts {made['same'] + made['different']:,} of them: odds times"
        f" {made['ratio_same']:g} for the same, times {made['ratio_different']:g} for different"
    )
    said, true = found["precision"]["read"], found["precision"]["corrected"]
    if not said["of"]:
        yield "  precision of links: no link was checked"
        return
    yield f"  precision of links: {said['right']:,} of {said['of']:,} checked read as the same"
    if true is None:
        yield "    not corrected: the reviewers' errors are not known well enough"
    else:
        yield f"    corrected for errors {_interval(true)}"
    if made := found["precision"]["estimated"]:
        yield f"    the model estimates  {_interval(made)}"


def _share(one: Mapping[str, Any]) -> str:
    if not one["of"]:
        return "? (none was read)"
    return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f}; {one['of']:,})"


def _interval(one: Mapping[str, Any]) -> str:
    return f"{one['value']:.4f} ({one['low']:.4f} to {one['high']:.4f})"


def _rows(found: Mapping[str, Any]) -> Iterator[list[Any]]:
    for name in ("doubts", "checks", "decoys"):
        yield ["shown", name, "", "", "", found[name]]
    for one in [*found["reviewers"], {"reviewer": "panel"} | found["panel"]]:
        for name in ("sensitivity", "specificity"):
            share = one[name]
            yield [name, one["reviewer"], share["value"], share["low"], share["high"], share["of"]]
    usual = found["panel"]["sensitivity_typical"]
    yield [
        "sensitivity, typical",
        "panel",
        usual["value"],
        usual["low"],
        usual["high"],
        usual["of"],
    ]
    for one in found["agreement"]:
        both = " ".join(one["reviewers"])
        yield ["kappa", both, one["kappa"], one["low"], one["high"], one["cases"]]
    for name in ("read", "corrected", "estimated"):
        if one := found["precision"][name]:
            yield ["precision", name, one["value"], one["low"], one["high"], one.get("of", "")]
    for name in ("same", "different"):
        yield [
            "evidence",
            name,
            found["evidence"][f"ratio_{name}"],
            "",
            "",
            found["evidence"][name],
        ]


def _next_text(found: NextCase) -> str:
    if found.case is None:
        return "Nothing is left for you to read; thank you."
    return "\n".join(_case_lines(found.case, found.left))


def _case_lines(case: ReviewCase, left: int) -> Iterator[str]:
    yield ""
    one, other = case.parties
    yield f"Case {case.case_id}, {left:,} left: a record of {one}, one of {other}"
    for field in case.fields:
        yield f"  {_MARKS[field.agreement]} {field.field:<16}{field.agreement}"
