"""`linkage-broker person`: who a record or a person was on that day, and why."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.console import HomeOption, JsonOption, granted, services, show

if TYPE_CHECKING:
    from collections.abc import Iterator

person = typer.Typer(help="Persons and their records, over all runs.", no_args_is_help=True)


@person.callback()
def _group() -> None:
    """Persons and their records, over all runs."""


@person.command("history")
def person_history(
    study_id: str,
    name: Annotated[str, typer.Argument(help="A record pseudonym or a person ID: 32 hex digits.")],
    home: HomeOption,
    run_id: Annotated[str, typer.Option("--run", help="As it was after this run.")] = "",
    on: Annotated[
        dt.datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="As it was at the end of that day, UTC."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show whose record this was, through merges and splits, and what tied the person together."""
    from broker.policy import Action
    from broker.services.persons import Persons

    broker = services(home)
    grant = granted(broker, Action.READ_RUN, study_id)
    day = on.date() if on else None
    told = Persons(broker.database).history(grant, name, run_id=run_id, on=day)
    show(as_json, told, "\n".join(_lines(told)))


def _lines(told: dict[str, Any]) -> Iterator[str]:
    if told["kind"] == "record":
        yield f"Record {told['name']} of {told['uploader']}"
        for one in told["stays"]:
            yield f"  {_when(one)}  person {one['person']}"
        for one in told["given_out"]:
            yield f"  in the {one['kind']} {one['job']} of {_day(one)}"
    else:
        yield f"Person {told['name']}  {_when(told)}"
        if told["split_from"]:
            yield f"  its records came from person {told['split_from']}"
        if told["merged_into"]:
            yield f"  merged into person {told['merged_into']}"
    then = told["then"]
    yield f"After {then['run']} of {_day(then)}: " + (
        f"person {then['person']}" if then["records"] else "nobody's; it was not there or withdrawn"
    )
    for one in then["records"]:
        yield f"  record {one['record']} of {one['uploader']}"
    for one in then["links"]:
        facts = f"{one['method']}, {one['tier']}, model {one['model']}"
        yield f"  {one['left']} - {one['right']}: {facts}"


def _when(span: dict[str, Any]) -> str:
    end = f"to {_day(span['until'])}" if span["until"] else "to this day"
    return f"from {_day(span['since'])} {end}"


def _day(event: dict[str, Any] | None) -> str:
    known = event is not None and event["at"] is not None
    return f"{dt.datetime.fromtimestamp(event['at'], dt.UTC):%Y-%m-%d}" if known and event else "?"
