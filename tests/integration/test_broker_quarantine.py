"""What cannot be linked goes into quarantine: told to its uploader, out of everybody's runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from broker.blob_stores import FolderStore
from broker.store.engine import Database
from broker.store.tables import audit, part
from linkage.run_messages import RunRequest
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import PROGRAM, World, make_world, opened, problem, running, sign_for


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("quarantine"))) as made:
        yield made


def study(world: World, name: str) -> World:
    """A study of its own on the same broker."""
    signed, identities = sign_for(world.home.public(), name)
    made = World(world.home, signed, identities, world.admin, url=world.url)
    made.actor("admin").post("/v1/studies", signed).raise_for_status()
    return made


def package(world: World, party: str, *, spoilt: bool = False, dataset: int = 1) -> Package:
    records = encoded(world.signed, party, range(60))
    if spoilt:
        records.pseudonyms[1] = records.pseudonyms[0]
    return pack(world.signed, world.identities[party], records, dataset=dataset)


def console(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, *arguments, "--home", str(world.home.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_a_newer_version_takes_its_place_and_only_its_party_reads_the_reason(world: World) -> None:
    made = study(world, "replaced-study")
    for party in ("imaging", "claims"):
        made.upload(package(made, party))
    spoilt = package(made, "enclave", spoilt=True)
    made.upload(spoilt)
    told = opened(made, "enclave")
    assert (told["state"], told["missing"]) == ("quarantined", [])
    assert "a record pseudonym occurs twice" in told["reason"]
    for viewer, reads in (("enclave", True), ("admin", True), ("claims", False)):
        parties = made.actor(viewer).get(made.path).json()["parties"]
        mine = next(one for one in parties if one["uploader"] == "enclave")
        assert mine["quarantined"] == 1
        assert ("occurs twice" in mine["reason"]) == reads
        assert (mine["bytes_kept"] is not None) == reads
    # The same upload again is told so, part by part or at once.
    enclave = made.actor("enclave")
    again = enclave.post(f"{made.path}/datasets", spoilt.manifest)
    assert (again.status_code, again.json()["state"]) == (200, "quarantined")
    late = enclave.put(f"{made.path}/datasets/enclave/1/parts/1", spoilt.parts[0])
    assert "is in quarantine: " in problem(late)[2]
    assert enclave.post(f"{made.path}/datasets/enclave/1/complete").json() == told
    runs = f"{made.path}/runs"
    refused = problem(made.actor("admin").post(runs, RunRequest()))
    assert refused[2].endswith("from: enclave (version 1 is in quarantine)")
    made.upload(package(made, "enclave", dataset=2))
    assert opened(made, "enclave", 2)["state"] == "complete"
    done = made.run()
    assert done["state"] == "done", done["failure"]
    parties = made.actor("enclave").get(made.path).json()["parties"]
    assert all(one["quarantined"] is None for one in parties)
    with Database(world.home.database_url()).read() as connection:
        mine = (part.c.study_id == made.study_id) & (part.c.uploader == "enclave")
        kept = connection.execute(part.select().where(mine)).all()
    assert {row.dataset for row in kept} == {2}


def test_a_newer_version_in_quarantine_does_not_bring_back_the_one_before(world: World) -> None:
    """The newer may leave out who has opted out since."""
    made = study(world, "older-study")
    for party in ("imaging", "enclave", "claims"):
        made.upload(package(made, party))
    made.upload(package(made, "claims", spoilt=True, dataset=2))
    assert opened(made, "claims", 2)["state"] == "quarantined"
    runs = f"{made.path}/runs"
    assert problem(made.actor("admin").post(runs, RunRequest()))[0] == 409
    started = made.actor("admin").post(runs, RunRequest(), allow_missing=True)
    done = made.finish(f"{runs}/{started.json()['run_id']}")
    assert set(done["report"]["records"]) == {"imaging", "enclave"}


def test_a_run_queued_before_the_check_fails_with_the_reason(tmp_path: Path) -> None:
    made = make_world(tmp_path)
    with running(made, worker=False):
        for party in ("imaging", "enclave"):
            made.upload(package(made, party))
        made.upload(package(made, "claims", spoilt=True))
        made.actor("admin").post(f"{made.path}/runs", RunRequest()).raise_for_status()
        made.work()
        run = made.actor("admin").get(f"{made.path}/runs").json()[0]
        ended = made.finish(f"{made.path}/runs/{run['run_id']}")
        assert ended["state"] == "failed"
        assert "occurs twice" in ended["failure"] or "is in quarantine" in ended["failure"]
        assert opened(made, "claims")["state"] == "quarantined"


def test_the_admin_looks_and_has_it_opened_again_and_can_do_no_more(world: World) -> None:
    """Blobs that were lost and restored from a backup; nothing else lifts a quarantine."""
    made = study(world, "restored-study")
    store = FolderStore(world.home.blobs)
    sound = package(made, "claims")
    world_upload = made.upload(sound)
    assert world_upload.json()["state"] == "complete"
    assert opened(made, "claims")["state"] == "complete"
    with Database(world.home.database_url()).read() as connection:
        mine = (part.c.study_id == made.study_id) & (part.c.number == 2)
        blob_id = connection.execute(part.select().where(mine)).one().blob_id
    store.path(blob_id).write_bytes(b"other bytes")

    def recheck() -> dict[str, Any]:
        again = console(world, "upload", "recheck", made.study_id, "claims")
        assert again.returncode == 0, again.stderr
        return opened(made, "claims")

    assert recheck()["state"] == "quarantined"
    listed = console(world, "upload", "list", made.study_id).stdout
    assert "claims  version 1  quarantined" in listed
    assert "restores the blobs from the backup" in listed
    assert recheck()["state"] == "quarantined"
    store.path(blob_id).write_bytes(sound.parts[1])
    assert recheck()["state"] == "complete"
    with Database(world.home.database_url()).read() as connection:
        log = map(json.loads, connection.execute(select(audit.c.entry)).scalars())
        told = [one["action"] for one in log if one["study"] == made.study_id]
    assert told.count("dataset quarantined") == 2
    assert told.count("dataset out of quarantine") == 1
    for arguments in (("nobody",), ("claims", "--dataset", "9")):
        refused = console(world, "upload", "recheck", made.study_id, *arguments)
        assert (refused.returncode, "has no dataset version" in refused.stderr) == (1, True)


@pytest.mark.parametrize("spoil", ["zeros", "no-such-clk", "other-density"])
def test_clks_that_are_not_of_the_density_they_promise(world: World, spoil: str) -> None:
    """A broken encoder, or plain filters where the study has diffused ones."""
    made = study(world, f"density-{spoil}")
    records = encoded(made.signed, "claims", range(60))
    clk = records.clks["name-dob-sex"]
    if spoil == "zeros":
        clk.values[:] = 0
    if spoil == "other-density":
        bits = np.random.default_rng(1).random((60, 1024)) < 0.3
        clk.values[:] = np.packbits(bits, axis=1)
    if spoil == "no-such-clk":
        clk.present[:] = False
    made.upload(pack(made.signed, made.identities["claims"], records))
    told = opened(made, "claims")
    assert told["state"] == "quarantined"
    expected = "an encoding is null" if spoil == "no-such-clk" else "of their bits; by the manifest"
    assert expected in told["reason"]


def test_quotas_of_a_party_and_of_the_study(world: World) -> None:
    made = study(world, "small-quota")
    size = sum(one.size for one in package(made, "claims").manifest.parts)
    assert console(world, "upload", "quota", made.study_id, "0", "--party", "claims").stdout
    claims = made.actor("claims")
    refused = claims.post(f"{made.path}/datasets", package(made, "claims").manifest)
    assert problem(refused)[:2] == (413, "too-large")
    assert "party 'claims' may keep 0 bytes" in problem(refused)[2]
    assert "larger quota" in refused.json()["hint"]
    made.upload(package(made, "imaging"))
    set_again = console(world, "upload", "quota", made.study_id, "1", "--party", "claims", "--json")
    assert json.loads(set_again.stdout)["quota"] == 1_000_000
    made.upload(package(made, "claims"))
    usage = json.loads(console(world, "upload", "usage", made.study_id, "--json").stdout)
    kept = {one["party"]: one["datasets"] for one in usage}
    assert (kept["claims"], kept["enclave"], kept[""]) == (
        size,
        0,
        kept["claims"] + kept["imaging"],
    )
    assert console(world, "upload", "quota", made.study_id, "0").returncode == 0
    enclave = made.actor("enclave")
    refused = enclave.post(f"{made.path}/datasets", package(made, "enclave").manifest)
    assert "the study may keep 0 bytes" in problem(refused)[2]
    # Withdrawn versions count no more; an unknown party has no quota.
    made.withdraw("claims").raise_for_status()
    usage = json.loads(console(world, "upload", "usage", made.study_id, "--json").stdout)
    assert {one["party"]: one["datasets"] for one in usage}["claims"] == 0
    unknown = console(world, "upload", "quota", made.study_id, "1", "--party", "nobody")
    assert (unknown.returncode, "its parties: imaging" in unknown.stderr) == (1, True)
