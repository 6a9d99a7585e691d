"""
The process that writes cohort.duckdb: started by duckdb_file.py, it knows the tables and no more.

DuckDB writes memory that it never set: what was there before stands below nulls and behind the
last value of a block. The process that joins has read the rows of persons who are not in the
cohort; this one has read the delivered tables only, so nothing else can be there. It is started
with memory that is zero (duckdb_file.ZEROED), so that the same tables give the same bytes.

Standard input: JSON, {"path": FILE, "tables": [{"name", "statements": [[SQL, parameters], ...]}]}.
Standard output: JSON, {name: [rows, SHA-256 of its content]}.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import duckdb

_AT_ONCE = 10_000
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "temp_directory": "",
    # The newest one without an identifier that is drawn for each file. Texts of older ones (FSST)
    # are not written twice alike on memory that is zero, either.
    "storage_compatibility_version": "v1.3.0",
    "threads": 1,
    # Where rows are cut would else follow from how much memory the machine has.
    "write_buffer_row_group_memory_limit": "64MiB",
}


def content(con: Any, table: str) -> tuple[int, str]:
    """
    Return how many rows a table has, and SHA-256 over them: each as DuckDB's text of the whole row
    and a line feed, in the order in which they stand.
    """
    rows, digest = 0, hashlib.sha256()
    # The name is the layout's own, or one that a reader found in the file.
    asked = con.execute(f'SELECT one::VARCHAR FROM "{table}" AS one ORDER BY rowid')  # noqa: S608
    while some := asked.fetchmany(_AT_ONCE):
        rows += len(some)
        digest.update("".join(f"{text}\n" for (text,) in some).encode())
    return rows, digest.hexdigest()


def main() -> None:
    """Write one file as standard input says."""
    plan = json.load(sys.stdin)
    found = {}
    with duckdb.connect(plan["path"], config=_SETTINGS) as con:
        for table in plan["tables"]:
            for statement, parameters in table["statements"]:
                con.execute(statement, parameters)
            found[table["name"]] = content(con, table["name"])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
