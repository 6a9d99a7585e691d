"""The life of a study at a real broker, on both databases: confirmed, linked, closed, destroyed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.container import Broker
from broker.store import destruction, governance
from broker.store.engine import Database
from linkage.errors import Conflict, PackageRefused
from linkage.governance import DestructionCertificate, opt_out_bytes, opt_out_context
from linkage.messages import BROKER, CUSTODIAN, ReleaseRequest
from linkage.run_messages import RunRequest
from linkage.sealing import Identity, seal
from tests.broker_packages import encoded
from tests.broker_world import (
    PROGRAM,
    World,
    crash,
    make_world,
    packages,
    problem,
    running,
    sign_for,
    wait_for,
)
from tests.people import in_session
from tests.questions import question as asking


def console(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, *words, "--home", str(world.home.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def told(world: World, *words: str) -> Any:
    done = console(world, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def linked(world: World) -> dict[str, Any]:
    """Make a run and wait for it, with patience: machines that test are busy."""
    started = world.actor("admin").post(f"{world.path}/runs", RunRequest(second_look=False))
    return world.finish(f"{world.path}/runs/{started.raise_for_status().json()['run_id']}", 250)


@pytest.fixture(params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> Iterator[World]:
    """A real study, no rehearsal, registered and confirmed by nobody."""
    made = make_world(tmp_path, url=new_postgres_url() if request.param == "postgresql" else None)
    with running(made, worker=False):
        signed, identities = sign_for(made.home.public(), "governed", rehearsal=False)
        print_of = signed.pin(CUSTODIAN).fingerprint
        admin = made.actor("admin")
        admin.post("/v1/studies", signed, custodian_fingerprint=print_of).raise_for_status()
        made.signed, made.identities = signed, identities
        yield made


@pytest.mark.timeout(1800)
def test_a_study_lives_from_draft_to_destruction(world: World) -> None:
    first = packages(world, people=60, overlap=30)
    imaging, admin = world.actor("imaging"), world.actor("admin")
    broker = Broker.at(world.home)
    _a_draft_takes_nothing(world)
    _everyone_confirms(world)
    for package in first.values():
        world.upload(package)
    world.work()
    assert linked(world)["state"] == "done"
    assert broker.lifecycle.confirmations("governed").state == "linking"
    released = admin.post(f"{world.path}/releases", ReleaseRequest(audience=("enclave",)))
    job = world.finish(f"{world.path}/jobs/{released.raise_for_status().json()['job_id']}")
    assert job["state"] == "done", job["failure"]
    _opts_out(world)

    with pytest.raises(Conflict, match="not closed"):
        broker.lifecycle.destroy("console", "governed", confirm="governed")
    assert told(world, "study", "close", "governed")["state"] == "closed"
    assert broker.lifecycle.close("console", "governed") == "closed", "twice is once"
    for answer in (
        imaging.post(f"{world.path}/datasets", first["imaging"].manifest),
        admin.post(f"{world.path}/runs", RunRequest(seed=2)),
        admin.post(f"{world.path}/releases", ReleaseRequest()),
    ):
        status, code, detail = problem(answer)
        assert (status, code) == (409, "conflict")
        assert "the study is closed" in detail
    assert world.actor("enclave").get(f"{world.path}/inbox").json()["items"], "stays readable"
    assert broker.lifecycle.reopen("console", "governed") == "linking"
    assert admin.post(f"{world.path}/runs", RunRequest(second_look=False)).status_code == 202
    broker.lifecycle.close("console", "governed")
    _is_destroyed(world)


def _a_draft_takes_nothing(world: World) -> None:
    manifest = packages(world, people=10, overlap=5)["imaging"].manifest
    refused = world.actor("imaging").post(f"{world.path}/datasets", manifest)
    status, code, detail = problem(refused)
    assert (status, code) == (409, "conflict")
    assert "a draft that not every party has confirmed" in detail
    assert "linkage-site confirm" in refused.json()["hint"]
    assert problem(world.actor("admin").post(f"{world.path}/runs", RunRequest()))[0] == 409
    assert "have run `linkage-site confirm`: imaging, enclave, claims" in (
        console(world, "study", "show", "governed").stdout
    )


def _everyone_confirms(world: World) -> None:
    from linkage.governance import Confirmation

    imaging = world.actor("imaging")

    def said(signer: Identity, **changed: Any) -> tuple[int, str]:
        fields = {
            "study_id": world.study_id,
            "epoch": 1,
            "study_hash": world.signed.study_hash,
            "party": "imaging",
        } | changed
        body = Confirmation(**fields).sign(signer)
        answer = imaging.post(f"{world.path}/confirmations", body)
        return answer.status_code, answer.text

    own = world.identities["imaging"]
    assert said(own, study_hash="0" * 64)[0] == 409
    assert said(own, epoch=2)[0] == 409
    assert said(own, party="enclave")[0] == 409
    assert said(world.identities["enclave"])[0] == 422
    assert world.confirm("imaging").json()["state"] == "draft"
    assert world.confirm("imaging").json()["state"] == "draft", "twice is once"
    after = world.confirm("enclave", "claims").json()
    assert after["state"] == "open"
    assert all(one["confirmed_at"] for one in after["parties"])


def _opts_out(world: World) -> None:
    """Ten records of the enclave, and two that no run has known, are opted out."""
    names = encoded(world.signed, "enclave", range(30, 40)).pseudonyms
    unknown = encoded(world.signed, "enclave", range(900, 902)).pseudonyms
    listed = opt_out_bytes([*names, *unknown])  # type: ignore[arg-type]
    enclave = world.actor("enclave")
    sealed = seal(
        listed,
        sender=world.identities["enclave"],
        recipient=world.signed.pin(BROKER),
        context=opt_out_context(world.study_id, "enclave", 1, 1),
    )
    at = f"{world.path}/opt-outs"
    assert problem(enclave.put(f"{at}/2", sealed))[0] == 409, "the next is number 1"
    assert problem(world.actor("claims").put(f"{at}/1", sealed))[0] == 422, "not sealed by it"
    assert enclave.put(f"{at}/1", sealed).status_code == 201
    assert enclave.put(f"{at}/1", sealed).status_code == 200
    wait_for(lambda: enclave.get(at).json()[0]["records"] is not None, 100)
    (state,) = enclave.get(at).json()
    assert (state["records"], state["unknown"], state["refusal"]) == (12, 2, "")
    assert [(one["kind"], one["records"]) for one in state["held_by"]] == [("release", 10)]
    assert world.actor("imaging").get(at).json() == []
    _stewards_read_counts_of_their_own(world)
    again = linked(world)
    assert again["state"] == "done", again["failure"]
    assert again["report"]["records"]["enclave"] == 50
    released = world.actor("admin").post(
        f"{world.path}/releases", ReleaseRequest(audience=("enclave",))
    )
    world.finish(f"{world.path}/jobs/{released.raise_for_status().json()['job_id']}")


def _stewards_read_counts_of_their_own(world: World) -> None:
    at = f"{world.path}/taken-out"
    counts = {"number": 1, "opted_out": 12, "given_out": 1, "withdrawn": None}
    nothing = {"number": None, "opted_out": None, "given_out": 0, "withdrawn": None}
    for role, wanted in (
        ("steward:governed:enclave", {"enclave": counts}),
        ("steward:governed:imaging", {"imaging": nothing}),
        ("admin", {"imaging": nothing, "enclave": counts, "claims": nothing}),
    ):
        who = in_session(world.home, world.url, role.replace(":", "-"), role)
        told = who.call("GET", at).raise_for_status().json()
        assert {one["uploader"]: {n: one[n] for n in counts} for one in told} == wanted, role
        # Counts alone: no list, no name of a release, nothing to compare with another's.
        assert "release-" not in json.dumps(told)
        if role != "admin":
            assert problem(who.call("GET", f"{world.path}/opt-outs"))[0] == 403
    operator = in_session(world.home, world.url, "op-enclave", "operator:governed:enclave")
    assert problem(operator.call("GET", at))[0] == 403
    assert [one["uploader"] for one in world.actor("claims").get(at).json()] == ["claims"]


def _is_destroyed(world: World) -> None:
    """Nothing shows from the order on; a worker that starts later carries it out."""
    for process in world.processes[1:]:
        crash(process)
    del world.processes[1:]
    assert not told(world, "study", "destroy", "governed", "--confirm", "governed")["finished"]
    enclave, admin = world.actor("enclave"), world.actor("admin")
    for path in ("inbox", "runs", "releases", "questions", "opt-outs"):
        answer = (admin if path in ("runs", "releases") else enclave).get(f"{world.path}/{path}")
        assert problem(answer)[:2] == (409, "conflict"), path
    assert enclave.get(world.path).json()["state"] == "destroyed"
    assert problem(enclave.get(f"{world.path}/destruction"))[0] == 404
    blobs = [p for p in world.home.blobs.glob("??/*") if p.is_file()]
    assert blobs
    world.work()
    wait_for(lambda: enclave.get(f"{world.path}/destruction").status_code == 200, 60)
    made = DestructionCertificate.model_validate_json(
        enclave.get(f"{world.path}/destruction").content
    )
    made.check(world.signed)
    assert made.asked_by == "console"
    assert made.rows["part"] == 6
    assert made.rows["membership"] > 100
    assert len(made.manifests) == 3
    assert [one.kind for one in made.given_out] == ["release", "release"]
    assert any("backups" in one.what for one in made.remains)
    with pytest.raises(PackageRefused):
        made.model_copy(update={"blobs": made.blobs + 1}).check(world.signed)
    database = Database(world.home.database_url())
    with database.read() as connection:
        left = {t: destruction.count(connection, t, "governed") for t in destruction.tables()}
        assert not any(left.values())
        assert governance.confirmations(connection, "governed", 1), "the header stays"
    database.close()
    assert not [p for p in world.home.blobs.glob("??/*") if p.is_file()]
    assert console(world, "audit", "verify").returncode == 0
    again = admin.post(
        "/v1/studies",
        world.signed,
        custodian_fingerprint=world.signed.pin(CUSTODIAN).fingerprint,
    )
    assert again.json()["state"] == "destroyed", "the id is not used again"
    question = asking()
    assert problem(enclave.post(f"{world.path}/questions", question))[0] == 409
