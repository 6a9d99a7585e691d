"""docs/broker.md names every command, setting and address; what is not there does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer
from fastapi.routing import APIRoute

from broker.cli import app
from broker.config import BrokerConfig
from broker.routes import (
    access,
    accounts,
    assertions,
    audit,
    governance,
    health,
    jobs,
    offered,
    proposals,
    relay,
    reviews,
    runs,
    second_looks,
    sessions,
    storage,
    studies,
    system,
    uploads,
)

PAGE = (Path(__file__).parents[3] / "docs" / "broker.md").read_text(encoding="utf-8")


def commands(group: typer.Typer, before: str = "") -> Iterator[str]:
    for one in group.registered_commands:
        assert one.callback
        yield f"{before}{one.name or one.callback.__name__}"
    for other in group.registered_groups:
        assert other.typer_instance
        yield from commands(other.typer_instance, f"{before}{other.name} ")


def test_every_command_is_documented() -> None:
    found = list(commands(app))
    assert len(found) >= 12
    table = PAGE.split("## Commands and exit codes")[1]
    missing = [one for one in found if not re.search(rf"`linkage-broker {one}[` ]", table)]
    assert missing == []


def test_every_setting_is_documented_and_no_other() -> None:
    table = PAGE.split("## Settings")[1].split("## PostgreSQL")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("|")]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    known = {
        name
        for part in BrokerConfig.model_fields.values()
        for name in part.default.__class__.model_fields
    }
    assert told == known


def test_every_address_is_documented_and_no_other() -> None:
    told = set(re.findall(r"`((?:GET|POST|PUT|DELETE) /[^`]*)`", PAGE.split("## The API")[1]))
    known = {
        f"{method} {route.path_format}"
        for module in (
            *(health, studies, uploads, assertions, runs, second_looks, jobs, relay, audit),
            reviews,
            governance,
            access,
            accounts,
            storage,
            system,
            proposals,
            offered,
        )
        for route in module.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    known |= {
        f"{method} {route.path}"
        for route in sessions.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert told == known
