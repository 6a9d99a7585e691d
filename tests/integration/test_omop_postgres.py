"""OMOP in a real PostgreSQL: the questions that DuckDB answers, as a user who may only read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings

from linkage.cohort.spec_clinical import ClinicalCriteria
from linkage.errors import KeyRefused, SourceRefused
from sites.cohort import cdm
from sites.cohort.clinical import evaluate
from sites.cohort.config import OmopConfig
from sites.cohort.omop import OmopSource
from tests.unit.cohort.clinical_world import CASES, World, assert_agrees, make_world, questions
from tests.unit.cohort.sample_delivery import delivered, sample_tables

_KINDS = {
    pa.int32(): "integer",
    pa.int64(): "integer",
    pa.string(): "text",
    pa.float64(): "numeric",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp",
}


def fill(url: str, world: World) -> None:
    """Write the world as an OHDSI installation has it: schemas cdm and vocab, a reading user."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA cdm")
        connection.execute("CREATE SCHEMA vocab")
        for name, table in world.tables.items():
            schema = "vocab" if name.startswith("concept") else "cdm"
            columns = ", ".join(f"{field.name} {_KINDS[field.type]}" for field in table.schema)
            connection.execute(f"CREATE TABLE {schema}.{name} ({columns})")
            marks = ", ".join(["%s"] * table.num_columns)
            with connection.cursor() as cursor:
                rows = [tuple(row.values()) for row in table.to_pylist()]
                cursor.executemany(f"INSERT INTO {schema}.{name} VALUES ({marks})", rows)
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'reader'").fetchone():
            connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("GRANT USAGE ON SCHEMA cdm, vocab TO reader")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA cdm, vocab TO reader")


def as_reader(url: str) -> str:
    """Return the URL with the reading user in place of the owner."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"reader@{parts.hostname or ''}").geturl()


@pytest.fixture(scope="module")
def url(new_postgres_url: Callable[[], str]) -> str:
    """A database with the world in it, as its owner sees it."""
    found = new_postgres_url().replace("postgresql+psycopg", "postgresql")
    fill(found, make_world(1))
    return found


@pytest.fixture(scope="module")
def world(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, OmopSource]]:
    file = tmp_path_factory.mktemp("secret") / "omop-url"
    file.write_text(as_reader(url), encoding="utf-8")
    file.chmod(0o600)
    config = OmopConfig(url_file=file, db_schema="cdm", vocabulary_schema="vocab")
    with OmopSource.open(config) as source:
        yield make_world(1), source


@pytest.mark.parametrize("case", CASES)
def test_every_criterion(world: tuple[World, OmopSource], case: str) -> None:
    assert_agrees(ClinicalCriteria.model_validate(CASES[case]), *world, all_=case == "excluded")


@given(asked=questions())
@settings(max_examples=10, deadline=None)
def test_random_questions(world: tuple[World, OmopSource], asked: ClinicalCriteria) -> None:
    assert_agrees(asked, *world, all_=False)


def test_nothing_is_written_but_temporary_tables(world: tuple[World, OmopSource]) -> None:
    _, source = world
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        source.con.raw_sql("CREATE TABLE cdm.mine (x integer)")
    source.person_rows({"person_id": pa.array([1], pa.int64())})


def test_what_is_joined_with_stands_in_no_log(url: str) -> None:
    """The server logs every statement and its parameters, as a cautious operator sets it."""
    secret = "unit-that-nobody-may-read"
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("ALTER SYSTEM SET log_statement = 'all'")
        owner.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
        owner.execute("SELECT pg_reload_conf()")
    days = {secret: (dt.date(2011, 12, 13),)}
    asked = ClinicalCriteria.model_validate(CASES["before the image"])
    config = OmopConfig(url=url, db_schema="cdm", vocabulary_schema="vocab")
    with OmopSource.open(config) as source:
        result = evaluate(asked, source, among={1: secret}, imaging_days=days)
        assert result.attrition.steps[0].subjects == 1
    written = (Path(parse_qs(urlsplit(url).query)["host"][0]) / "log").read_bytes()
    assert b"COPY linkage_rows" in written
    assert secret.encode() not in written
    assert b"2011-12-1" not in written


def test_rows_of_ours_arrive_as_they_are(world: tuple[World, OmopSource]) -> None:
    columns = {
        "n": pa.array([1, None, 3]),
        "text": pa.array(["a,b", None, 'say "x"\n\\.']),
        "flag": pa.array([True, False, None]),
        "day": pa.array([dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]),
        "number": pa.array([0.1, -1e300, None]),
    }
    rows = world[1].person_rows(columns)
    assert rows.to_pyarrow().sort_by("n").to_pydict() == pa.table(columns).sort_by("n").to_pydict()
    nothing = {name: column.slice(0, 0) for name, column in columns.items()}
    assert world[1].person_rows(nothing).to_pyarrow().num_rows == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"db_schema": "nowhere"}, "no table person"),
        ({"url_env": "KEY_OF_NOTHING"}, "no database URL"),
        ({"url": "mysql://host/x"}, "can't be read from"),
        ({"url": "postgresql://somebody@127.0.0.1:9/x"}, "does not answer"),
        ({"url": "postgresql:///x?sslmode=what"}, "does not answer"),
    ],
)
def test_what_cannot_be_opened_says_why(url: str, change: dict[str, str], said: str) -> None:
    place = {} if "url_env" in change else {"url": url}
    with pytest.raises(SourceRefused, match=said) as refused:
        OmopSource.open(OmopConfig(**{**place, **change}))
    assert "somebody" not in str(refused.value)


def test_a_url_that_others_can_read_is_refused(url: str, tmp_path: Path) -> None:
    file = tmp_path / "omop-url"
    file.write_text(url, encoding="utf-8")
    file.chmod(0o644)
    with pytest.raises(KeyRefused, match="read by others"):
        OmopSource.open(OmopConfig(url_file=file))


def test_what_the_user_may_not_read_and_text_for_dates(url: str) -> None:
    config = OmopConfig(url=as_reader(url), db_schema="other")
    with psycopg.connect(url) as owner:
        owner.execute("CREATE SCHEMA other")
        owner.execute("GRANT USAGE ON SCHEMA other TO reader")
        owner.execute("CREATE TABLE other.person AS SELECT * FROM cdm.person")
        owner.execute("CREATE TABLE other.death (person_id integer, death_date text)")
        owner.execute("GRANT SELECT ON other.death TO reader")
    with OmopSource.open(config) as source:
        with pytest.raises(SourceRefused, match="may not read"):
            source.table("person")
        with pytest.raises(SourceRefused, match="'death_date' holds text, not dates"):
            source.table("death")


@pytest.mark.long
def test_a_delivery_is_the_same_as_from_files(
    new_postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    tables, from_files = sample_tables(tmp_path)
    url = new_postgres_url().replace("postgresql+psycopg", "postgresql")
    fill(url, World({name: as_five_three(table) for name, table in tables.items()}, {}, {}))
    config = OmopConfig(url=url, db_schema="cdm", vocabulary_schema="vocab")
    with OmopSource.open(config) as source:
        assert source.persons_of(["5", "61"]) == {"5": 5}
        assert delivered(source) == from_files
    assert len(from_files[0]["measurement"]) > 100


def as_five_three(table: pa.Table) -> pa.Table:
    """Return a CDM 5.4 table with the names of 5.3, and without what came with 5.4."""
    new = {
        *("procedure_end_date", "procedure_end_datetime", "unit_source_concept_id"),
        *("measurement_event_id", "meas_event_field_concept_id"),
        *("observation_event_id", "obs_event_field_concept_id"),
    }
    older = {new_name: old_name for old_name, new_name in cdm.RENAMED.items()}
    kept = table.select([name for name in table.column_names if name not in new])
    return kept.rename_columns([older.get(name, name) for name in kept.column_names])
