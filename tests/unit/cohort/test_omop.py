"""Reading OMOP as it is found: headers by meaning, persons that do not exist, dates."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkage.errors import SourceRefused
from sites.cohort.config import OmopConfig
from sites.cohort.omop import OmopSource
from sites.cohort.tables import meaning

from .conftest import PERSON, RACE, OpenOmop


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("PERSON_ID", "person_id"),
        ("date(procedure_date,'unixepoch')", "procedure_date"),
        ("\"date(birth_datetime,'unixepoch')\"", "birth_datetime"),
        ("DATE( Visit_Start_Date , 'unixepoch')", "visit_start_date"),
        ("date(max(x), 'unixepoch')", "x"),
        # In no time; once in years.
        pytest.param(f"date({' ' * 20_000}x", f"date({' ' * 20_000}x", id="blanks"),
        ("case a when null then '' else b end", "case a when null then '' else b end"),
    ],
)
def test_a_header_is_read_by_meaning(header: str, name: str) -> None:
    assert meaning(header) == name


def test_sql_headers_mixed_case_and_five_three_names(open_omop: OpenOmop) -> None:
    source = open_omop(
        "1,8532,1950,1,2",
        visit_occurrence="VISIT_OCCURRENCE_ID,Person_Id,visit_concept_id,"
        "\"date(visit_start_date,'unixepoch')\",\"date(visit_end_date,'unixepoch')\","
        "visit_type_concept_id,admitting_source_concept_id\n7,1,9201,2001-02-03,20010204,0,8870",
    )
    row = source.table("visit_occurrence").to_pyarrow().to_pylist()[0]
    assert row["visit_start_date"] == dt.date(2001, 2, 3)
    assert row["visit_end_date"] == dt.date(2001, 2, 4)
    assert row["admitted_from_concept_id"] == 8870
    assert row["preceding_visit_occurrence_id"] is None


def test_persons_that_do_not_exist_are_counted_and_never_known(open_omop: OpenOmop) -> None:
    source = open_omop(
        "1,8532,1950,1,2 2,8507,1960,,",
        death="person_id,death_date\n1,2001-01-01\n3,2001-01-01\n4,2001-01-01",
    )
    assert source.unknown_persons() == {"death": 2}
    assert source.known("death").person_id.to_pyarrow().to_pylist() == [1]


def test_values_that_cannot_be_read_are_counted_not_shown(open_omop: OpenOmop) -> None:
    source = open_omop("1,8532,1950,1,2", death="person_id,death_date\n1,secret\n1,2001-01-01")
    assert source.table("death").death_date.to_pyarrow().null_count == 1
    assert source.notes == ["death.death_date: 1 values cannot be read"]


def test_which_column_holds_the_record_ids(open_omop: OpenOmop) -> None:
    person = f"{PERSON},{RACE},person_source_value\n5,0,1950,1,1,0,0,MRN-9\n6,0,1950,1,1,0,0,"
    by_id = open_omop(person=person)
    by_source = open_omop(person=person, config={"record_id": "person_source_value"})
    assert by_id.persons_of(["5", "7"]) == {"5": 5}
    assert by_source.persons_of(["MRN-9", "5"]) == {"MRN-9": 5}


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"person": "person_id\n1"}, "no column 'gender_concept_id'"),
        ({"person": f"{PERSON},{RACE},PERSON_ID\n1,0,1950,1,1,0,0,1"}, "two columns"),
        ({"person": f"{PERSON},{RACE}\n1,0,1950,1,1,0,0\n1,0,1950,1,1,0,0"}, "twice"),
        ({"person": f"{PERSON},{RACE}\n,0,1950,1,1,0,0"}, "twice"),
    ],
)
def test_a_broken_person_table_is_refused(
    open_omop: OpenOmop, tables: dict[str, str], said: str
) -> None:
    with pytest.raises(SourceRefused, match=said):
        open_omop(**tables).table("person")


def test_places_without_omop_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="no table person"):
        OmopSource.open(OmopConfig(path=tmp_path))
    with pytest.raises(SourceRefused, match="does not exist"):
        OmopSource.open(OmopConfig(path=tmp_path / "nowhere"))
    (tmp_path / "not-a-database").write_bytes(b"hello")
    with pytest.raises(SourceRefused, match="DuckDB"):
        OmopSource.open(OmopConfig(path=tmp_path / "not-a-database"))
    for name in ("person.csv", "PERSON.parquet"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SourceRefused, match="twice"):
        OmopSource.open(OmopConfig(path=tmp_path))


def test_numbers_where_dates_belong_are_refused(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"person_id": [1], "death_date": [946684800.0]}), tmp_path / "death.parquet"
    )
    (tmp_path / "person.csv").write_text(f"{PERSON},{RACE}\n1,0,1950,1,1,0,0\n", encoding="utf-8")
    with (
        OmopSource.open(OmopConfig(path=tmp_path)) as source,
        pytest.raises(SourceRefused, match="numbers, not dates"),
    ):
        source.table("death")


def test_a_duckdb_file_and_a_folder_of_parquet_read_alike(tmp_path: Path) -> None:
    persons = pa.table(
        {
            "PERSON_ID": [1, 2],
            "gender_concept_id": [8532, 8507],
            "year_of_birth": [1950, 1960],
            "race_concept_id": [0, 0],
            "ethnicity_concept_id": [0, 0],
            "birth_datetime": [dt.datetime(1950, 2, 3), None],
        }
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    pq.write_table(persons, folder / "person.parquet")
    with duckdb.connect(str(tmp_path / "omop.duckdb")) as database:
        database.register("persons", persons)
        database.execute("CREATE SCHEMA cdm; CREATE TABLE cdm.Person AS FROM persons")
    found = []
    for config in (
        OmopConfig(path=folder),
        OmopConfig(path=tmp_path / "omop.duckdb", db_schema="cdm"),
    ):
        with OmopSource.open(config) as source:
            found.append(source.table("person").order_by("person_id").to_pyarrow().to_pylist())
    assert found[0] == found[1]
    assert found[0][0]["birth_datetime"] == dt.datetime(1950, 2, 3)
