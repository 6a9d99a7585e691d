"""
Withdrawal at a real broker, on SQLite and PostgreSQL: no release from the next on, and a dataset
that is taken back while a run is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from broker.store import runs
from broker.store.engine import Database
from linkage.run_messages import RunRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import World, make_world, packages, problem, running, wait_for
from tests.protocol.worlds import crosswalk, released

PARTIES = ("imaging", "enclave", "claims")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    folder = tmp_path_factory.mktemp(f"withdrawal-{request.param}")
    with running(make_world(folder, url=url)) as made:
        for package in packages(made).values():
            made.upload(package)  # the enclave holds 60 to 179
        yield made


def submit(world: World, party: str, held: range, dataset: int) -> None:
    records = encoded(world.signed, party, held)
    world.upload(pack(world.signed, world.identities[party], records, dataset=dataset))


def names(world: World, party: str, held: range) -> set[bytes]:
    return {row.tobytes() for row in encoded(world.signed, party, held).pseudonyms}


def test_who_is_withdrawn_is_in_no_release_from_the_next_on(world: World) -> None:
    first = world.run()
    assert first["state"] == "done", first["failure"]
    before = crosswalk(world, "enclave", released(world, first, "enclave"))
    assert set(before) == names(world, "enclave", range(60, 180))
    submit(world, "enclave", range(80, 190), dataset=2)
    # No run since: yet what is released of the old one leaves them out, and who came is not in it.
    left = crosswalk(world, "enclave", released(world, first, "enclave"))
    assert set(left) == names(world, "enclave", range(80, 180))
    second = world.run()
    now = crosswalk(world, "enclave", released(world, second, "enclave"))
    assert set(now) == names(world, "enclave", range(80, 190))
    # Another party's release still names all of its own records.
    imaging = crosswalk(world, "imaging", released(world, first, "imaging"))
    assert set(imaging) == names(world, "imaging", range(120))


def test_a_dataset_withdrawn_while_a_run_is_under_way(world: World) -> None:
    """Taken back after the worker has opened it: nothing of it is published."""
    claims, admin = world.actor("claims"), world.actor("admin")
    for dataset in range(2, 12):
        submit(world, "claims", range(120, 700 + dataset), dataset)
        asked = admin.post(f"{world.path}/runs", RunRequest()).raise_for_status().json()
        _wait_until_opened(world, asked["run_id"])
        gone = world.withdraw("claims").raise_for_status().json()
        assert (gone[-1]["dataset"], gone[-1]["state"]) == (dataset, "withdrawn")
        run = world.finish(f"{world.path}/runs/{asked['run_id']}")
        if run["state"] == "failed":
            break  # else the run was over before
    assert run["state"] == "failed"
    assert "its dataset was withdrawn by: claims" in run["failure"]
    assert world.withdraw("claims").raise_for_status().json() == []
    assert claims.get(f"{world.path}/datasets/claims/1").json()["state"] == "withdrawn"
    again = pack(
        world.signed, world.identities["claims"], encoded(world.signed, "claims", range(120, 240)),
        dataset=dataset,
    )  # fmt: skip
    refused = claims.post(f"{world.path}/datasets", again.manifest)
    assert problem(refused)[:2] == (409, "conflict")

    # On goes the study without it, as far as the admin wants.
    missing = admin.post(f"{world.path}/runs", RunRequest())
    assert problem(missing)[2] == "no complete dataset version from: claims"
    started = admin.post(f"{world.path}/runs", RunRequest(), allow_missing=True).json()
    done = world.finish(f"{world.path}/runs/{started['run_id']}")
    assert done["state"] == "done", done["failure"]
    assert set(done["report"]["records"]) == {"imaging", "enclave"}


def test_a_queued_run_of_a_withdrawn_dataset_fails_by_its_name(world: World) -> None:
    submit(world, "claims", range(120, 240), dataset=29)
    worker = world.processes.pop()
    worker.terminate()
    worker.wait(180)
    admin = world.actor("admin")
    asked = admin.post(f"{world.path}/runs", RunRequest(seed=7)).raise_for_status().json()
    world.withdraw("claims").raise_for_status()
    world.work()
    run = world.finish(f"{world.path}/runs/{asked['run_id']}")
    assert run["state"] == "failed"
    assert "'claims' has no complete dataset version 29" in run["failure"]


def test_releases_leave_out_who_has_withdrawn_everything(world: World) -> None:
    submit(world, "claims", range(120, 240), dataset=30)
    run = world.run(seed=8)
    assert run["state"] == "done", run["failure"]
    assert len(crosswalk(world, "claims", released(world, run, "claims"))) == 120
    world.withdraw("claims").raise_for_status()
    release = released(world, run, "claims", "enclave")
    assert crosswalk(world, "claims", release) == {}
    assert len(crosswalk(world, "enclave", release)) >= 110


def _wait_until_opened(world: World, run_id: str) -> None:
    database = Database(world.home.database_url())

    def opened() -> bool:
        with database.read() as connection:
            row = runs.find(connection, run_id)
        return row is not None and (row.stage not in ("", "open") or row.state == "failed")

    try:
        wait_for(opened, 60)
    finally:
        database.close()
