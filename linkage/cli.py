"""
`linkage`: attack a study's encodings, score a linkage, simulate people, measure speed, verify a
broker's audit log. It needs no key and no broker.

Exit codes: 0 done; 2 wrong usage; 3 an audit log does not verify; 4 an input file is refused; 7
anything else is refused; 8 the study was measured and does not pass the release gate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

from linkage.attack_cli import attack
from linkage.audit_cli import app as audit_app
from linkage.bench_cli import app as bench_app
from linkage.evaluate_cli import evaluate
from linkage.evaluation.people import simulate, write_parties
from linkage.program import Program
from linkage.refusals import refusing

app = Program(
    help="Attack a study's encodings, score a linkage, simulate people, measure speed.",
)
app.add_typer(bench_app, name="bench")
app.add_typer(audit_app, name="audit")
app.command()(attack)
app.command()(evaluate)
_err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]


class Rate(ProgressColumn):
    """How many a second, as of late."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {self._unit}" if task.speed else "")


@app.command()
@refusing
def people(
    n: Annotated[int, typer.Argument(metavar="N", help="How many different persons.")],
    out: Annotated[Path, typer.Option(help="Folder for the files; made if it is not there.")],
    seed: Annotated[int, typer.Option(help="The same seed makes the same people.")] = 1,
    contact: Annotated[
        bool, typer.Option("--contact", help="Add zip, phone and email to each file.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write simulated people as three commons would hold them, and truth.csv: who is who."""
    simulated = simulate(n, seed)
    columns = (*Progress.get_default_columns(), Rate("people/s"))
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as bar:
        task = bar.add_task("people", total=n)
        paths = write_parties(
            simulated,
            out,
            contact=contact,
            progress=lambda persons: bar.update(task, completed=persons),
        )
    if as_json:
        typer.echo(json.dumps({name: str(path) for name, path in paths.items()}, indent=1))
    else:
        for path in paths.values():
            typer.echo(path)


if __name__ == "__main__":
    app()
