"""Destruction, cut off wherever it may be: it goes on, and nothing shows before all is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from broker.container import Broker
from broker.destruction import Destroyer
from broker.store import audit, destruction, governance, jobs, runs, studies
from broker.store.blobs import named
from broker.store.engine import Connection, Database
from linkage.errors import Conflict, NotFound, PackageRefused
from linkage.messages import CUSTODIAN
from linkage.sealing import Identity
from sites import destroyed
from tests.broker_world import World, make_world, sign_for

DIES = """
import os, signal, sys
from pathlib import Path
from broker.config import load_home
from broker.container import Broker
from broker.destruction import Destroyer
from broker.store import destruction
from linkage.sealing import Identity

home = load_home(Path(sys.argv[1]))
destruction.forget_blobs = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Destroyer(Broker.at(home), Identity.load(home.identity_file)).destroy(sys.argv[2])
"""
"""A worker that is killed in a transaction, when blobs have gone and their rows are still there."""


class Cut(BaseException):
    """A worker that ends in the middle of something."""


class Dying(Database):
    """The database of a worker that is cut off as it begins its nth transaction."""

    left = 0

    @contextmanager
    def change(self) -> Iterator[Connection]:
        self.left -= 1
        if not self.left:
            raise Cut
        with super().change() as connection:
            yield connection


@pytest.fixture(params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> World:
    url = new_postgres_url() if request.param == "postgresql" else None
    return make_world(tmp_path, url=url)


def filled(world: World, broker: Broker, study_id: str) -> set[str]:
    """Register a study with something of most kinds; return its blobs."""
    signed, _ = sign_for(world.home.public(), study_id, identities=world.identities)
    broker.studies.register("console", signed, custodian_fingerprint=None)
    kept = [broker.blobs.put(f"{study_id} {n}".encode()) for n in range(5)]
    with broker.database.change() as connection:
        for number in (1, 2):
            row = studies.DatasetRow(
                study_id=study_id,
                uploader="imaging",
                number=number,
                epoch=1,
                manifest=json.dumps({"parts": [1], "records": 5}),
                manifest_hash=f"{number}" * 64,
                state="complete",
                announced_at=1,
                completed_at=1,
            )
            studies.add_dataset(connection, row)
            studies.add_part(connection, row, 1, kept[number].blob_id)
        run = runs.RunRow(
            id=f"run-{study_id}",
            study_id=study_id,
            seed=1,
            epoch=1,
            inputs="{}",
            software="tests",
            state="running",
            started_at=1,
        )
        runs.add(connection, run)
        runs.set_intermediate(connection, run.id, "weights", kept[0].blob_id)
        release = jobs.JobRow(
            id=f"release-{study_id}",
            study_id=study_id,
            kind="release",
            run_id=run.id,
            request=json.dumps({"audience": ["enclave"]}),
            state="done",
            asked_at=1,
            finished_at=2,
        )
        jobs.add(connection, release)
        jobs.add_key(
            connection, "admin/x", "key-12345", request_hash="0" * 64, job_id=release.id, now=1
        )
        jobs.add_item(
            connection,
            jobs.ItemRow(
                id=f"item-{study_id}",
                study_id=study_id,
                sender="broker",
                recipient="enclave",
                purpose="crosswalk",
                subject=release.id,
                blob_id=kept[3].blob_id,
                size=4,
                digest="0" * 64,
                placed_at=1,
            ),
        )
        governance.add_opt_outs(
            connection,
            governance.OptOutRow(
                study_id=study_id,
                uploader="imaging",
                number=1,
                epoch=1,
                blob_id=kept[4].blob_id,
                size=4,
                digest="0" * 64,
                placed_at=1,
                read_at=1,
                report="{}",
            ),
        )
    return {blob.blob_id for blob in kept}


def test_it_goes_on_wherever_it_was_cut_off(world: World) -> None:
    broker, study_id = Broker.at(world.home), "to-be-destroyed"
    identity = Identity.load(world.home.identity_file)
    mine, others = filled(world, broker, study_id), set[str]()
    with broker.database.change() as connection:
        # What one study loses is no other's.
        connection.exec_driver_sql("DELETE FROM request_key")
    others = filled(world, broker, "stays")

    with pytest.raises(Conflict, match="not closed"):
        broker.lifecycle.destroy("console", study_id, confirm=study_id)
    broker.lifecycle.close("console", study_id)
    with pytest.raises(Conflict, match="not given twice"):
        broker.lifecycle.destroy("console", study_id, confirm="stays")
    broker.lifecycle.destroy("console", study_id, confirm=study_id)
    broker.lifecycle.destroy("console", study_id, confirm=study_id)

    killed = [sys.executable, "-c", DIES, str(world.home.path), study_id]
    assert subprocess.run(killed, timeout=120, check=False).returncode == -9
    dying = Dying(world.home.database_url())
    cut_off = 0
    for step in range(1, 200):
        with pytest.raises(NotFound, match="under way"):
            broker.lifecycle.certificate(study_id)
        dying.left = step
        try:
            Destroyer(replace(broker, database=dying), identity, now=lambda: 5e9).destroy(study_id)
        except Cut:
            cut_off += 1
            continue
        break
    assert cut_off >= 10
    dying.close()

    made = broker.lifecycle.certificate(study_id)
    signed, _ = sign_for(world.home.public(), study_id, identities=world.identities)
    signed = signed.model_copy(update={"signature": ""}).sign(world.identities[CUSTODIAN])
    made.check(signed)
    assert destroyed.read(made.canonical(), signed) == made
    with pytest.raises(PackageRefused):
        destroyed.read(made.canonical().replace(b'"blobs":5', b'"blobs":4'), signed)
    with pytest.raises(PackageRefused, match="no certificate"):
        destroyed.read(b"{}", signed)
    assert (made.blobs, made.finished_at, made.asked_by) == (5, 5_000_000_000, "console")
    assert made.rows["part"] == made.rows["dataset"] == 2
    assert [(one.uploader, one.dataset) for one in made.manifests] == [
        ("imaging", 1),
        ("imaging", 2),
    ]
    assert [one.job_id for one in made.given_out] == [f"release-{study_id}"]
    assert "names no day" in next(one.until for one in made.remains if "backups" in one.what)

    with broker.database.read() as connection:
        left = {t: destruction.count(connection, t, study_id) for t in destruction.tables()}
        assert not any(left.values())
        assert named(connection) == others
        entries = [json.loads(row.entry) for row in audit.walk(connection)]
        assert studies.find_study(connection, study_id) is not None
    assert {path.name for path in world.home.blobs.glob("??/*")} == others
    assert not mine & others
    done = [one for one in entries if one["action"] == "study destruction finished"]
    assert len(done) == 1
    Destroyer(broker, identity).tend()
    assert broker.lifecycle.certificate(study_id) == made, "once"
    broker.database.close()
