"""`linkage-broker look`: what runs ask in second looks, who is silent, and ending the wait."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from broker.console import HomeOption, JsonOption, granted, services, show

if TYPE_CHECKING:
    from linkage.run_messages import LookState

look = typer.Typer(help="Second looks: what runs ask, and who is silent.", no_args_is_help=True)


@look.callback()
def _group() -> None:
    """Second looks: what runs ask, and who is silent."""


@look.command("list")
def look_list(study_id: str, home: HomeOption, as_json: JsonOption = False) -> None:
    """List what the study's unfinished runs ask: of whom, since when, and who has answered."""
    from broker.policy import Action

    broker = services(home)
    _show(broker.second_looks.all(granted(broker, Action.READ_LOOK, study_id)), as_json)


@look.command("end")
def look_end(
    study_id: str,
    run_id: Annotated[str, typer.Argument(help="The run that waits.")],
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """Let a run wait no longer: it goes on with what was answered."""
    from broker.policy import Action

    broker = services(home)
    grant = granted(broker, Action.END_LOOK, study_id)
    _show(broker.second_looks.end(grant, run_id), as_json)


def _show(states: list[LookState], as_json: bool) -> None:
    lines = "\n".join(_line(one) for one in states)
    data = [one.model_dump(mode="json") for one in states]
    show(as_json, data, lines or "No run asks anything now.")


def _line(one: LookState) -> str:
    until = dt.datetime.fromtimestamp(one.until, dt.UTC)
    line = f"{one.run_id}  {one.uploader}  {one.state}  {one.questions:,} questions"
    return f"{line}  until {until:%Y-%m-%d %H:%M} UTC" + (f"  {one.refusal}" if one.refusal else "")
