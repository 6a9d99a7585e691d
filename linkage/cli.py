"""
`linkage`: attack a study's encodings, score a linkage, simulate people, measure speed. It needs no
key and no broker.

Exit codes: 0 done; 2 wrong usage; 4 an input file is refused; 7 anything else is refused; 8 the
study was measured and does not pass the release gate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from linkage.attack_cli import attack
from linkage.bench_cli import app as bench_app
from linkage.evaluation.people import simulate, write_parties
from linkage.evaluation.quality import PairQuality, Quality, read_ids, read_truth, score
from linkage.refusals import refusing

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Attack a study's encodings, score a linkage, simulate people, measure speed.",
)
app.add_typer(bench_app, name="bench")
app.command()(attack)
_err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]


@app.command()
@refusing
def evaluate(
    ids: Annotated[Path, typer.Option(help="Folder with <party>.csv: record_id,cross_commons_id.")],
    truth: Annotated[Path, typer.Option(help="CSV: one row a person, one column a party.")],
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="PARTY=COLUMN", help="The truth's column of a party; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score cross-commons IDs against the truth: precision, recall and F1 by pair of parties."""
    given = read_ids(ids)
    quality = score(given, read_truth(truth, given, _mapping(column or [])))
    if as_json:
        typer.echo(json.dumps(quality.as_json(), indent=1))
    else:
        Console().print(_quality_table(quality))


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
    with Progress(console=_err, transient=True, disable=not _err.is_terminal) as bar:
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


def _mapping(pairs: list[str]) -> dict[str, str]:
    mapping = dict(pair.partition("=")[::2] for pair in pairs)
    if not all(mapping) or not all(mapping.values()):
        raise typer.BadParameter("write PARTY=COLUMN", param_hint="--column")
    return mapping


def _quality_table(quality: Quality) -> Table:
    rates = [Column(name, min_width=11) for name in ("precision", "recall")]
    counts = ("found", "true", "false", "missed")
    table = Table("parties", *rates, "F1", *counts, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for pair in quality.pairs:
        table.add_row(f"{pair.left} - {pair.right}", *_cells(pair))
    table.add_section()
    table.add_row("all", *_cells(quality.overall))
    if count := sum(quality.unknown.values()):
        table.caption = f"{count:,} records are not in the truth; a link to one counts as false"
    return table


def _cells(pair: PairQuality) -> list[str]:
    counts = (pair.found, pair.true, pair.false, pair.missed)
    rates = [(pair.precision, pair.precision_interval), (pair.recall, pair.recall_interval)]
    shown = [f"{rate:.4f}\n{low:.3f}-{high:.3f}" for rate, (low, high) in rates]
    return [*shown, f"{pair.f1:.4f}", *(f"{count:,}" for count in counts)]


if __name__ == "__main__":
    app()
