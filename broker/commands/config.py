"""`linkage-broker config`: which settings are in force, and where each is from."""

from __future__ import annotations

import os

import typer

from broker.console import HomeOption, JsonOption, home_at, show

config = typer.Typer(no_args_is_help=True, help="The broker's settings.")


@config.command()
def check(home: HomeOption, as_json: JsonOption = False) -> None:
    """Read every setting, show those in force and where each is from; secrets are hidden."""
    from broker.config import BrokerConfig
    from broker.settings import from_environment, in_force

    found = home_at(home)
    found.database_url()
    found.public()
    over = from_environment(os.environ, BrokerConfig)
    settings = in_force(found.config, over)
    width = max(len(one.name) for one in settings)
    lines = [f"{one.name:<{width}}  {one.source:<11}  {one.value}".rstrip() for one in settings]
    lines += ["", f"{len(settings)} settings, all understood."]
    values = {one.name: {"value": one.value, "source": one.source} for one in settings}
    show(as_json, values, "\n".join(lines))
