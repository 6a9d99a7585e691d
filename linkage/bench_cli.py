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
    left: Annotated[int, typer.Option(help="Filters of one side.")] = 20_000,
    right: Annotated[int, typer.Option(help="Filters of the other.")] = 20_000,
    bits: Annotated[int, typer.Option(help="Length: 512, 1024, 2048 or 4096.")] = 1024,
    threshold: Annotated[float, typer.Option(help="Least Dice coefficient, inclusive.")] = 0.8,
    filters: Annotated[
        str,
        typer.Option(help="random; people: CLKs of simulated people; diffused: as studies send."),
    ] = "random",
    seed: Annotated[int, typer.Option(help="Seed of the made-up filters.")] = 1,
    as_json: Json = False,
) -> None:
    """Compare all pairs of CLKs, beside anonlink."""
    _need("numba")
    from linkage.evaluation.bench_match import compare

    console = Console(stderr=True)
    with console.status("") as status:
        made = compare(
            left,
            right,
            bits,
            threshold=threshold,
            filters=filters,
            seed=seed,
            progress=status.update,
        )
    if as_json:
        typer.echo(json.dumps(asdict(made), indent=1))
        return
    table = Table("", "million comparisons a second", "times anonlink", box=SIMPLE_HEAD)
    for what, rate, ratio in (
        (f"ours, {made.threads} threads", made.comparisons_per_second, made.ratio),
        ("ours, one thread", made.comparisons_per_second_one_thread, made.ratio_one_thread),
        ("anonlink, one thread", made.anonlink_comparisons_per_second, None),
    ):
        rated = "not installed" if rate is None else f"{rate / 1e6:,.0f}"
        table.add_row(what, rated, "" if ratio is None else f"{ratio:.1f}")
    same = {None: "not compared", True: "the same", False: "DIFFERENT"}[made.identical]
    table.add_row(f"answers ({made.pairs:,} pairs)", same, "")
    table.title = f"{left:,} x {right:,} ({filters}) of {bits:,} bits, Dice at least {threshold}"
    Console().print(table)


def _need(*modules: str) -> None:
    from importlib.util import find_spec

    for module in modules:
        if find_spec(module) is None:
            raise LinkageError(
                f"the package {module!r} is not installed",
                hint="install commons-linkage[demo], or use `make bench`",
            )
