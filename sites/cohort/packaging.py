"""
What makes a folder of tables a data set that others can use: provenance, RO-Crate, checksums.

    with new_folder(out) as folder:    it becomes `out` when all went well
    write_provenance(folder, ...)      provenance.json: how it came about
    write_crate(folder, ...)           ro-crate-metadata.json, RO-Crate 1.1
    write_checksums(folder)            SHA256SUMS: `sha256sum --check SHA256SUMS`

Nothing here has a clock: the same delivery, joined again, gives the same bytes, but for the DuckDB
file and its checksum, which no other file holds (duckdb_file.py).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from linkage.errors import Conflict
from linkage.study_parts import CountRules
from linkage.uses import Use
from sites.cohort.calendar import ANCHOR
from sites.cohort.dates import CONFIDENCE
from sites.cohort.duckdb_file import CHECKSUM_FILE, CONTENT_FILE, DUCKDB_FILE
from sites.cohort.layout import BY_PATH
from sites.cohort.notices import TERMS_FILE

PROVENANCE_FILE = "provenance.json"
CRATE_FILE = "ro-crate-metadata.json"
CHECKSUMS_FILE = "SHA256SUMS"
_SOFTWARE = ("commons-linkage", "duckdb", "ibis-framework", "pyarrow")
_FORMATS = {
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
_ABOUT = {
    "data_dictionary.csv": "Every column of every table: type, key, references, meaning",
    "provenance.json": "Study, release, specification, software and rules behind this cohort",
    "report.json": "The cohort report, for programs; small cells suppressed",
    "report.html": "The cohort report, for people; small cells suppressed",
    TERMS_FILE: "Acknowledgements and terms of use of each commons",
    CONTENT_FILE: "Checksum of the rows of each table in the DuckDB file, the same if joined again",
    "images/README.txt": "How to fetch images without telling who matched",
}


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """
    Yield a temporary folder beside `out` that only its owner can read; at the end it becomes `out`.

    Nothing is left if the block fails. Raises Conflict if `out` exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(
            f"{out.name} exists and is not empty",
            hint="name a new folder: a delivery never mixes with what is already there",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    building = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    building.mkdir(mode=0o700)
    try:
        yield building
        os.replace(building, out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def write_provenance(
    folder: Path,
    *,
    study: str,
    spec_hash: str,
    use: Use,
    trace: Mapping[str, str],
    minimum_cell: int,
    report_rounding: int,
    counts: CountRules,
    image_retrieval: str,
    birth: str,
    made_at: dt.datetime,
) -> None:
    """
    Write provenance.json. It holds no count and no id of a person.

    report_rounding: of the counts in report.json. counts: of the answers given before the delivery.
    """
    content = {
        "version": 1,
        "study": study,
        "made_at": made_at.replace(microsecond=0).isoformat(),
        "specification": {"hash": spec_hash, "of": "what the stewards approved"},
        "use": use,
        "delivery": dict(trace),
        "software": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _SOFTWARE},
        },
        "suppression": {
            "minimum_cell": minimum_cell,
            "report": {"rounding": report_rounding},
            "answers": {
                "rules": counts.model_dump(mode="json"),
                "in_words": counts.in_words(minimum_cell),
            },
            "texts": "a text of the enclave's source is delivered only where at least "
            "minimum_cell persons of the whole source have it in that column",
            "birth": birth,
        },
        "dates": {
            "rule": "a frame is never guessed: true dates stay, days from an index event count "
            "from the enclave's own record of it, all else stays as the commons gave it",
            "confidence": dict(CONFIDENCE),
            "anchor": ANCHOR.isoformat(),
        },
        "procedures": "the enclave's own procedure of the image's modality on the same day, else "
        "one day apart, else one synthetic procedure a study with concept 0; "
        "side/image_occurrence_provenance says which",
        "ids": "new in this delivery, in an order that only its secret seed decides",
        "image_retrieval": image_retrieval,
        "nulls": {
            path: dict(table.nulls) for path, table in sorted(BY_PATH.items()) if table.nulls
        },
    }
    _write_json(folder / PROVENANCE_FILE, content)


def write_crate(folder: Path, *, title: str, purpose: str, made_at: dt.datetime) -> None:
    """
    Describe every file in `folder` by RO-Crate 1.1 metadata.

    Source: RO-Crate Metadata Specification 1.1, w3id.org/ro/crate/1.1.
    """
    files = [path for path in _files(folder) if path not in (CRATE_FILE, CHECKSUMS_FILE)]
    software = {
        "@id": "#commons-linkage",
        "@type": "SoftwareApplication",
        "name": "commons-linkage",
        "version": importlib.metadata.version("commons-linkage"),
    }
    graph: list[dict[str, Any]] = [
        {
            "@id": CRATE_FILE,
            "@type": "CreativeWork",
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": title,
            "description": f"Linked cohort. Purpose: {purpose}",
            "datePublished": made_at.date().isoformat(),
            "license": {"@id": TERMS_FILE},
            "conditionsOfAccess": "Only inside the enclave, for the approved purpose",
            "hasPart": [{"@id": path} for path in [*files, DUCKDB_FILE]],
            "mentions": {"@id": "#join"},
        },
        {
            "@id": "#join",
            "@type": "CreateAction",
            "name": "Join of two commons in the enclave",
            "endTime": made_at.replace(microsecond=0).isoformat(),
            "instrument": {"@id": software["@id"]},
            "result": {"@id": "./"},
        },
        software,
        *(_file(folder, path) for path in files),
        # Its bytes are not the same again; see duckdb_file.py.
        {
            "@id": DUCKDB_FILE,
            "@type": "File",
            "name": DUCKDB_FILE,
            "description": "All tables in one DuckDB file",
            "encodingFormat": "application/vnd.duckdb",
        },
    ]
    context = [
        "https://w3id.org/ro/crate/1.1/context",
        {"sha256": "https://schema.org/sha256"},
    ]
    _write_json(folder / CRATE_FILE, {"@context": context, "@graph": graph})


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS of every other file but the DuckDB one, as sha256sum reads it."""
    lines = [
        f"{_digest(folder / path)}  {path}\n" for path in _files(folder) if path != CHECKSUMS_FILE
    ]
    (folder / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")


def _file(folder: Path, path: str) -> dict[str, Any]:
    table = BY_PATH.get(path.removesuffix(".parquet"))
    entry: dict[str, Any] = {
        "@id": path,
        "@type": "File",
        "name": path,
        "encodingFormat": _FORMATS.get(Path(path).suffix, "application/octet-stream"),
        "contentSize": str((folder / path).stat().st_size),
        "sha256": _digest(folder / path),
    }
    about = table.about if table else _ABOUT.get(path)
    return entry | ({"description": about} if about else {})


def _files(folder: Path) -> list[str]:
    """Return all files that have the same bytes if the delivery is joined again."""
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return sorted(found - {DUCKDB_FILE, CHECKSUM_FILE})


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
