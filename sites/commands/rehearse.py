"""`linkage-site rehearse` and `linkage-site demo`: a whole linkage on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sites.terminal import DryRun, Steps, show, told, would

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep keys, packages and the broker's folder.")]
DatabaseFile = Annotated[
    Path | None, typer.Option(help="File with a PostgreSQL URL for the broker; default: SQLite.")
]


@told
def rehearse(
    study: Annotated[Path, typer.Argument(help="The study file (TOML).")],
    site: Annotated[list[Path], typer.Option(help="A site file; one for every party.")],
    out: Annotated[Path, typer.Option(help="Folder for IDs and reports.")],
    truth: Annotated[Path | None, typer.Option(help="Who is who, to score with.")] = None,
    cohort: Annotated[Path | None, typer.Option(help="A cohort to deliver as well.")] = None,
    database_url_file: DatabaseFile = None,
    keep: Keep = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Link all parties of a study on this machine, through a real broker on loopback."""
    from sites.rehearsal import RehearsalPlan, checked
    from sites.rehearsal_report import rehearse_and_report

    plan = RehearsalPlan(
        study_file=study,
        site_files=tuple(site),
        out=out,
        database_url_file=database_url_file,
        keep=keep,
    )
    if dry_run:
        would("rehearse", checked(plan), as_json=as_json)
        return
    with Steps(quiet=as_json) as steps:
        report = rehearse_and_report(plan, steps, truth=truth, cohort=cohort)
    show("Linked", report.summary(), as_json=as_json, data=report.numbers)


@told
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("demo-out"),
    persons: Annotated[int, typer.Option(min=200, help="Simulated persons.")] = 5_200,
    seed: Annotated[int, typer.Option(help="Seed of the simulated persons.")] = 1,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """See it work: simulate three commons, link them, deliver a joined cohort. No network."""
    from sites.demo import prepare_demo
    from sites.rehearsal_report import rehearse_and_report

    if dry_run:
        would("simulate and link", {"persons": f"{persons:,}", "folder": out}, as_json=as_json)
        return
    with Steps(quiet=as_json) as steps:
        steps.stage("simulate persons")
        prepared = prepare_demo(out, persons, seed)
        report = rehearse_and_report(
            prepared.plan, steps, truth=prepared.truth, cohort=prepared.cohort
        )
    show("The demo is done", report.summary(), as_json=as_json, data=report.numbers)
