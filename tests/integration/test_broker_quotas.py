"""A full quota refuses whatever a party sends, but never that somebody opts out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from linkage.governance import opt_out_bytes, opt_out_context
from linkage.messages import ASSERTIONS, BROKER, ReleaseRequest
from linkage.run_messages import RunRequest
from linkage.sealing import Context, seal
from tests.broker_packages import encoded
from tests.broker_world import PROGRAM, World, make_world, packages, problem, running, wait_for


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    with running(make_world(tmp_path_factory.mktemp("quotas"), url=url)) as made:
        yield made


def console(world: World, *words: str) -> str:
    command = [PROGRAM, "upload", *words, "--home", str(world.home.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout


def usage(world: World) -> dict[str, dict[str, Any]]:
    told = json.loads(console(world, "usage", world.study_id, "--json"))
    return {one["party"]: one for one in told}


def sealed(world: World, data: bytes, context: Context) -> bytes:
    sender, recipient = world.identities["claims"], world.signed.pin(BROKER)
    return seal(data, sender=sender, recipient=recipient, context=context)


def run(world: World) -> dict[str, Any]:
    started = world.actor("admin").post(f"{world.path}/runs", RunRequest(second_look=False))
    return world.finish(f"{world.path}/runs/{started.raise_for_status().json()['run_id']}", 250)


def test_a_full_quota_hinders_nobody_who_opts_out(world: World) -> None:
    made = packages(world, people=60, overlap=30)
    for package in made.values():
        world.upload(package)
    assert run(world)["report"]["records"]["claims"] == 60
    claims = world.actor("claims")
    for quota in (("0", "--party", "claims"), ("0",)):
        assert "full" in console(world, "quota", world.study_id, *quota)
    before = usage(world)
    assert (before["claims"]["quota"], before[""]["quota"]) == (0, 0)
    # What can wait is refused, with what to do.
    newer = packages(world, people=60, overlap=30, dataset=2)["claims"]
    asserted = Context(world.study_id, "claims", BROKER, ASSERTIONS, ("1", "1"))
    for refused in (
        claims.post(f"{world.path}/datasets", newer.manifest),
        claims.put(f"{world.path}/assertions/1", sealed(world, b"who is whom", asserted)),
    ):
        assert problem(refused)[:2] == (413, "too-large")
        assert "larger quota" in refused.json()["hint"]
    assert usage(world) == before
    # A person who objects does not wait.
    names = encoded(world.signed, "claims", range(60, 70)).pseudonyms
    own = {one.tobytes() for one in encoded(world.signed, "claims", range(60, 120)).pseudonyms}
    assert {one.tobytes() for one in names} <= own
    listed = opt_out_bytes(names)
    context = opt_out_context(world.study_id, "claims", 1, 1)
    at = f"{world.path}/opt-outs"
    assert claims.put(f"{at}/1", sealed(world, listed, context)).status_code == 201
    after = usage(world)
    for party in ("claims", ""):
        assert after[party]["other"] > before[party]["other"]
        assert after[party]["datasets"] == before[party]["datasets"]
    assert "only opt-out lists are taken" in console(world, "usage", world.study_id)
    wait_for(lambda: claims.get(at).json()[0]["records"] is not None, 100)
    assert claims.get(at).json()[0]["refusal"] == ""
    # And it works: the next run and release go without these records.
    again = run(world)
    assert again["report"]["records"] == {"imaging": 60, "enclave": 60, "claims": 50}
    asked = world.actor("admin").post(f"{world.path}/releases", ReleaseRequest())
    job = world.finish(f"{world.path}/jobs/{asked.raise_for_status().json()['job_id']}")
    assert job["state"] == "done", job["failure"]
