"""
An upgrade without a gap: the release before goes on serving while this one's tables are made, and
what it took meanwhile is here afterwards.
"""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.config import create_home
from linkage.run_messages import RunRequest
from linkage.sealing import Identity
from tests.broker_world import (
    HTTP,
    PROGRAM,
    World,
    packages,
    sign_for,
    wait_for,
)
from tests.isolated import CHECKOUT

BEFORE = "0c4e7ad"
"""The release before this one. Raise it with each release."""


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of the release before, from this repository's history."""
    folder = tmp_path_factory.mktemp("before")
    archive = folder / "before.zip"
    command = ["git", "archive", "--output", str(archive), BEFORE, "linkage", "broker"]
    if subprocess.run(command, cwd=CHECKOUT, capture_output=True).returncode != 0:
        pytest.skip(f"the history up to {BEFORE} is not here (a shallow clone?)")
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "code")
    return folder / "code"


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_release_before_serves_on_this_ones_tables(
    database: str, tmp_path: Path, old_code: Path, new_postgres_url: Callable[[], str]
) -> None:
    url_file = None
    if database == "postgresql":
        url_file = tmp_path / "database-url"
        url_file.write_text(new_postgres_url())
    home = create_home(
        tmp_path / "broker", allow_rehearsal=True, database_url_file=url_file, port=0
    )
    admin = Identity.generate("tester", kem="X25519")
    public = tmp_path / "tester.json"
    public.write_text(admin.public().model_dump_json())
    signed, identities = sign_for(home.public(), "small-study")
    world = World(home, signed, identities, admin)
    old = {"PYTHONPATH": str(old_code)}
    told(world, "migrate", **old)
    told(world, "admin", "add", "tester", "--public-key", str(public), **old)
    before = serve(world, **old)
    try:
        content = signed.model_dump_json(exclude_defaults=True)
        kind = {"Content-Type": "application/json"}
        world.actor("admin").call(
            "POST", "/v1/studies", content=content, headers=kind
        ).raise_for_status()
        first, second, third = packages(world).values()
        world.upload(first)
        # This release's tables, under the other's feet.
        told(world, "migrate")
        world.upload(second)
        assert told_states(world) == {"imaging": 1, "enclave": 1, "claims": None}
        assert HTTP.get(f"{world.url}/health").json()["database"] is True
        # An old process that is started anew says what to do instead of guessing.
        again = run(world, "serve", "--port", "0", **old)
        assert again.returncode == 1
        assert "is not that of this version" in again.stderr
    finally:
        before.terminate()
        before.wait(180)
    try:
        serve(world)
        assert told_states(world) == {"imaging": 1, "enclave": 1, "claims": None}
        world.upload(third)
        world.work()
        run_id = world.actor("admin").post(f"{world.path}/runs", RunRequest()).json()["run_id"]
        ended = world.finish(f"{world.path}/runs/{run_id}", 280)
        assert ended["state"] == "done", ended["failure"]
        assert "fits together" in told(world, "audit", "verify")
    finally:
        world.stop()


def told_states(world: World) -> dict[str, int | None]:
    """Each party's newest dataset version, as the API tells an admin."""
    found = world.actor("admin").get(world.path).raise_for_status().json()
    return {one["party"]: one["dataset"] for one in found["parties"]}


def run(world: World, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `linkage-broker`, of this release or with another's code."""
    command = [PROGRAM, *arguments, "--home", str(world.home.path)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | env)


def told(world: World, *arguments: str, **env: str) -> str:
    """Run it, and return what it says."""
    done = run(world, *arguments, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def serve(world: World, **env: str) -> subprocess.Popen[bytes]:
    """Start a server, and wait until it answers."""
    ready = world.home.path / "ready"
    ready.unlink(missing_ok=True)
    command = [PROGRAM, "serve", "--port", "0", "--ready-file", str(ready)]
    with (world.home.path / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--home", str(world.home.path)],
            stdout=log,
            stderr=log,
            env=os.environ | env,
        )
    world.processes.append(process)
    wait_for(lambda: ready.exists() or process.poll() is not None, 200)
    world.url = ready.read_text().strip()
    return process
