"""`linkage-broker access`: suspend a party's or contributor's access at once, and restore it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from broker.console import HomeOption, JsonOption, services, show

access = typer.Typer(
    help="Access of parties and contributors: suspend a stolen key or token.", no_args_is_help=True
)

Study = Annotated[str, typer.Argument(help="The study's id.")]
Name = Annotated[str, typer.Argument(help="A party or contributor of it.")]


@access.command("suspend")
def access_suspend(
    study: Study,
    name: Name,
    reason: Annotated[
        str, typer.Option(help="A line that the suspended site and the audit log get to read.")
    ],
    home: HomeOption,
) -> None:
    """End its tokens now, and give it no others until its access is restored."""
    ended = services(home).access.suspend(study, name, reason)
    typer.echo(f"The access of {name} in {study} is suspended; {ended} tokens ended.")
    typer.echo(
        "If its key was stolen: the custodian signs the next epoch with a new one; register it,"
        " then `linkage-broker access restore`."
    )


@access.command("restore")
def access_restore(study: Study, name: Name, home: HomeOption) -> None:
    """Let it sign in again, with the key that the study pins now."""
    fingerprint = services(home).access.restore(study, name)
    typer.echo(f"{name} may sign in to {study} again, with this key: {fingerprint}")
    typer.echo("If that is the key that was stolen, suspend it again at once.")


@access.command("list")
def access_list(home: HomeOption, as_json: JsonOption = False) -> None:
    """List whose access is suspended, since when and why."""
    rows = services(home).access.all()
    shown = [
        {"study": r.study_id, "name": r.name, "since": r.since, "reason": r.reason} for r in rows
    ]
    lines = [f"{r.study_id}/{r.name}  since {_day(r.since)}: {r.reason}" for r in rows]
    show(as_json, shown, "\n".join(lines) or "Nobody's access is suspended.")


def _day(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()
