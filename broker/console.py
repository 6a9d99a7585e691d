"""What the groups of `linkage-broker` share: the home, its services, and how answers are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkage.errors import PackageRefused
from linkage.shown_text import plain_lines

if TYPE_CHECKING:
    from broker.config import Home
    from broker.container import Broker
    from broker.policy import Action, Caller, Grant

HomeOption = Annotated[
    Path, typer.Option(envvar="LINKAGE_BROKER_HOME", help="The broker's home folder.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def home_at(home: Path) -> Home:
    """
    Return the home with its settings, and use it until this process ends. Raises BrokerRefused
    naming file, key and rule, Conflict while it is being moved.
    """
    from broker.config import load_home
    from broker.in_use import hold

    # First: settings that were read before a move would name the old database.
    hold(home)
    return load_home(home)


def home_alone(home: Path) -> Home:
    """Return the home of a broker that starts. Raises KeyRefused beside a custodian's keys."""
    from linkage.roles import require_no_custodian

    found = home_at(home)
    if not found.config.server.allow_rehearsal:
        require_no_custodian(home)
    return found


def services(home: Path) -> Broker:
    """Return the services over this home. Raises BrokerRefused if it is not migrated."""
    from broker.container import Broker

    return Broker.at(home_at(home))


def console_caller() -> Caller:
    """Return whoever can log in on the broker's machine: an admin."""
    from broker.policy import Caller

    return Caller("console", None)


def granted(broker: Broker, action: Action, study_id: str) -> Grant:
    """Return what the console, an admin, may do in a study. Raises NotFound, NotAllowed."""
    return broker.studies.grant(console_caller(), action, study_id=study_id)


def bytes_of(path: Path) -> bytes:
    """Return a file's bytes. Raises PackageRefused where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as fault:
        raise PackageRefused(
            f"{path} cannot be read ({type(fault).__name__})", hint="check path and permissions"
        ) from None


def show(as_json: bool, value: Any, text: str) -> None:
    """Print the value as JSON, or the text."""
    typer.echo(json.dumps(value, indent=1) if as_json else plain_lines(text))
