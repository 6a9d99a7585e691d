"""
How each of the four programs begins: it says its version, and nothing that it says fails for want
of a letter.

A terminal, a pipe or a job scheduler may say that it takes ASCII alone. A title with an umlaut then
reads `L\\xfcbeck`, and the command goes on. JSON is ASCII in any case.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Annotated, Any

import typer

PACKAGE = "commons-linkage"


class Program(typer.Typer):
    """A command line in the house's manner: help, version, escapes for letters not at hand."""

    def __init__(self, *, help: str) -> None:
        super().__init__(
            help=help,
            no_args_is_help=True,
            add_completion=False,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        self.callback()(_options)

    def add_panels(
        self, panels: Mapping[str, Mapping[str, Callable[..., Any] | typer.Typer]]
    ) -> None:
        """Add commands, and groups of them, by title in the help and name."""
        for title, commands in panels.items():
            for name, one in commands.items():
                if isinstance(one, typer.Typer):
                    self.add_typer(one, name=name, rich_help_panel=title)
                else:
                    self.command(name, rich_help_panel=title)(one)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command that was typed."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().__call__(*args, **kwargs)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PACKAGE} {version(PACKAGE)}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_say_version,
            is_eager=True,
            help="Say the version; all sites of a study and the custodian need the same.",
        ),
    ] = False,
) -> None:
    """Take what may stand before a command."""
