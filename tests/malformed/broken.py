"""
Broken inputs, by kind of source. Each function writes one into a folder and returns its [source].

In every input stands CANARY where a person's name would: no error may show it.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tests.unit.sites.test_dicom_source import ADA, dicomdir, image

CANARY = "Canaryson"
FIELDS = ("first_name", "last_name", "date_of_birth")
HEADER = "id,first,last,dob\n"
ROWS = f"r1,Ada,Lovelace,12/10/1915\nr2,Cara,{CANARY},06/23/1912\n"
GOOD = HEADER + ROWS

Source = dict[str, Any]
Broken = Callable[[Path], Source]


def csv(content: str | bytes, **more: object) -> Broken:
    """A delimited file of this content."""

    def write(folder: Path) -> Source:
        path = folder / "people.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return {"file": path, "date_format": "MM/DD/YYYY", **more}

    return write


def workbook(folder: Path) -> Source:
    with zipfile.ZipFile(folder / "people.csv", "w") as archive:
        archive.writestr("xl/sharedStrings.xml", f"<t>{CANARY}</t>")
    return {"file": folder / "people.csv", "date_format": "MM/DD/YYYY"}


def folder_for_a_file(folder: Path) -> Source:
    (folder / "people.csv").mkdir()
    (folder / "people.csv" / "1.csv").write_text(GOOD)
    return {"file": folder / "people.csv", "date_format": "MM/DD/YYYY"}


PEOPLE: dict[str, list[Any]] = {
    "id": ["r1", "r2"],
    "first": ["Ada", "Cara"],
    "last": ["Lovelace", CANARY],
    "dob": [dt.date(1915, 12, 10), dt.date(1912, 6, 23)],
}


def parquet(changes: dict[str, Any] | None = None, cut: int = 0) -> Broken:
    """A Parquet file with some columns changed, or dropped where None, and its end cut off."""

    def write(folder: Path) -> Source:
        path = folder / "people.parquet"
        columns = {name: v for name, v in {**PEOPLE, **(changes or {})}.items() if v is not None}
        pq.write_table(pa.table(columns), path)
        if cut:
            path.write_bytes(path.read_bytes()[:-cut])
        return {"kind": "parquet", "file": path}

    return write


def named_parquet(content: bytes) -> Broken:
    """A file that only its name calls Parquet."""

    def write(folder: Path) -> Source:
        (folder / "people.parquet").write_bytes(content)
        return {"kind": "parquet", "file": folder / "people.parquet"}

    return write


def parquet_folder(folder: Path) -> Source:
    (folder / "people").mkdir()
    (folder / "people" / "notes.txt").write_text(CANARY)
    return {"kind": "parquet", "file": folder / "people"}


def uneven_parquet(folder: Path) -> Source:
    (folder / "people").mkdir()
    pq.write_table(pa.table(PEOPLE), folder / "people" / "1.parquet")
    less = {name: values for name, values in PEOPLE.items() if name != "last"}
    pq.write_table(pa.table(less), folder / "people" / "2.parquet")
    return {"kind": "parquet", "file": folder / "people"}


CARA = {
    "resourceType": "Patient",
    "id": "r2",
    "name": [{"family": CANARY, "given": ["Cara"]}],
    "birthDate": "1912-06-23",
}
LINE = json.dumps(CARA)


def bundle(**changes: object) -> str:
    """A Bundle of one Patient, changed."""
    entry = [{"resource": CARA}]
    return json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entry, **changes})


def fhir(content: str | bytes, **more: object) -> Broken:
    """A FHIR file of this content."""

    def write(folder: Path) -> Source:
        path = folder / "Patient.ndjson"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return {"kind": "fhir", "file": path, **more}

    return write


def _fill(execute: Callable[[str], Any]) -> None:
    execute("CREATE TABLE people (id TEXT, first TEXT, last TEXT, dob TEXT, photo BLOB)")
    execute(f"INSERT INTO people VALUES ('r2', 'Cara', '{CANARY}', '1912-06-23', 'x')")
    execute("CREATE TABLE person (person_id INTEGER, year_of_birth INTEGER, gender_concept_id INT)")
    execute("CREATE TABLE names (person_id INTEGER, given TEXT, nick TEXT)")


def sqlite(**more: object) -> Broken:
    """An SQLite file with a table people and a poor OMOP person."""

    def write(folder: Path) -> Source:
        with closing(sqlite3.connect(folder / "people.db")) as connection:
            _fill(connection.execute)
            connection.commit()
        return {"kind": "sql", "file": folder / "people.db", **more}

    return write


def duck(**more: object) -> Broken:
    """The same as a DuckDB file."""

    def write(folder: Path) -> Source:
        with duckdb.connect(str(folder / "people.duckdb")) as connection:
            _fill(connection.execute)
        return {"kind": "sql", "file": folder / "people.duckdb", **more}

    return write


def cut_sqlite(folder: Path) -> Source:
    source = sqlite(query="SELECT * FROM people")(folder)
    data = bytearray(source["file"].read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    data[100:200] = b"\xff" * 100
    source["file"].write_bytes(data + CANARY.encode())
    return source


def database_file(content: bytes) -> Broken:
    """A file that is no database."""

    def write(folder: Path) -> Source:
        (folder / "people.db").write_bytes(content)
        return {"kind": "sql", "file": folder / "people.db", "query": "SELECT 1"}

    return write


def url(text: str, **more: object) -> Broken:
    """A database by a URL that is kept in a file."""

    def write(folder: Path) -> Source:
        path = folder / "url"
        path.write_text(text)
        path.chmod(0o600)
        return {"kind": "sql", "url_file": path, "query": "SELECT 1 AS id", **more}

    return write


def dicom(**changes: object) -> Broken:
    """A folder of one image of a patient."""

    def write(folder: Path) -> Source:
        image(folder / "scans" / "1", **{**ADA, "PatientName": f"{CANARY}^Cara", **changes})
        return {"kind": "dicom", "folder": folder / "scans"}

    return write


def dicom_file(change: Callable[[bytes], bytes]) -> Broken:
    """A folder of one file, an image changed."""

    def write(folder: Path) -> Source:
        source = dicom()(folder)
        path = source["folder"] / "1"
        path.write_bytes(change(path.read_bytes()))
        return source

    return write


def dicom_two(**second: object) -> Broken:
    """A folder of two images under one PatientID."""

    def write(folder: Path) -> Source:
        source = dicom()(folder)
        image(source["folder"] / "2", **{**ADA, **second})
        return source

    return write


def one_image(folder: Path) -> Source:
    source = dicom()(folder)
    return {"kind": "dicom", "folder": source["folder"] / "1"}


def without_files(index: Path) -> None:
    for path in index.parent.rglob("*"):
        if path.is_file() and path != index:
            path.unlink()


def cut_index(index: Path) -> None:
    index.write_bytes(index.read_bytes()[:600])


def dicomdir_of(change: Callable[[Path], None]) -> Broken:
    """A DICOMDIR and its files, changed."""

    def write(folder: Path) -> Source:
        index = dicomdir(folder, PatientName=f"{CANARY}^Cara")
        change(index)
        return {"kind": "dicom", "folder": index}

    return write


def packed(content: str, cut: int = 0) -> bytes:
    """Return content as gzip, its end cut off."""
    made = gzip.compress(content.encode())
    return made[: len(made) - cut]
