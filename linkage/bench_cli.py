"""`linkage bench`: this machine's speed beside the field's reference packages."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from linkage.errors import LinkageError
from linkage.refusals import refusing

app = typer.Typer(no_args_is_help=True, help="Measure this machine beside reference packages.")
_err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]


@app.command()
@refusing
def encode(
    records: Annotated[int, typer.Option(min=1_000, help="Simulated people.")] = 1_000_000,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes, hardened job.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of ours; the median counts.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Where files are made; about 1 kB a record.")
    ] = None,
    clkhash_python: Annotated[
        Path | None, typer.Option(help="A Python with clkhash; default: made once, in the cache.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Encode people: plain CLKs beside clkhash, and a CSV file to a hardened, sealed package."""
    _need("numba", "joserfc")
    from linkage.evaluation.bench_encode import bench_encode

    with _err.status("starting", spinner="line") as status:
        made = bench_encode(
            records,
            workers=workers,
            repeats=repeats,
            folder=folder,
            clkhash_python=clkhash_python,
            progress=lambda step: status.update(step),
        )
    if as_json:
        typer.echo(json.dumps(asdict(made), indent=1))
        return
    table = Table("job", "records a second", box=SIMPLE_HEAD)
    table.add_row(f"plain CLKs, {made.processors} processors", f"{made.records_per_second:,.0f}")
    table.add_row(
        f"the same by clkhash {made.clkhash_version}", f"{made.clkhash_records_per_second:,.0f}"
    )
    table.add_row("ratio", f"{made.ratio:.1f} x")
    table.add_row("every bit the same", "yes" if made.identical else "NO")
    hardened = f"CSV to hardened, sealed package, {made.workers} workers"
    table.add_row(hardened, f"{made.hardened_records_per_second:,.0f}")
    table.add_row("peak of its memory", f"{made.peak_memory_mb:,.0f} MB")
    table.title = f"{made.records:,} simulated people"
    Console().print(table)


@app.command()
@refusing
def match(
    scale: Annotated[float, typer.Option(help="Times the usual input size.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Compare all pairs of CLKs, beside anonlink."""
    _need("numba")
    from linkage.evaluation.bench_match import compare

    made = compare(scale)
    if as_json:
        typer.echo(json.dumps({**asdict(made), "ratio": made.ratio}, indent=1))
        return
    table = Table("input", "million comparisons a second", box=SIMPLE_HEAD)
    table.add_row(made.size, f"{made.rate:,.1f}")
    theirs = "not installed" if made.reference_rate is None else f"{made.reference_rate:,.1f}"
    table.add_row("the same by anonlink", theirs)
    if made.ratio is not None:
        table.add_row("ratio", f"{made.ratio:.1f} x")
    Console().print(table)


def _need(*modules: str) -> None:
    from importlib.util import find_spec

    for module in modules:
        if find_spec(module) is None:
            raise LinkageError(
                f"the package {module!r} is not installed",
                hint="install commons-linkage[demo], or use `make bench`",
            )
