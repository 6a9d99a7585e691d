"""How a command of `linkage` ends where it is refused: two lines, and an exit code."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console

from linkage.errors import HistoryAltered, LinkageError, SourceRefused

P = ParamSpec("P")
R = TypeVar("R")
_err = Console(stderr=True)


def refusing(command: Callable[P, R]) -> Callable[P, R]:
    """
    Turn a LinkageError into its two lines and an exit code: 3 for an audit log that does not
    verify, 4 for an input file, else 7.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except LinkageError as fault:
            _err.print(f"Error: {fault.message}", markup=False, highlight=False, soft_wrap=True)
            if fault.hint:
                _err.print(f"What to do: {fault.hint}", markup=False, soft_wrap=True)
            if isinstance(fault, HistoryAltered):
                raise typer.Exit(3) from None
            raise typer.Exit(4 if isinstance(fault, SourceRefused) else 7) from None

    return run
