"""`linkage-site bench-cohort`: how long a cohort takes at full size, on this machine."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sites.terminal import DryRun, Steps, show, told, would

Index = Annotated[
    Path | None,
    typer.Option(help="Series table in the columns of the Imaging Data Commons index."),
]


@told
def bench_cohort(
    index: Index = None,
    series: Annotated[
        int, typer.Option(min=0, help="Make so many series instead of reading an index.")
    ] = 0,
    persons: Annotated[int, typer.Option(min=1, help="Persons of the enclave.")] = 1_000_000,
    rows: Annotated[int, typer.Option(min=6, help="Clinical rows of them.")] = 50_000_000,
    linked: Annotated[int, typer.Option(min=1, help="Subjects that are persons.")] = 86_000,
    spec: Annotated[Path | None, typer.Option(help="A specification to ask instead.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder that keeps the made OMOP tables.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Measure the answer, the counts and the delivery of a cohort on made clinical data."""
    from linkage.cohort.spec import load_spec, parse_spec
    from sites.cohort.bench import QUESTION, Plan, run
    from sites.cohort.bench_data import Sizes, write_omop, write_series

    asked_for = load_spec(spec) if spec else parse_spec(QUESTION)
    if asked_for.imaging.dates:
        raise typer.BadParameter(
            "counts days from the image, and the dates of the index are shifted per subject",
            param_hint="--spec",
        )
    found = None if series else index or _installed_index()
    if dry_run:
        asked: dict[str, object] = {"index": str(found or f"{series:,} made series")}
        would("measure", {**asked, "persons": persons, "rows": rows}, as_json=as_json)
        return
    with tempfile.TemporaryDirectory(prefix="bench-cohort-") as made, Steps() as progress:
        folder = Path(made)
        if found is None:
            write_series(found := folder / "series.parquet", series)
        # Named by its sizes: what an earlier run made is used again.
        omop = (data or folder) / f"omop-{persons}-{rows}"
        if not omop.exists():
            progress.stage("making OMOP tables")
            write_omop(unfinished := omop.with_name(f"{omop.name}.part"), Sizes(persons, rows))
            unfinished.rename(omop)
        work = folder / "work"
        plan = Plan(index=found, omop=omop, work=work, linked=linked, spec=asked_for)
        measured = run(plan, told=progress.stage)
    show("Measured", measured, as_json=as_json)


def _installed_index() -> Path:
    """Return the index that the package idc-index-data holds, without importing it."""
    package = importlib.util.find_spec("idc_index_data")
    path = Path(package.origin).parent / "idc_index.parquet" if package and package.origin else None
    if path is None or not path.exists():
        raise typer.BadParameter(
            "is needed: install the package idc-index-data (into an environment of its own will do)"
            " and name its idc_index.parquet; or make one with --series 1000000",
            param_hint="--index",
        )
    return path
