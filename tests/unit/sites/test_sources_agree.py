"""The same people, kept in six ways, are the same people to the encoder."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkage.encoding.fields import Normaliser
from sites.config import SourceConfig
from sites.sources.config import KINDS
from sites.sources.opening import open_source
from tests.unit.sites.test_dicom_source import image

FIELDS = ("first_name", "middle_name", "last_name", "date_of_birth", "sex")
TODAY = dt.date(2026, 11, 21)
PEOPLE = [
    ("p1", "Ada", "King", "Lovelace", dt.date(1915, 12, 10), "F"),
    ("p2", "Zoë", "", "Müller", dt.date(1912, 6, 23), "F"),
    ("p3", "Alan", "M", "O'Neil", None, "M"),
    ("p4", "", "", "Turing", dt.date(2004, 2, 29), ""),
]
HEADER = ("id", "first", "middle", "last", "dob", "sex")
Source = dict[str, Any]


def delimited(folder: Path) -> Source:
    with (folder / "p").open("w", encoding="utf-16", newline="") as file:
        writer = csv.writer(file, delimiter="|")
        writer.writerow(HEADER)
        writer.writerows((*p[:4], p[4].strftime("%m/%d/%Y") if p[4] else "", p[5]) for p in PEOPLE)
    return {"file": folder / "p", "date_format": "MM/DD/YYYY"}


def table() -> pa.Table:
    return pa.table([pa.array(column) for column in zip(*PEOPLE, strict=True)], names=list(HEADER))


def parquet(folder: Path) -> Source:
    pq.write_table(table(), folder / "p")
    return {"kind": "parquet", "file": folder / "p"}


def sql(folder: Path) -> Source:
    with duckdb.connect(str(folder / "p")) as connection:
        connection.register("people", table())
        connection.execute("CREATE TABLE p AS SELECT * FROM people")
    return {"kind": "sql", "file": folder / "p", "query": "SELECT * FROM p ORDER BY id"}


def fhir(folder: Path) -> Source:
    words = {"F": "female", "M": "male"}
    patients = [
        {
            "resourceType": "Patient",
            "id": record_id,
            "name": [{"family": last, "given": [first, middle]}],
            **({"birthDate": born.isoformat()} if born else {}),
            **({"gender": words[sex]} if sex else {}),
        }
        for record_id, first, middle, last, born, sex in PEOPLE
    ]
    (folder / "p").write_text("\n".join(map(json.dumps, patients)))
    return {"kind": "fhir", "file": folder / "p"}


def omop(folder: Path) -> Source:
    with duckdb.connect(str(folder / "p")) as connection:
        connection.register("people", table())
        connection.execute(
            "CREATE TABLE person AS SELECT id AS person_id, year(dob) AS year_of_birth,"
            " month(dob) AS month_of_birth, day(dob) AS day_of_birth, NULL::TIMESTAMP AS"
            " birth_datetime, CASE sex WHEN 'F' THEN 8532 WHEN 'M' THEN 8507 ELSE NULL END AS"
            " gender_concept_id FROM people;"
            "CREATE TABLE names AS SELECT id AS person_id, first, middle, last FROM people"
        )
    return {"kind": "omop", "file": folder / "p", "pii_table": "names"}


def dicom(folder: Path) -> Source:
    for record_id, first, middle, last, born, sex in PEOPLE:
        image(
            folder / "scans" / record_id,
            SpecificCharacterSet="ISO_IR 192",
            PatientID=record_id,
            PatientName=f"{last}^{first}^{middle}",
            PatientBirthDate=born.strftime("%Y%m%d") if born else "",
            PatientSex=sex,
        )
    return {"kind": "dicom", "folder": folder / "scans"}


MAKERS: dict[str, Callable[[Path], Source]] = {
    "delimited": delimited,
    "parquet": parquet,
    "sql": sql,
    "fhir": fhir,
    "omop": omop,
    "dicom": dicom,
}


def test_no_kind_is_left_out() -> None:
    assert set(MAKERS) == set(KINDS)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_encoder_sees_the_same_people(kind: str, tmp_path: Path) -> None:
    config = SourceConfig.model_validate(MAKERS[kind](tmp_path))
    [batch] = open_source(config, FIELDS).batches()
    assert batch.bad == []
    order = sorted(range(len(batch)), key=lambda at: str(batch.record_ids[at]))
    columns = [
        Normaliser(field, config.reading(TODAY)).column(batch.columns[field]).column.texts()
        for field in FIELDS
    ]
    people = [tuple(column[at] for column in columns) for at in order]
    assert batch.record_ids.take(pa.array(order)).to_pylist() == ["p1", "p2", "p3", "p4"]
    assert people == [
        ("ada", "king", "lovelace", "19151210", "f"),
        ("zoe", "", "muller", "19120623", "f"),
        ("alan", "m", "oneil", "", "m"),
        ("", "", "turing", "20040229", ""),
    ]
