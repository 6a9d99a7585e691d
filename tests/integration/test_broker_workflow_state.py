"""What the workflow engine keeps of a run is JSON and holds references only: no pairs, no names."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, make_url

from broker.durable import SCHEMA
from broker.store.engine import Database
from linkage.messages import ReleaseRequest
from tests.broker_packages import encoded
from tests.broker_world import World, make_world, packages, running

PEOPLE, OVERLAP = 60, 30
_PICKLES = (b"\x80\x03", b"\x80\x04", b"\x80\x05")


@pytest.mark.parametrize("system", ["sqlite", "postgresql"])
def test_a_run_and_a_release_leave_references_in_the_workflow_database(
    system: str, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    world = make_world(tmp_path, url=new_postgres_url() if system == "postgresql" else None)
    with running(world):
        for package in packages(world, people=PEOPLE, overlap=OVERLAP).values():
            world.upload(package)
        done = world.run()
        assert done["state"] == "done", done["failure"]
        asked = ReleaseRequest(audience=("enclave",))
        job = world.actor("admin").post(f"{world.path}/releases", asked).raise_for_status().json()
        assert world.finish(f"{world.path}/jobs/{job['job_id']}")["state"] == "done"
    cells = list(values(world))
    assert len([one for one in cells if one[0] == "operation_outputs"]) > 20
    everything = b"\n".join(as_bytes(value) for *_, value in cells)
    assert done["run_id"].encode() in everything, "the tables of the engine were not found"
    for name in pseudonyms(world):
        for shape in (name, name.hex().encode(), base64.b64encode(name)[:20]):
            assert shape not in everything
    for table, column, value in cells:
        raw = as_bytes(value)
        assert not raw.startswith(_PICKLES), f"{table}.{column} holds a pickle"
        assert not unbased(raw).startswith(_PICKLES), f"{table}.{column} holds a pickle"
        if column in ("inputs", "output", "error") and raw:
            json.loads(raw)
        if column == "serialization" and raw:
            assert raw == b"portable_json", f"{table}.{column}: {raw!r}"
        # A reference is short; pairs would not be.
        assert len(raw) < 4096, f"{table}.{column} holds {len(raw)} bytes"


def values(world: World) -> Iterator[tuple[str, str, Any]]:
    """Every cell of the workflow engine's tables: table, column, value."""
    url = world.home.workflow_url()
    database = Database(make_url(url.render_as_string(hide_password=False)))
    tables = MetaData()
    tables.reflect(database.engine, schema=None if database.is_sqlite else SCHEMA)
    with database.read() as connection:
        for table in tables.sorted_tables:
            for row in connection.execute(table.select()).mappings():
                for column, value in row.items():
                    yield table.name, str(column), value
    database.close()


def pseudonyms(world: World) -> Iterator[bytes]:
    for i, uploader in enumerate(world.signed.study.uploaders):
        start = i * (PEOPLE - OVERLAP)
        records = encoded(world.signed, uploader, range(start, start + PEOPLE))
        yield from (name.tobytes() for name in records.pseudonyms)


def as_bytes(value: Any) -> bytes:
    if value is None:
        return b""
    return value if isinstance(value, bytes) else str(value).encode()


def unbased(raw: bytes) -> bytes:
    """What it stands for as base64, as DBOS writes pickles; nothing where it is none."""
    try:
        return base64.b64decode(raw, validate=True)
    except ValueError:
        return b""
