"""Broken SQL and OMOP: name -> input, the error's message, its hint."""

from __future__ import annotations

from tests.malformed.broken import CANARY, Broken, cut_sqlite, database_file, duck, sqlite, url

CASES: dict[str, tuple[Broken, str, str]] = {
    "a database that is none": (
        database_file(CANARY.encode()),
        "people.db: is neither a DuckDB nor an SQLite file",
        "name the database file itself, or give a url",
    ),
    "a database cut short": (
        cut_sqlite,
        "people.db: is damaged",
        "copy it again",
    ),
    "no such table": (
        sqlite(query=f"SELECT * FROM {CANARY}"),
        "people.db: the query names a table that is not there",
        "check its name and its schema",
    ),
    "no such column": (
        sqlite(query=f"SELECT {CANARY} FROM people"),
        "people.db: the query names a column that is not there",
        "check it in the database's client",
    ),
    "no SQL": (
        sqlite(query=f"GIVE ME {CANARY}"),
        "people.db: the query is no valid SQL there",
        "try it in the database's own client",
    ),
    "SQL that writes": (
        sqlite(query=f"DELETE FROM people WHERE last = '{CANARY}' RETURNING *"),
        "people.db: the query would write",
        "it must be one SELECT",
    ),
    "SQL with bytes for names": (
        sqlite(query="SELECT id, first, CAST(last AS BLOB) AS last, dob FROM people"),
        "query on people.db: its column for last_name holds binary, which is no identifier",
        "make it text, a number or a date, or name another column",
    ),
    "SQL without the column": (
        sqlite(query="SELECT id, first, dob FROM people"),
        "query on people.db: has no column for last_name (none has a usual name for it)",
        'write last_name = "..." under [source.columns]; the columns are: id, first, dob',
    ),
    "no such table in DuckDB": (
        duck(query=f"SELECT * FROM {CANARY}"),
        "people.duckdb: the query names a table that is not there",
        "check its name and its schema",
    ),
    "no such column in DuckDB": (
        duck(query=f"SELECT {CANARY} FROM people"),
        "people.duckdb: the query names a column that is not there",
        "check it in the database's client",
    ),
    "no SQL in DuckDB": (
        duck(query=f"GIVE ME {CANARY}"),
        "people.duckdb: the query is no valid SQL there",
        "try it in the database's own client",
    ),
    "a file read through DuckDB": (
        duck(query="SELECT * FROM read_csv('people.csv')"),
        "people.duckdb: the query reaches outside the database",
        "ask its tables only",
    ),
    "a value that DuckDB cannot cast": (
        duck(query="SELECT id, first, last::INTEGER AS last, dob FROM people"),
        "people.duckdb: the database refuses, or fails while it is read",
        "try the query in its own client",
    ),
    "a URL of an unknown kind": (
        url(f"nosuchdb://{CANARY}@host/db"),
        "[source] url: no driver for this kind of URL is known",
        'it begins like "postgresql+psycopg"',
    ),
    "a URL without a driver": (
        url(f"oracle://me:{CANARY}@host/db"),
        "[source] url: the driver that the URL names is not installed",
        "install it with pip",
    ),
    "no URL in the file": (
        url(f"{CANARY} and more"),
        "url: holds no database URL",
        "write the URL into it, alone",
    ),
    "no SQLite by URL": (
        url("sqlite:///people.db"),
        "people.db: an SQLite file is not named by a URL",
        'write [source] file = "path/to/it" in place of url',
    ),
    "OMOP without a table of names": (
        sqlite(kind="omop"),
        "OMOP in people.db: the CDM itself has no first_name",
        'name the table that has it, by person_id: pii_table = "..."',
    ),
    "OMOP without such a table": (
        sqlite(kind="omop", pii_table="nothing"),
        "OMOP in people.db: has no table nothing",
        'set [source] schema, or check the name; a table elsewhere is "schema.table"',
    ),
    "OMOP without a column of names": (
        sqlite(kind="omop", pii_table="names", columns={"first_name": "given"}),
        "OMOP in people.db: pii_table has no column that could be last_name",
        'write last_name = "..." under [source.columns]; its columns are: person_id, given, nick',
    ),
}
