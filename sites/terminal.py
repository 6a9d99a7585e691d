"""
What a person sees at the terminal: progress, summaries, errors; and JSON for programs.

Exit codes: 0 done; 1 a bug of ours (please report it); 2 wrong usage; 3 a study, site or cohort
file is refused; 4 the input data is refused; 5 a key or a sealed package is refused; 6 the
broker refuses or does not answer; 7 the linkage or a delivery failed, a worker died, the disk is
full or a path cannot be used; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Annotated, Any, ParamSpec, Self, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from linkage import errors
from linkage.shown_text import plain
from sites.workers import A_BUG, without_values

P = ParamSpec("P")
R = TypeVar("R")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and say; write and send nothing.")]

out = Console()
err = Console(stderr=True)

EXIT_CODES: tuple[tuple[type[errors.LinkageError], int], ...] = (
    (errors.ConfigRefused, 3),
    (errors.SchemaRefused, 3),
    (errors.SourceRefused, 4),
    (errors.EncodingRefused, 4),
    (errors.KeyRefused, 5),
    (errors.PackageRefused, 5),
    (errors.CallerRefused, 6),
    (errors.NotFound, 6),
    (errors.Conflict, 6),
    (errors.Unreachable, 6),
    (errors.MatchingFailed, 7),
    (errors.DeliveryFaulty, 7),
)


def exit_code(fault: errors.LinkageError) -> int:
    """Return the documented exit code of an error; 7 where none other fits."""
    if fault.message.startswith(A_BUG):  # a worker's, which comes back without its kind
        return 1
    return next((code for kind, code in EXIT_CODES if isinstance(fault, kind)), 7)


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command: a LinkageError becomes two red lines and an exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except errors.LinkageError as fault:
            _tell("Error:", fault.message)
            if fault.hint:
                _tell("What to do:", fault.hint, style="bold")
            for other in getattr(fault, "others", ()):
                _tell("Also:", other.message)
                _tell("", f" {other.hint}")
            raise typer.Exit(exit_code(fault)) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            err.print("Stopped by you. The same command may be run again at any time.")
            raise typer.Exit(130) from None
        except Exception as fault:  # its text could hold a value of a record
            bug = without_values(fault)
            _tell("Error:", bug.message)
            _tell("What to do:", bug.hint, style="bold")
            raise typer.Exit(exit_code(bug)) from None

    return run


def show(title: str, rows: dict[str, object], *, as_json: bool = False, data: Any = None) -> None:
    """Print a short summary, or `data` (default: the rows) as JSON where a program reads it."""
    if as_json:
        typer.echo(json.dumps(data if data is not None else rows, indent=1, default=str))
        return
    # As Text: in a string, a backslash before a bracket would begin markup of others.
    out.print(Text(plain(title), "bold green"))
    width = max((len(label) for label in rows), default=0)
    for label, value in rows.items():
        out.print(Text(plain(f"  {label:<{width}}  {value}")), soft_wrap=True)


def would(what: str, rows: dict[str, object], *, as_json: bool = False) -> None:
    """Say what a dry run left undone."""
    data = {"dry_run": True, "would": what, **rows}
    show(f"Dry run: would {what}; nothing was written or sent", rows, as_json=as_json, data=data)


_ESTIMATED = frozenset({"check", "encode", "resume", "profile", "read the source"})
"""Steps that count a source's records, whose number is known only at its end."""


class Steps:
    """Progress of a long job on a terminal; silent in a pipe. An `Observer` of rehearsals."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=quiet or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("starting", total=None)
        self._step, self._since, self._first = "", 0.0, 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def stage(self, name: str) -> None:
        self._bar.reset(self._task, description=name, total=None)

    def progress(self, share: float) -> None:
        self._bar.update(self._task, total=1.0, completed=share)

    def step(self, name: str, done: int, total: int) -> None:
        """Show `done` of `total` (0: unknown) of the step `name`, its rate and the time left."""
        now = time.monotonic()
        if name != self._step:
            self._step, self._since, self._first = name, now, done
        about = "about " if name in _ESTIMATED else ""
        label = f"{name} {done:,} of {about}{total:,}" if total else f"{name} {done:,}"
        if not done and not total:
            label = name
        spent, made = now - self._since, done - self._first
        if spent > 1 and made > 0:
            rate = made / spent
            label += f", {rate:,.0f}/s"
            if total > done:
                label += f", {_clock((total - done) / rate)} left"
        self._bar.update(self._task, description=label, total=total or None, completed=done)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _tell(label: str, said: str, *, style: str = "bold red") -> None:
    err.print(Text.assemble((label, style), " ", plain(said)), soft_wrap=True)
