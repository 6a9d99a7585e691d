"""What a monitor is told: of workers, of what waits, of the disk."""

from __future__ import annotations

import time
from pathlib import Path

from broker.blobs import Blobs
from broker.config import create_home
from broker.services.oversight import Oversight, Probe
from broker.store import runs
from broker.store.engine import Database


def beat(database: Database, worker: str, ago: float) -> None:
    with database.change() as connection:
        runs.beat(connection, worker, time.time() - ago)


def test_a_worker_of_the_future_is_none(database: Database) -> None:
    """Its clock was put back since; if it lived, it would have written a new time."""
    oversight = Oversight(database)
    assert oversight.load().beat is None
    beat(database, "dead", -3600)
    assert oversight.alive(120) == []
    assert not oversight.vital_signs().worker
    beat(database, "late", 3600)
    assert oversight.alive(120) == []
    beat(database, "here", 1)
    assert oversight.alive(120) == ["here"]
    assert oversight.vital_signs().worker


def test_an_empty_broker_has_no_load(database: Database) -> None:
    seen = Oversight(database).load()
    assert dict(seen.queued) == {"run": 0, "job": 0, "second look": 0}
    assert (dict(seen.stages), seen.workers, seen.head_at) == ({}, 0, None)


def test_readiness_names_each_thing_that_is_missing(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home")
    bare = Database(home.database_url())
    blobs = Blobs.at(home)
    found = Oversight(bare).readiness(home, blobs, Probe())
    missing = [text for text, there in found.reasons() if not there]
    # Not one table is there, so that even asking for heartbeats fails.
    assert not found.ready
    assert "the database does not answer" in missing
    bare.migrate()
    assert Oversight(bare).readiness(home, blobs, Probe()).ready
    home.blobs.joinpath("incoming").rmdir()
    assert [
        text
        for text, there in Oversight(bare).readiness(home, blobs, Probe()).reasons()
        if not there
    ] == ["packages cannot be stored"]
    bare.close()
