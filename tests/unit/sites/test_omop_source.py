"""Persons of an OMOP CDM, on each database: what the CDM says, and the names beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa

from linkage.errors import SiteRefused, SourceRefused
from linkage.strict_toml import parse
from sites.config import SiteConfig, SourceConfig
from sites.sources.opening import open_source

FIELDS = ("first_name", "last_name", "date_of_birth", "sex", "zip", "street")
TABLES = """
CREATE TABLE {s}person (person_id INTEGER PRIMARY KEY, gender_concept_id INTEGER,
    year_of_birth INTEGER, month_of_birth INTEGER, day_of_birth INTEGER,
    birth_datetime TIMESTAMP, race_concept_id INTEGER, location_id INTEGER,
    person_source_value VARCHAR(50));
CREATE TABLE {s}LOCATION (LOCATION_ID INTEGER, ADDRESS_1 VARCHAR(50), ZIP VARCHAR(9));
CREATE TABLE {s}person_pii (Person_ID INTEGER, given VARCHAR(50), Surname VARCHAR(50),
    social VARCHAR(11));
INSERT INTO {s}person VALUES
    (1, 8532, 1915, 12, 10, NULL, 8527, 7, 'A-1'),
    (2, 8507, 1912, NULL, NULL, '1912-06-23 02:00:00', 8527, NULL, 'A-2'),
    (3, 0, 1906, NULL, NULL, '1906-01-01 00:00:00', 8516, 7, ''),
    (4, 8507, 1980, 2, 30, NULL, 8527, 8, 'A-4');
INSERT INTO {s}LOCATION VALUES (7, '1 Main St', '02139'), (8, NULL, NULL);
INSERT INTO {s}person_pii VALUES (1, 'Ada', 'Lovelace', '123-45-6789'), (2, 'Alan', 'Turing', '');
"""
EXPECTED = {
    "first_name": ["Ada", "Alan", None, None],
    "last_name": ["Lovelace", "Turing", None, None],
    "date_of_birth": ["1915-12-10", "1912-06-23", None, "1980-02-30"],
    "sex": [8532, 8507, 0, 8507],
    "zip": ["02139", None, "02139", None],
    "street": ["1 Main St", None, "1 Main St", None],
    "race": [8527, 8527, 8516, 8527],
}


def make(kind: str, tmp_path: Path, new_url: Callable[[], str]) -> dict[str, object]:
    path = tmp_path / "cdm.db"
    if kind == "sqlite":
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(TABLES.format(s=""))
        return {"file": path}
    if kind == "duckdb":
        with duckdb.connect(str(path)) as connection:
            connection.execute("CREATE SCHEMA omop;" + TABLES.format(s="omop."))
        return {"file": path, "schema": "omop"}
    url = new_url()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA omop"))
        for statement in TABLES.format(s="omop.").split(";")[:-1]:
            connection.execute(sa.text(statement))
    engine.dispose()
    return {"url": url, "schema": "omop"}


@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "postgresql"])
def test_persons_come_with_their_names_and_addresses(
    kind: str, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    config = make(kind, tmp_path, new_postgres_url)
    pii = "omop.PERSON_PII" if kind == "postgresql" else "PERSON_PII"
    source = open_source(
        SourceConfig.model_validate({"kind": "omop", "pii_table": pii, **config}),
        FIELDS,
        {"race": ("race", "race_concept_id")},
    )
    [batch] = source.batches()
    assert batch.record_ids.to_pylist() == ["1", "2", "3", "4"]
    assert {name: column.to_pylist() for name, column in batch.columns.items()} == EXPECTED
    assert batch.numbers.tolist() == [1, 2, 3, 4]
    assert source.notes == [
        "first_name: 'given' of pii_table, by its usual name",
        f"last_name: '{'surname' if kind == 'postgresql' else 'Surname'}' of pii_table,"
        " by its usual name",
        "persons without a full date of birth: 1",
    ]


def sqlite_config(tmp_path: Path, **more: object) -> dict[str, Any]:
    return {"kind": "omop", **make("sqlite", tmp_path, str), **more}


def test_the_site_file_may_name_other_columns(tmp_path: Path) -> None:
    config = SourceConfig.model_validate(
        sqlite_config(
            tmp_path,
            pii_table="person_pii",
            record_id="person_source_value",
            date_format="YYYY-MM-DD",
            columns={"ssn": "SOCIAL", "date_of_birth": "birth_datetime"},
        )
    )
    [batch] = open_source(config, ("ssn", "date_of_birth")).batches()
    assert batch.record_ids.to_pylist() == ["A-1", "A-2", "A-4"]
    assert [(bad.number, bad.rule) for bad in batch.bad] == [(3, "has no record id")]
    assert batch.columns["ssn"].to_pylist() == ["123-45-6789", "", None]
    assert batch.columns["date_of_birth"].to_pylist() == [None, "1912-06-23 02:00:00", None]


@pytest.mark.parametrize(
    ("changes", "fields", "rule", "hint"),
    [
        ({}, ("first_name",), "the CDM itself has no first_name", "pii_table"),
        ({"pii_table": "names"}, ("zip",), "has no table names", "schema"),
        ({"schema": "cdm"}, ("zip",), "", ""),
        ({"pii_table": "person_pii"}, ("email",), "has no column that could be email", "given"),
        ({"columns": {"zip": "plz"}}, ("zip",), "has no column for zip", "person, location"),
        ({"record_id": "mrn"}, ("zip",), "has no column for record_id", "looked in person"),
        ({"pii_table": "location"}, ("zip",), "table pii has no column person_id", "version 5"),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, changes: dict[str, object], fields: tuple[str, ...], rule: str, hint: str
) -> None:
    config = SourceConfig.model_validate(sqlite_config(tmp_path, **changes))
    with pytest.raises(SourceRefused) as caught:
        list(open_source(config, fields).batches())
    assert caught.value.message.startswith("OMOP in cdm.db: ") or "schema" in changes
    assert rule in caught.value.message
    assert hint in caught.value.hint


def test_dates_of_the_cdm_have_one_format() -> None:
    text = 'party = "alpha"\n[source]\nkind = "omop"\nfile = "x"\ndate_format = "MM/DD/YYYY"\n'
    with pytest.raises(SiteRefused, match="has no place here") as caught:
        parse(text, SiteConfig, SiteRefused, file="site.toml")
    assert caught.value.line == 5
