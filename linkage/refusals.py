"""How a command of `linkage` ends where it is refused: two lines, and an exit code."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from linkage.errors import HistoryAltered, LinkageError, SourceRefused
from linkage.foreign_letters import foreign_letter
from linkage.shown_text import plain

P = ParamSpec("P")
R = TypeVar("R")
_err = Console(stderr=True)


def refusing(command: Callable[P, R]) -> Callable[P, R]:
    """
    Turn a LinkageError into its two lines and an exit code: 3 for an audit log that does not
    verify, 4 for an input file, else 7; also for a file that the system does not let us use.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except LinkageError as fault:
            _err.print(Text(plain(f"Error: {fault.message}")), soft_wrap=True)
            if fault.hint:
                _err.print(Text(plain(f"What to do: {fault.hint}")), soft_wrap=True)
            if isinstance(fault, HistoryAltered):
                raise typer.Exit(3) from None
            raise typer.Exit(4 if isinstance(fault, SourceRefused) else 7) from None
        except OSError as fault:
            if fault.errno == errno.EPIPE:  # whoever read has enough; typer ends without a word
                raise
            named = isinstance(fault.filename, str | bytes)
            place = os.fsdecode(fault.filename) if named else "a file"
            rule = f"{place} cannot be read or written: {fault.strerror or type(fault).__name__}"
            _err.print(f"Error: {rule}", markup=False, highlight=False, soft_wrap=True)
            hint = "check the path, that this account may use it, and that there is space"
            _err.print(f"What to do: {hint}", markup=False, soft_wrap=True)
            raise typer.Exit(7) from None
        except UnicodeEncodeError as fault:
            said = foreign_letter(fault)
            if said is None:
                raise
            _err.print(f"Error: {said.message}\nWhat to do: {said.hint}", soft_wrap=True)
            raise typer.Exit(7) from None

    return run
