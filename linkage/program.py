"""
How each of the four programs begins: nothing that it says fails for want of a letter.

A terminal, a pipe or a job scheduler may say that it takes ASCII alone. A title with an umlaut then
reads `L\\xfcbeck`, and the command goes on. JSON is ASCII in any case.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import typer


class Program(typer.Typer):
    """A command line that shows as an escape what its output has no letter for."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command that was typed."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().__call__(*args, **kwargs)
