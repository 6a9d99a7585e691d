"""Parquet and SQL as sources: typed values stay what they are, and nothing grows with the rows."""

from __future__ import annotations

import datetime as dt
import sqlite3
import traceback
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from linkage.errors import KeyRefused, SiteRefused, SourceRefused
from linkage.strict_toml import parse
from sites.config import SiteConfig, SourceConfig
from sites.sources import parquet
from sites.sources.base import RawBatch
from sites.sources.opening import open_source

FIELDS = ("first_name", "date_of_birth", "zip")
DAY = dt.date(1915, 12, 10)
TABLE = pa.table(
    {
        "person_id": pa.array([1, 2, None], pa.int64()),
        "fname": pa.array([" Ada ", None, "Alan"]).dictionary_encode(),
        "dob": pa.array([DAY, None, DAY], pa.date32()),
        "zip": pa.array([2139, None, 94110], pa.int32()),
        "race": pa.array(["5", "3", "5"]),
        "notes": pa.array([["x"], [], []]),
    }
)
EXPECTED = {
    "first_name": ["Ada", None],
    "date_of_birth": [DAY, None],
    "zip": [2139, None],
    "race": ["5", "3"],
}


def read(config: dict[str, object], fields: tuple[str, ...] = FIELDS) -> list[RawBatch]:
    opened = open_source(SourceConfig.model_validate(config), fields, {"race": ("race",)})
    return list(opened.batches())


def check(batches: list[RawBatch]) -> None:
    [batch] = batches
    assert batch.record_ids.to_pylist() == ["1", "2"]
    assert {name: column.to_pylist() for name, column in batch.columns.items()} == EXPECTED
    assert batch.numbers.tolist() == [1, 2]
    assert [(bad.number, bad.field, bad.rule) for bad in batch.bad] == [
        (3, "record_id", "has no record id")
    ]


def test_parquet_keeps_types(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "people.parquet")
    check(read({"kind": "parquet", "file": tmp_path / "people.parquet"}))


def test_a_folder_of_parquet_is_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BATCH_RECORDS", 3)
    for part in range(3):
        ids = np.arange(part * 5, part * 5 + 5)
        table = pa.table({"person_id": ids, "fname": ids.astype(str)})
        pq.write_table(table, tmp_path / f"part-{part}.parquet", row_group_size=4)
    (tmp_path / "_SUCCESS.parquet").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    opened = open_source(
        SourceConfig.model_validate({"kind": "parquet", "file": tmp_path}), ("first_name",)
    )
    batches = list(opened.batches())
    assert max(map(len, batches)) <= 3
    assert [int(one) for b in batches for one in b.record_ids.to_pylist()] == list(range(15))
    assert [n for b in batches for n in b.numbers.tolist()] == list(range(1, 16))
    assert (batches[-1].done, batches[-1].total) == (15, 15)
    assert "3 files, rows counted through all of them" in opened.notes


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([1.0, 2.0]), ["1", "2"]),
        (pa.array([Decimal("1.00"), Decimal("2.00")]), ["1", "2"]),
        (pa.array([" a", "b "], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([2**63, 2**63 + 1], pa.uint64()), [str(2**63), str(2**63 + 1)]),
    ],
)
def test_record_ids_become_text(tmp_path: Path, ids: pa.Array, expected: list[str]) -> None:
    pq.write_table(pa.table({"id": ids, "fname": ["A", "B"]}), tmp_path / "p.parquet")
    config: dict[str, object] = {"kind": "parquet", "file": tmp_path / "p.parquet"}
    [batch] = read_plain(config, ("first_name",))
    assert batch.record_ids.to_pylist() == expected


def read_plain(config: dict[str, object], fields: tuple[str, ...]) -> list[RawBatch]:
    return list(open_source(SourceConfig.model_validate(config), fields).batches())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([DAY, None], pa.date64()), [DAY, None]),
        (pa.array([dt.datetime(1915, 12, 10, 23, 59), None]), [DAY, None]),
        (
            # 23:30 in Chicago is the next day in Greenwich.
            pa.array([dt.datetime(1915, 12, 11, 5, 30, tzinfo=dt.UTC), None]).cast(
                pa.timestamp("ns", "America/Chicago")
            ),
            [DAY, None],
        ),
        (pa.array([2_932_896, 2_932_897], pa.int32()).cast(pa.date32()), [dt.date.max, None]),
        (pa.array([-719_162, -719_163], pa.int32()).cast(pa.date32()), [dt.date.min, None]),
    ],
)
def test_moments_become_days(tmp_path: Path, values: pa.Array, expected: list[object]) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "dob": values}), tmp_path / "p.parquet")
    config: dict[str, object] = {"kind": "parquet", "file": tmp_path / "p.parquet"}
    [batch] = read_plain(config, ("date_of_birth",))
    assert batch.columns["date_of_birth"].to_pylist() == expected


def people(make: Callable[[str], Any]) -> None:
    make("CREATE TABLE people (person_id INTEGER, fname TEXT, dob DATE, zip INTEGER, race TEXT)")
    make("INSERT INTO people VALUES (1, ' Ada ', '1915-12-10', 2139, '5')")
    make("INSERT INTO people VALUES (2, NULL, NULL, NULL, '3')")
    make("INSERT INTO people VALUES (NULL, 'Alan', '1915-12-10', 94110, '5')")


QUERY = "SELECT * FROM people WHERE race LIKE '%' ORDER BY race <> '5', fname, person_id"
ORDERED = "SELECT * FROM people ORDER BY person_id IS NULL, person_id"


def test_a_query_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        people(lambda statement: connection.execute(sa.text(statement)))
        connection.execute(sa.text("CREATE SEQUENCE numbers"))
    engine.dispose()
    check(read({"kind": "sql", "url": postgres_url, "query": ORDERED}))
    kept = tmp_path / "url"
    kept.write_text(postgres_url + "\n")
    kept.chmod(0o600)
    query = tmp_path / "people.sql"
    query.write_text(ORDERED)
    check(read({"kind": "sql", "url_file": kept, "query_file": query}))
    # A percent sign is no parameter, and the session cannot write.
    assert len(read({"kind": "sql", "url": postgres_url, "query": QUERY})[0]) == 2
    for query_text, rule in (
        ("SELECT nextval('numbers') AS id", "would write"),
        ("DELETE FROM people RETURNING *", "no valid SQL"),
    ):
        with pytest.raises(SourceRefused, match=rule):
            read({"kind": "sql", "url": postgres_url, "query": query_text})
    kept.chmod(0o640)
    with pytest.raises(KeyRefused, match="read by others"):
        read({"kind": "sql", "url_file": kept, "query_file": query})


def test_a_query_on_postgresql_is_streamed(postgres_url: str) -> None:
    query = "SELECT n AS id, 'Ada' AS fname FROM generate_series(1, 120000) AS n"
    opened = open_source(
        SourceConfig.model_validate({"kind": "sql", "url": postgres_url, "query": query}),
        ("first_name",),
    )
    batches = opened.batches()
    assert [len(batch) for batch in batches] == [100_000, 20_000]
    assert "first_name: column 2, 'fname', by its usual name" in opened.notes
    # Left half way, it lets go.
    next(opened.batches())


def test_a_query_on_a_url_of_the_environment(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEOPLE_URL", postgres_url)
    config: dict[str, object] = {"kind": "sql", "url_env": "PEOPLE_URL"}
    [batch] = read_plain({**config, "query": "SELECT 1 AS id, 'Ada' AS fname"}, ("first_name",))
    assert batch.record_ids.to_pylist() == ["1"]


def test_a_query_on_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "100% people?.db"
    with sqlite3.connect(path) as connection:
        people(connection.execute)
    connection.close()
    [batch] = read({"kind": "sql", "file": path, "query": ORDERED})
    # SQLite has no dates: the text is the source's, in the format that the site file names.
    assert batch.columns["date_of_birth"].to_pylist() == ["1915-12-10", None]
    assert batch.record_ids.to_pylist() == ["1", "2"]
    with pytest.raises(SourceRefused, match="would write"):
        read({"kind": "sql", "file": path, "query": "DELETE FROM people RETURNING *"})


def test_sqlite_may_mix_types_in_a_column(tmp_path: Path) -> None:
    path = tmp_path / "people.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE p (id, zip)")
        connection.executemany("INSERT INTO p VALUES (?, ?)", [(1, 2139), ("b", "02139-1")])
    connection.close()
    config: dict[str, object] = {"kind": "sql", "file": path, "query": "SELECT * FROM p"}
    [batch] = read_plain(config, ("zip",))
    assert batch.record_ids.to_pylist() == ["1", "b"]
    assert batch.columns["zip"].to_pylist() == ["2139", "02139-1"]


def test_a_query_on_duckdb(tmp_path: Path) -> None:
    path = tmp_path / "people.duckdb"
    with duckdb.connect(str(path)) as connection:
        people(connection.execute)
    check(read({"kind": "sql", "file": path, "query": ORDERED}))
    check(read({"kind": "sql", "url": f"duckdb:///{path}", "query": ORDERED}))
    for query in ("DELETE FROM people RETURNING *", f"SELECT * FROM read_text('{__file__}')"):
        with pytest.raises(SourceRefused):
            read({"kind": "sql", "file": path, "query": query})


LATE = "SELECT n AS id, {cast} AS last FROM {numbers} AS t(n)"
CAST = "CAST(CASE WHEN n = 250000 THEN 'Canaryson' ELSE '1' END AS INTEGER)"


def test_a_fault_far_down_shows_no_value(postgres_url: str, tmp_path: Path) -> None:
    """Drivers quote the value that they cannot read, and not all of them as their own error."""
    path = tmp_path / "p.duckdb"
    duckdb.connect(str(path)).close()
    for place, numbers in (
        ({"file": path}, "range(300000)"),
        ({"url": postgres_url}, "generate_series(0, 299999)"),
    ):
        query = LATE.format(cast=CAST, numbers=numbers)
        config: dict[str, object] = {"kind": "sql", "query": query, **place}
        with pytest.raises(SourceRefused, match="fails while it is read") as caught:
            read_plain(config, ("last_name",))
        assert "canary" not in "".join(traceback.format_exception(caught.value)).lower()


@pytest.mark.parametrize("column", ["id", "last"])
def test_text_that_is_not_utf8_is_refused_by_column(tmp_path: Path, column: str) -> None:
    bad = pa.array([b"Canaryson\xff"], pa.binary())
    text = pa.StringArray.from_buffers(1, bad.buffers()[1], bad.buffers()[2])
    columns = {"id": pa.array(["1"]), "last": pa.array(["x"]), column: text}
    pq.write_table(pa.table(columns), tmp_path / "p")
    config: dict[str, object] = {"kind": "parquet", "file": tmp_path / "p"}
    with pytest.raises(SourceRefused, match="holds text that is not UTF-8") as caught:
        read_plain(config, ("last_name",))
    assert "canary" not in "".join(traceback.format_exception(caught.value)).lower()


@pytest.mark.parametrize(
    ("lines", "line", "rule"),
    [
        ('url = "postgresql+psycopg://me:canary@host/db"\nquery = "q"', 4, "holds a password"),
        ('url = "postgresql://host/db?password=canary"\nquery = "q"', 4, "holds a password"),
        ('url = "host"\nquery = "q"', 4, "is no URL"),
        ('url = "a://b"\nfile = "x"\nquery = "q"', 2, "exactly one of"),
        ('query = "q"', 2, "exactly one of"),
        ('url = "a://b"', 2, "either query or query_file"),
        ('url = "a://b"\nquery = "q"\nqueryfile = "x"', 6, "not a known key"),
    ],
)
def test_a_bad_table_of_sql_is_refused_by_line(lines: str, line: int, rule: str) -> None:
    text = f'party = "alpha"\n[source]\nkind = "sql"\n{lines}\n'
    with pytest.raises(SiteRefused, match=rule) as caught:
        parse(text, SiteConfig, SiteRefused, file="site.toml")
    assert caught.value.line == line
    assert "canary" not in str(caught.value)


def test_a_source_may_lack_a_field_in_so_many_words(tmp_path: Path) -> None:
    """One contributor of a commons has no street; its records still link by the rest."""
    path = tmp_path / "people.csv"
    path.write_text("id,first,last\n1,Ada,Lovelace\n2,Alan,Turing\n")
    columns = {"first_name": "first", "last_name": "last"}
    table = {"file": path, "record_id": "id", "columns": columns}
    config = SourceConfig.model_validate({**table, "lacks": ["street"]})
    source = open_source(config, ("first_name", "last_name", "street"))
    (batch,) = source.batches()
    assert batch.columns["street"].to_pylist() == [None, None]
    assert batch.columns["first_name"].to_pylist() == ["Ada", "Alan"]
    assert any("without street" in note for note in source.notes)
    silent = open_source(SourceConfig.model_validate(table), ("first_name", "street"))
    with pytest.raises(SourceRefused, match="street"):
        list(silent.batches())
    with pytest.raises(ValueError, match="unknown field"):
        SourceConfig.model_validate({**table, "lacks": ["shoe_size"]})
