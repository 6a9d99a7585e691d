"""
Image manifests: which files to fetch, one row a series, and one a file that comes with the images.

Fetching just the matched images from the imaging commons tells it who matched. So what is written
follows the study's `image_retrieval`:

    cover       image_manifest.csv lists every series that fits the imaging criteria, matched or
                not; the imaging party makes it (`cover_manifest`). Which of them belong to the
                cohort says cohort_series.csv, which holds no address, only to be used after the
                fetch, inside the enclave.
    mirror      image_manifest.csv lists the matched series, to be read from the enclave's own copy.
    disclosed   image_manifest.csv lists the matched series; the stewards accept what that tells.

The same list in the forms that clients take, where it has such addresses, and never for "mirror",
whose images are read from the enclave's own copy: gen3_manifest.json (gen3-client),
drs_manifest.txt (DRS addresses), s3_manifest.s5cmd (s5cmd run), dicomweb_manifest.txt (WADO-RS
addresses of series). An address that a client could read as something else is left out and counted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from linkage.errors import PackageRefused
from sites.cohort.mi_cdm_tables import filled

Retrieval = Literal["cover", "mirror", "disclosed"]

MANIFEST = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("study_uid", pa.string()),
        pa.field("series_uid", pa.string()),
        pa.field("reference", pa.string()),
        pa.field("wadors_uri", pa.string()),
        pa.field("instances", pa.int64()),
        pa.field("size_bytes", pa.int64()),
        pa.field("object_id", pa.string()),
        pa.field("file_name", pa.string()),
        pa.field("md5sum", pa.string()),
    ]
)
"""
kind: "series", or of a file beside the images (SEG, annotation, radiology_report ...), which may
name no series. reference: S3 address (s3://bucket/folder/*) or DRS address. wadors_uri: of the
series. object_id: Gen3.
"""

MANIFEST_FILE = "image_manifest.csv"
GEN3_FILE = "gen3_manifest.json"
DRS_FILE = "drs_manifest.txt"
S3_FILE = "s3_manifest.s5cmd"
DICOMWEB_FILE = "dicomweb_manifest.txt"
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

_CLIENTS = {
    GEN3_FILE: "gen3-client download-multiple --manifest gen3_manifest.json",
    DRS_FILE: "any client of GA4GH DRS: one address a line",
    S3_FILE: "s5cmd --no-sign-request run s3_manifest.s5cmd, in the folder that is to hold them",
    DICOMWEB_FILE: "any DICOMweb client: WADO-RS, one series a line",
}

_DRS = r"^drs://[A-Za-z0-9._~:/-]+$"
_S3 = r"^s3://[A-Za-z0-9._~/*=+-]+$"
_HTTP = r"^https?://[A-Za-z0-9._~:/?=&%-]+$"
"""Addresses as they may stand in a list that another program runs."""


def manifest_of(rows: pa.Table, files: pa.Table | None = None) -> pa.Table:
    """
    Return the MANIFEST of series rows (SERIES_SCHEMA) and files (FILES_SCHEMA): no subject.

    Ordered by kind, study, series and address, whatever the order of the rows.
    """
    of_series = pc.binary_join_element_wise(rows["wadors_uri"], rows["series_uid"], "/series/")
    series = {name: rows[name] for name in MANIFEST.names if name in rows.column_names}
    made = [filled(MANIFEST, series | {"wadors_uri": of_series, "kind": _kinds(rows)},
                   rows.num_rows)]  # fmt: skip
    if files is not None and files.num_rows:
        beside = {name: files[name] for name in MANIFEST.names if name in files.column_names}
        made.append(filled(MANIFEST, beside, files.num_rows))
    manifest = pa.concat_tables(made)
    drs = pc.replace_substring(manifest["object_id"], "/", ":", max_replacements=1)
    drs = pc.binary_join_element_wise("drs://", drs, "")  # compact identifier, DRS 1.1
    at = MANIFEST.get_field_index("reference")
    manifest = manifest.set_column(
        at, MANIFEST.field("reference"), pc.coalesce(manifest["reference"], drs)
    )
    order = ("kind", "study_uid", "series_uid", "reference", "file_name", "object_id")
    return manifest.sort_by([(name, "ascending") for name in order])


def _kinds(rows: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar("series"), rows.num_rows)


def cover_manifest(rows: pa.Table, files: pa.Table | None = None) -> bytes:
    """
    Return, at the imaging party, the manifest of every series that fits, as an Arrow IPC stream.

    It names no subject, and the enclave gets it whoever matched.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, MANIFEST) as writer:
        writer.write_table(manifest_of(rows, files))
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
    files: pa.Table | None = None,
    commons_url: str | None = None,
) -> tuple[str, ...]:
    """
    Write the manifests of a delivery into `folder`, and a README that says how to use them.

    image_occurrence, rows: parallel. files: of these series' studies, FILES_SCHEMA. cover: the
    imaging party's MANIFEST, for "cover" only.
    commons_url: Gen3 host for the JSON form. Returns warnings for the report.
    """
    folder.mkdir()
    readme = _README[retrieval]
    warnings: list[str] = []
    listed = cover if retrieval == "cover" else manifest_of(rows, files)
    if listed is None:
        readme += _NO_COVER
        warnings.append("there is no image manifest: the imaging commons sent no list to cover")
    else:
        _write_csv(folder / MANIFEST_FILE, listed)
        if retrieval != "mirror":
            made, odd = _for_clients(folder, listed, commons_url)
            readme += "".join(f"\n{name}: {_CLIENTS[name]}.\n" for name in made)
            if odd:
                warnings.append(f"{odd} addresses are in no list for a client: they look odd")
        missing = listed["reference"].null_count
        if missing:
            warnings.append(f"{missing} rows of the image manifest have no address")
    if retrieval == "cover":
        names = {"image_occurrence_id", "image_study_uid", "image_series_uid"}
        columns = [name for name in image_occurrence.column_names if name in names]
        _write_csv(folder / COHORT_SERIES_FILE, image_occurrence.select(columns))
        warnings.append("fetch all of image_manifest.csv, never only the series of the cohort")
    (folder / README_FILE).write_text(readme, encoding="utf-8")
    return tuple(warnings)


def _for_clients(folder: Path, listed: pa.Table, commons_url: str | None) -> tuple[list[str], int]:
    """Write the lists that clients take; return their names, and how many addresses look odd."""
    made = []
    if gen3 := gen3_manifest(listed, commons_url):
        (folder / GEN3_FILE).write_text(json.dumps(gen3, indent=1) + "\n", encoding="utf-8")
        made.append(GEN3_FILE)
    reference, web = listed["reference"], listed["wadors_uri"]
    drs, s3, http = (
        pc.fill_null(pc.match_substring_regex(column, pattern), False)
        for column, pattern in ((reference, _DRS), (reference, _S3), (web, _HTTP))
    )
    buckets = listed.filter(s3)
    folders = pc.binary_join_element_wise(
        pc.fill_null(buckets["study_uid"], "files"), pc.fill_null(buckets["series_uid"], "other"),
        "/")  # fmt: skip
    lists = {
        DRS_FILE: reference.filter(drs).to_pylist(),
        S3_FILE: [
            f"cp {address} {target}/"
            for address, target in zip(
                buckets["reference"].to_pylist(), folders.to_pylist(), strict=True
            )
        ],
        DICOMWEB_FILE: web.filter(http).to_pylist(),
    }
    for name, lines in lists.items():
        if lines:
            (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
            made.append(name)
    taken = pc.sum(pc.or_(drs, s3)).as_py() or 0
    odd = len(reference) - reference.null_count - taken
    return made, odd + len(web) - web.null_count - len(lists[DICOMWEB_FILE])


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
    options = pa.csv.WriteOptions(quoting_style="needed", quoting_header="needed")
    pa.csv.write_csv(table, path, options)
