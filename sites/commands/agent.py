"""`linkage-site agent, allow`: the service that answers by itself, and a person's yes to it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkage.shown_text import plain
from sites.terminal import DryRun, Steps, exit_code, show, told, would

if TYPE_CHECKING:
    from sites.agent import Event

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@told
def agent(
    site: SiteFile = Path("site.toml"),
    once: Annotated[bool, typer.Option("--once", help="Look once, and end: for cron.")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Say what the agent last did; ask nobody.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Answer what waits at the broker, by the policy in the site file, until it is stopped."""
    from sites.agent import Agent
    from sites.agent_pace import Stop

    if status:
        _status(site, as_json=as_json)
        return
    if dry_run:
        _plan(site, as_json=as_json)
        return
    with Steps(quiet=as_json) as steps:
        one = Agent(site, lambda event: _line(event, as_json=as_json), steps.step)
        stop = Stop()
        if not once:
            one.run(stop, lambda: _say("agent", "started", as_json=as_json))
            _say("agent", "stopped, as asked; nothing is lost", as_json=as_json)
            return
        with stop.on_sigterm():
            events = one.once(stop)
    if not events:
        _say("agent", "nothing waits", as_json=as_json)
    faults = [event.fault for event in events if event.fault is not None]
    if faults:
        raise typer.Exit(exit_code(faults[0]))


@told
def allow(
    question: Annotated[str, typer.Argument(help="The question's ID.")],
    site: SiteFile = Path("site.toml"),
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take the yes back, before it was answered.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Say yes to answering a question with counts; its rows still need the steward's approval."""
    from sites import allowing
    from sites.question_words import head
    from sites.session import session_of

    with session_of(site) as session:
        about = session.broker.question(session.study_id, question)
        rows: dict[str, object] = {"title": about.title, **head(about, session)}
        if dry_run:
            would("take the yes back" if withdraw else "say yes", rows, as_json=as_json)
            return
        if withdraw:
            was = allowing.withdraw(session, question)
            rows["yes"] = "taken back" if was else "there was none"
        else:
            allowing.allow(session, about, by="person")
            rows["yes"] = "kept: `linkage-site agent` and `linkage-site answer` go by it"
    show(f"Question {question}", rows, as_json=as_json)


def _plan(site: Path, *, as_json: bool) -> None:
    from sites.agent import plan_of
    from sites.session import session_of

    with session_of(site) as session:
        events = plan_of(session)
    if as_json:
        plan = [event.figures() for event in events]
        show("", {}, as_json=True, data={"dry_run": True, "would": "answer", "plan": plan})
        return
    rows: dict[str, object] = {f"{one.kind} {one.subject}": one.said for one in events}
    would("answer", rows or {"nothing": "nothing waits"})


def _status(site: Path, *, as_json: bool) -> None:
    from sites.agent import status_of
    from sites.config import load_site
    from sites.vault import Vault

    loaded = load_site(site)
    found = status_of(Vault(loaded.private, loaded.keys))
    rows: dict[str, object] = {
        "runs": f"yes, process {found['pid']}" if found["runs"] else "no",
        "looked at the broker": _when(found["looked_at"]),
        "went well": _when(found["went_well_at"]),
    }
    for one in found["waits"] + found["failed"]:
        rows[f"{one['kind']} {one.get('subject', '')}"] = f"{one['state']}: {one['said']}"
    show("The agent", rows, as_json=as_json, data=found)
    if found["failed"]:
        raise typer.Exit(6)


def _line(event: Event, *, as_json: bool) -> None:
    """One line for one event, as a log wants it."""
    if as_json:
        typer.echo(json.dumps({"at": _now(), **event.figures()}))
        return
    took = f" ({event.seconds:g} s)" if event.seconds else ""
    said = f": {plain(event.said)}" if event.said else ""
    typer.echo(f"{_now()} {event.state.upper():<7} {event.kind} {plain(event.subject)}{said}{took}")
    if event.fault is not None and event.fault.hint:
        typer.echo(f"{_now()}         what to do: {plain(event.fault.hint)}")


def _say(kind: str, said: str, *, as_json: bool) -> None:
    line: dict[str, Any] = {"at": _now(), "kind": kind, "said": said}
    typer.echo(json.dumps(line) if as_json else f"{_now()} {kind} {said}")


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _when(at: int) -> str:
    if not at:
        return "never"
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
