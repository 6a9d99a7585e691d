"""`linkage-site read-dicom`: measurements and acquisition parameters of DICOM files, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkage.errors import Conflict, SourceRefused
from sites.terminal import DryRun, Steps, show, told, would


@told
def read_dicom(
    folder: Annotated[Path, typer.Argument(help="A folder of DICOM files, or a DICOMDIR.")],
    out: Annotated[Path, typer.Option(help="A folder that gets the two tables.")],
    report_dates: Annotated[
        bool,
        typer.Option(
            "--report-dates", help="Dates of reports are in the same frame as the study dates."
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """
    Read structured reports and image headers once, so that questions need not.

    Writes OUT/features.parquet and OUT/acquisition.parquet, for the imaging table of the site file.
    No names, no PatientID, no pixels and no free text are read.
    """
    import pyarrow.parquet as pq

    from sites.cohort import imaging_dicom
    from sites.sources.dicom_files import files_of

    if not folder.exists():
        raise SourceRefused(
            file=str(folder), rule="there is no such folder or DICOMDIR", hint="check FOLDER"
        )
    paths = [out / "features.parquet", out / "acquisition.parquet"]
    if any(path.exists() for path in paths):
        raise Conflict("the tables are already there", hint="name a new folder with --out")
    if dry_run:
        files = sum(1 for _ in files_of(folder, folder.name))
        would("read", {"files": files, "write": f"{paths[0]} and {paths[1]}"}, as_json=as_json)
        return
    with Steps() as progress:
        progress.stage("reading DICOM files")
        files_found = files_of(folder, folder.name)
        read = imaging_dicom.read_dicom(files_found, report_dates=report_dates)
    skipped = sorted(read.passed_over.items())
    if read.files == read.skipped:
        told_why = "".join(f"; {why}: {count:,}" for why, count in skipped)
        raise SourceRefused(
            file=str(folder),
            rule=f"holds no DICOM file that can be read, of {read.files:,} files{told_why}",
            hint="name the folder above the files",
        )
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path, table in zip(paths, (read.features, read.acquisition), strict=True):
        pq.write_table(table, unfinished := path.with_suffix(".part"))
        unfinished.chmod(0o600)
        unfinished.rename(path)
    found = {
        "files": read.files,
        "skipped": read.skipped,
        **{f"skipped, {why}": count for why, count in skipped},
        "measurement reports": read.reports,
        "features": read.features.num_rows,
        "series": read.acquisition.num_rows,
    }
    if report_dates:
        found["dates left out, before their study"] = read.too_early
    show("Read", found, as_json=as_json)
