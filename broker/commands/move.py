"""`linkage-broker move`: from SQLite to PostgreSQL."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.console import HomeOption, JsonOption, show

if TYPE_CHECKING:
    from broker.move import Moved

_TELL_SECONDS = 5.0


def move(
    home: HomeOption,
    database_url_file: Annotated[
        Path,
        typer.Option(help="File with the URL of an empty PostgreSQL; keep it there."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at both databases and change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Move a stopped broker from SQLite to PostgreSQL, whole or not at all; the old one stays."""
    from broker.move import move as move_all

    done = move_all(home, database_url_file, dry_run=dry_run, told=_Teller())
    show(as_json, _told(done, dry_run), _said(done, dry_run))


class _Teller:
    """Says on standard error how far it is, now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, words: str) -> None:
        if time.monotonic() - self._last >= _TELL_SECONDS:
            self._last = time.monotonic()
            typer.echo(words, err=True)


def _told(done: Moved, dry_run: bool) -> dict[str, Any]:
    return {
        "moved": not dry_run,
        "was_there": done.was_there,
        "rows": done.rows,
        "tables": {one.table: {"rows": one.rows, "digest": one.digest} for one in done.tables},
        "audit_head": done.head,
        "change": done.change,
    }


def _said(done: Moved, dry_run: bool) -> str:
    what = f"{done.rows:,} rows in {len(done.tables)} tables"
    if dry_run:
        return f"{what} can be moved. Nothing was changed."
    came = "were there already, whole" if done.was_there else "were moved"
    lines = [
        f"{what} {came}; counts and digests are the same in both databases, the audit log verifies."
    ]
    if done.change:
        lines.append(f"Before you start anything: {done.change}. Else the old one goes on.")
    else:
        lines.append("config.toml names the new database. Start server and worker.")
    lines.append("The old one was only read. Back up the new one before you delete it.")
    return "\n".join(lines)
