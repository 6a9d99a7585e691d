"""
Image manifests: which files to fetch, one row a series.

Fetching just the matched images from the imaging commons tells it who matched. So what is written
follows the study's `image_retrieval`:

    cover       image_manifest.csv lists every series that fits the imaging criteria, matched or
                not; the imaging party makes it (`cover_manifest`). Which of them belong to the
                cohort says cohort_series.csv, which holds no address, only to be used after the
                fetch, inside the enclave.
    mirror      image_manifest.csv lists the matched series, to be read from the enclave's own copy.
    disclosed   image_manifest.csv lists the matched series; the stewards accept what that tells.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import PackageRefused

Retrieval = Literal["cover", "mirror", "disclosed"]

MANIFEST = pa.schema(
    [
        pa.field("series_uid", pa.string(), nullable=False),
        pa.field("study_uid", pa.string(), nullable=False),
        pa.field("reference", pa.string()),
        pa.field("instances", pa.int64()),
        pa.field("size_bytes", pa.int64()),
        pa.field("object_id", pa.string()),
        pa.field("file_name", pa.string()),
        pa.field("md5sum", pa.string()),
    ]
)
"""
One row a series. reference: S3 address (s3://bucket/folder/*) or DRS address; object_id: Gen3.
"""

MANIFEST_FILE = "image_manifest.csv"
GEN3_FILE = "gen3_manifest.json"
COHORT_SERIES_FILE = "cohort_series.csv"
README_FILE = "README.txt"

_README: dict[Retrieval, str] = {
    "cover": """\
STOP: READ THIS BEFORE YOU FETCH ANY IMAGE.

This study hides from the imaging commons which of its subjects are in the cohort
(image_retrieval = "cover"). Fetching only the images of the cohort would tell it.

1. Fetch EVERYTHING in image_manifest.csv: all series that fit the imaging criteria, matched or not.
2. Only then, inside the enclave, keep the series that are in cohort_series.csv.
NEVER send cohort_series.csv, or queries made from it or from image_occurrence, to the imaging
commons or to any other server outside the enclave: that discloses who matched.
""",
    "mirror": """\
image_manifest.csv lists the images of the cohort (image_retrieval = "mirror").

Read them from the enclave's own copy only (local_path in image_occurrence). Fetching the
addresses in this list from the imaging commons would tell it which of its subjects matched.
""",
    "disclosed": """\
image_manifest.csv lists the images of the cohort (image_retrieval = "disclosed").

The stewards of this study accept that whoever serves these images learns which subjects matched.
""",
}

_NO_COVER = """
The imaging commons sent no list of all fitting series, so there is no image_manifest.csv here.
Ask its operator for one; do not fetch the series of cohort_series.csv instead.
"""

_GEN3 = """
gen3_manifest.json holds the same for Gen3: gen3-client download-multiple --manifest.
"""


def manifest_of(rows: pa.Table) -> pa.Table:
    """Return the MANIFEST of series rows (SERIES_SCHEMA), by series UID: no subject, no order."""
    manifest = rows.select(MANIFEST.names).cast(MANIFEST)
    drs = pc.replace_substring(manifest["object_id"], "/", ":", max_replacements=1)
    drs = pc.binary_join_element_wise("drs://", drs, "")  # compact identifier, DRS 1.1
    reference = pc.coalesce(manifest["reference"], drs)
    manifest = manifest.set_column(2, MANIFEST.field("reference"), reference)
    return manifest.sort_by("series_uid")


def cover_manifest(rows: pa.Table) -> bytes:
    """
    Return, at the imaging party, the manifest of every series that fits, as an Arrow IPC stream.

    It names no subject, and the enclave gets it whoever matched.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, MANIFEST) as writer:
        writer.write_table(manifest_of(rows))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def cover_manifest_from_bytes(content: bytes) -> pa.Table:
    """Read what `cover_manifest` made. Raises PackageRefused for anything else."""
    try:
        with pa.ipc.open_stream(pa.BufferReader(content)) as reader:
            table = reader.read_all()
            table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError):
        table = None
    if table is None or not table.schema.equals(MANIFEST):
        raise PackageRefused(
            "the imaging party's list of images cannot be read",
            hint="both ends must run the same version; ask for the delivery again",
        )
    return table


def write_manifests(
    folder: Path,
    retrieval: Retrieval,
    *,
    image_occurrence: pa.Table,
    rows: pa.Table,
    cover: pa.Table | None,
    commons_url: str | None = None,
) -> tuple[str, ...]:
    """
    Write the manifests of a delivery into `folder`, and a README that says how to use them.

    image_occurrence, rows: parallel. cover: the imaging party's MANIFEST, for "cover" only.
    commons_url: Gen3 host for the JSON form. Returns warnings for the report.
    """
    folder.mkdir()
    readme = _README[retrieval]
    warnings: list[str] = []
    listed = cover if retrieval == "cover" else manifest_of(rows)
    if listed is None:
        readme += _NO_COVER
        warnings.append("there is no image manifest: the imaging commons sent no list to cover")
    else:
        _write_csv(folder / MANIFEST_FILE, listed)
        if gen3 := gen3_manifest(listed, commons_url):
            (folder / GEN3_FILE).write_text(json.dumps(gen3, indent=1) + "\n", encoding="utf-8")
            readme += _GEN3
        missing = listed["reference"].null_count
        if missing:
            warnings.append(f"{missing} series of the image manifest have no address")
    if retrieval == "cover":
        names = {"image_occurrence_id", "image_study_uid", "image_series_uid"}
        columns = [name for name in image_occurrence.column_names if name in names]
        _write_csv(folder / COHORT_SERIES_FILE, image_occurrence.select(columns))
        warnings.append("fetch all of image_manifest.csv, never only the series of the cohort")
    (folder / README_FILE).write_text(readme, encoding="utf-8")
    return tuple(warnings)


def gen3_manifest(manifest: pa.Table, commons_url: str | None) -> list[dict[str, Any]]:
    """Return the JSON form for gen3-client, of the rows that have an object_id."""
    made = []
    for row in manifest.filter(pc.is_valid(manifest["object_id"])).to_pylist():
        entry = {
            "object_id": row["object_id"],
            "file_name": row["file_name"],
            "file_size": row["size_bytes"],
            "md5sum": row["md5sum"],
            "commons_url": commons_url,
        }
        made.append({name: value for name, value in entry.items() if value is not None})
    return made


def _write_csv(path: Path, table: pa.Table) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.column_names)
        writer.writerows(_rows(table))


def _rows(table: pa.Table) -> Iterable[tuple[Any, ...]]:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
