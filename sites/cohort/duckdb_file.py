"""
One DuckDB file with all tables of a delivery: cohort.duckdb.

Tables have the types, keys' NOT NULL and comments of the layout. Foreign keys are checked before
(integrity.py) and not declared: DuckDB would build an index for each.

The same delivery, joined again, gives this file the same rows and not the same bytes: DuckDB 2.0
draws an identifier for every new file and leaves what was in memory below nulls. So its checksum
stands in a file of its own, and every other file of a delivery has the same bytes again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import duckdb

from linkage.errors import DeliveryFaulty
from sites.cohort.dictionary import dictionary_rows
from sites.cohort.layout import TABLES

DUCKDB_FILE = "cohort.duckdb"
CHECKSUM_FILE = f"{DUCKDB_FILE}.sha256"


def write_duckdb(folder: Path, rows: Mapping[str, int]) -> None:
    """
    Write cohort.duckdb from the Parquet tables in `folder`, and its checksum.

    rows: by path, how many each must have. Raises DeliveryFaulty where DuckDB has another number.
    """
    path = folder / DUCKDB_FILE
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": "",
    }
    described = dictionary_rows()
    con = duckdb.connect(str(path), config=settings)
    try:
        for table in TABLES:
            columns = [row for row in described if row[0] == table.path]
            typed = ", ".join(
                f'"{row[1]}" {row[2]}{" NOT NULL" if row[3] else ""}' for row in columns
            )
            source = folder / f"{table.path}.parquet"
            con.execute(f'CREATE TABLE "{table.name}" ({typed})')
            # Names are the layout's own; the path is a parameter.
            con.execute(f'INSERT INTO "{table.name}" SELECT * FROM read_parquet(?)', [str(source)])  # noqa: S608
            con.execute(f'COMMENT ON TABLE "{table.name}" IS {_quoted(table.about)}')
            for row in columns:
                con.execute(f'COMMENT ON COLUMN "{table.name}"."{row[1]}" IS {_quoted(row[7])}')
            counted = con.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()  # noqa: S608
            if counted is None or counted[0] != rows[table.path]:
                raise DeliveryFaulty(table=DUCKDB_FILE, rule=f"{table.name} lacks rows")
    finally:
        con.close()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / CHECKSUM_FILE).write_text(f"{digest}  {DUCKDB_FILE}\n", encoding="utf-8")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
