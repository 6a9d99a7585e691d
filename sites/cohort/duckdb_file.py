"""
One DuckDB file with all tables of a delivery: cohort.duckdb.

Tables have the types, keys' NOT NULL and comments of the layout. Foreign keys are checked before
(integrity.py) and not declared: DuckDB would build an index for each.

The same delivery, joined again, gives the same bytes. DuckDB alone would not: it writes memory that
it never set, below nulls and behind the last text of a block, and draws an identifier for each new
file. So the process that writes has memory that is zero wherever it was not set, and the file is of
a storage version that has no identifier (duckdb_process.py, docs/adr/0026). That holds on Linux on
x86-64, and with one version of DuckDB. Elsewhere, and from one version to the next, the file is
compared by its content: cohort.duckdb.tables.sha256 has a checksum of each table's rows in their
order.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linkage.errors import DeliveryFaulty
from sites.cohort.dictionary import dictionary_rows
from sites.cohort.layout import TABLES, DeliveredTable

DUCKDB_FILE = "cohort.duckdb"
CHECKSUM_FILE = f"{DUCKDB_FILE}.sha256"
CONTENT_FILE = f"{DUCKDB_FILE}.tables.sha256"
WRITER = "sites.cohort.duckdb_process"
ZEROED = {
    "DUCKDB_JE_MALLOC_CONF": "zero:true",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=255",
}
"""
For the writer: all memory that it is given is zero. DuckDB has an allocator of its own, jemalloc,
and uses the C library's besides, which fills memory with the complement of this number. Each alone
does not suffice; where an allocator does not know its setting, bytes differ and nothing else.
"""


def write_duckdb(folder: Path, rows: Mapping[str, int]) -> None:
    """
    Write cohort.duckdb from the Parquet tables in `folder`, its checksum and that of its content.

    rows: by path, how many each must have. Raises DeliveryFaulty where DuckDB has another number,
    or could not write the file.
    """
    path = folder / DUCKDB_FILE
    tables = [{"name": one.name, "statements": _statements(folder, one)} for one in TABLES]
    found = _written({"path": str(path), "tables": tables})
    for table in TABLES:
        if found[table.name][0] != rows[table.path]:
            raise DeliveryFaulty(table=DUCKDB_FILE, rule=f"{table.name} lacks rows")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / CHECKSUM_FILE).write_text(f"{digest}  {DUCKDB_FILE}\n", encoding="utf-8")
    lines = [f"{content}  {name}\n" for name, (_, content) in found.items()]
    (folder / CONTENT_FILE).write_text("".join(lines), encoding="utf-8")


def _statements(folder: Path, table: DeliveredTable) -> list[tuple[str, list[str]]]:
    """Return what makes one table, each with its parameters. Names are the layout's own."""
    columns = [row for row in dictionary_rows() if row[0] == table.path]
    typed = ", ".join(f'"{row[1]}" {row[2]}{" NOT NULL" if row[3] else ""}' for row in columns)
    source = str(folder / f"{table.path}.parquet")
    return [
        (f'CREATE TABLE "{table.name}" ({typed})', []),
        (f'INSERT INTO "{table.name}" SELECT * FROM read_parquet(?)', [source]),  # noqa: S608
        (f'COMMENT ON TABLE "{table.name}" IS {_quoted(table.about)}', []),
        *(
            (f'COMMENT ON COLUMN "{table.name}"."{row[1]}" IS {_quoted(row[7])}', [])
            for row in columns
        ),
    ]


def _written(plan: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """Have the file written by a process of its own; return rows and content by table."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", WRITER],
        input=json.dumps(plan).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # DuckDB's messages quote the row they failed on
        env={"PYTHONPATH": os.pathsep.join(sys.path), **ZEROED},
        check=False,
    )
    if done.returncode:
        raise DeliveryFaulty(
            table=DUCKDB_FILE, rule="could not be written; is there room on the disk, and memory?"
        )
    return {name: (rows, digest) for name, (rows, digest) in json.loads(done.stdout).items()}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
