"""A full disk, a database that drops its connections: a clean error or going on, never half."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.store.engine import Database
from linkage.matching.dataset import Dataset
from linkage.matching.engine import link
from linkage.messages import BROKER, DATASET_PART
from linkage.run_messages import RunRequest
from linkage.sealing import Context, seal
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import World, make_world, packages, problem, running, wait_for

MIB = 1 << 20

needs_prlimit = pytest.mark.skipif(not shutil.which("prlimit"), reason="prlimit is not installed")


def one_large_part(world: World, size: int) -> Package:
    """A package whose one part is `size` random bytes, sealed: the server cannot know better."""
    sender = world.identities["imaging"]
    good = pack(world.signed, sender, encoded(world.signed, "imaging", range(30)), parts=1)
    context = Context(world.study_id, "imaging", BROKER, DATASET_PART, ("1", "1", "1"))
    recipient = world.signed.pin(BROKER)
    data = seal(bytes(size), sender=sender, recipient=recipient, context=context)
    part = good.manifest.parts[0].model_copy(
        update={"size": len(data), "digest": hashlib.sha256(data).hexdigest()}
    )
    return Package(good.manifest.model_copy(update={"parts": (part,)}).sign(sender), [data])


@pytest.mark.threat("P02")
@needs_prlimit
def test_a_full_disk_refuses_an_upload_cleanly_and_takes_it_later(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    made = one_large_part(world, 4 * MIB)
    imaging = world.actor("imaging")
    path = f"{world.path}/datasets/imaging/1"
    try:
        world.serve(largest_file=3 * MIB)
        world.actor("admin").post("/v1/studies", world.signed).raise_for_status()
        imaging.post(f"{world.path}/datasets", made.manifest).raise_for_status()
        refused = imaging.put(f"{path}/parts/1", made.parts[0])
        status, code, detail = problem(refused)
        assert (status, code) == (503, "unreachable")
        assert "cannot store this (EFBIG)" in detail
        assert refused.headers["retry-after"]
        assert [p for p in world.home.blobs.rglob("*") if p.is_file()] == []
        assert imaging.get(path).json()["missing"] == [1]
        world.stop()
        world.processes.clear()
        world.serve()
        assert imaging.put(f"{path}/parts/1", made.parts[0]).status_code == 204
        assert imaging.post(f"{path}/complete").json()["state"] == "complete"
    finally:
        world.stop()


@pytest.mark.threat("P02")
@needs_prlimit
@pytest.mark.long
def test_a_full_disk_fails_a_run_with_cause_and_remedy(
    tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    """Long, because the worker first tries for half a minute. Its own files are blobs only."""
    world = make_world(tmp_path, url=new_postgres_url())
    with running(world, worker=False):
        for package in packages(world).values():
            world.upload(package)
        world.work(largest_file=1_000)
        ended = world.run()
        assert ended["state"] == "failed"
        assert "cannot store this (EFBIG). Hint: " in ended["failure"]
        assert ended["result_digest"] is None
        parts = 2 * len(world.signed.study.party)
        assert len([p for p in world.home.blobs.rglob("*") if p.is_file()]) == parts


@pytest.mark.threat("P02")
def test_dropped_connections_in_the_middle_of_a_run(
    tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    """As when PostgreSQL is restarted: every connection goes, again and again, and it goes on."""
    world = make_world(tmp_path, url=new_postgres_url())
    stop = threading.Event()
    dropped: list[int] = []

    def drop_connections() -> None:
        database = Database(world.home.database_url())
        while not stop.wait(1.0):
            with database.read() as connection:
                gone = connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
                dropped.append(len(gone.all()))
        database.close()

    with running(world):
        made = packages(world, people=200, overlap=100)
        for package in made.values():
            world.upload(package)
        log = world.home.path / "worker-1.log"
        wait_for(lambda: "worker started" in log.read_text(), 60)
        started = world.actor("admin").post(f"{world.path}/runs", RunRequest()).json()
        dropping = threading.Thread(target=drop_connections)
        dropping.start()
        try:
            database = Database(world.home.database_url())
            wait_for(lambda: ended(database, started["run_id"]), 120)
        finally:
            stop.set()
            dropping.join()
        state = world.finish(f"{world.path}/runs/{started['run_id']}")
        assert state["state"] == "done", state["failure"]
        assert state["result_digest"] == digest(world)
        assert sum(dropped) > 5
        # What the workflow engine said of it is in our log, without its SQL.
        told = [json.loads(line) for line in log.read_text().splitlines()]
        assert "SELECT" not in log.read_text()
        assert all(one["level"] for one in told)


def ended(database: Database, run_id: str) -> bool:
    """Ask past the server, and again if this very connection was dropped."""
    try:
        with database.read() as connection:
            asked = text("SELECT state FROM run WHERE id = :r")
            return connection.execute(asked, {"r": run_id}).scalar() in ("done", "failed")
    except Exception:
        return False


def digest(world: World) -> str:
    """The digest of the same linkage in memory."""
    study = world.signed.study
    datasets = []
    for i, party in enumerate(study.party):
        records = encoded(world.signed, party.id, range(i * 100, i * 100 + 200))
        datasets.append(Dataset(party.id, records, {r.id: 0 for r in study.rules_of(party)}))
    return link(datasets, seed=1).digest
