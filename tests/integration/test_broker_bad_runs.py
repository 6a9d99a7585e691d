"""Runs that cannot be: nobody has uploaded, or what was uploaded is not what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from linkage import messages
from linkage.messages import BROKER, QuestionRequest, ReleaseRequest, RunRequest
from linkage.records import to_arrow
from linkage.sealing import Context, seal
from tests.broker_packages import encoded, pack
from tests.broker_world import World, make_world, problem, running, sign_for


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("bad-runs"))) as made:
        yield made


def test_missing_parties_are_named(world: World) -> None:
    """In a study of its own, in which nobody has uploaded yet."""
    signed, identities = sign_for(world.home.public(), "early-study")
    early = World(world.home, signed, identities, world.admin, url=world.url)
    admin = early.actor("admin")
    admin.post("/v1/studies", signed).raise_for_status()
    runs = f"{early.path}/runs"
    refused = problem(admin.post(runs, RunRequest(), allow_missing=True))
    assert refused == (
        409,
        "conflict",
        "no complete dataset version from: imaging, enclave, claims",
    )
    for party in ("imaging", "enclave"):
        records = encoded(signed, party, range(60))
        early.upload(pack(signed, identities[party], records))
    assert problem(admin.post(runs, RunRequest()))[2] == "no complete dataset version from: claims"
    started = admin.post(runs, RunRequest(), allow_missing=True)
    assert started.status_code == 202
    done = early.finish(f"{runs}/{started.json()['run_id']}")
    assert done["state"] == "done", done["failure"]
    assert set(done["report"]["records"]) == {"imaging", "enclave"}
    asked = QuestionRequest(
        run_id="run-none", title="x", purpose="x", spec_hash="0" * 64, imaging={}, clinical={}
    )
    none_yet = admin.post(f"{early.path}/questions", asked)
    assert problem(none_yet)[0] == 404


@pytest.mark.threat("P07")
@pytest.mark.threat("P08")
@pytest.mark.parametrize("spoil", ["records", "groups", "twice", "null", "no-table", "bomb"])
def test_a_run_over_a_bad_dataset_fails_with_cause_and_remedy(world: World, spoil: str) -> None:
    """What only the worker can see, because the server opens nothing."""
    signed, identities = sign_for(world.home.public(), f"bad-{spoil}")
    bad = World(world.home, signed, identities, world.admin, url=world.url)
    bad.actor("admin").post("/v1/studies", signed).raise_for_status()
    for party in ("imaging", "enclave", "claims"):
        records = encoded(signed, party, range(60))
        changed: dict[str, Any] = {}
        if party == "enclave" and spoil == "records":
            good = pack(signed, identities[party], records).manifest.parts
            parts = tuple(p.model_copy(update={"records": p.records + 1}) for p in good)
            changed = {"records": 62, "groups": 60, "parts": parts}
        if party == "enclave" and spoil == "groups":
            changed = {"groups": 59}
        if party == "enclave" and spoil == "twice":
            records.pseudonyms[1] = records.pseudonyms[0]
        if party == "enclave" and spoil == "null":
            records.match_keys["sound-dob"].present[5] = False
        package = pack(signed, identities[party], records, **_without(changed, "parts"))
        if "parts" in changed:
            package = _with_parts(package, identities[party])
        if party == "enclave" and spoil in ("no-table", "bomb"):
            inside = b"junk" if spoil == "no-table" else _compressed(records, signed)
            package = _with_first_part(signed, package, identities[party], inside)
        bad.upload(package)
    done = bad.run()
    assert done["state"] == "failed"
    said = {
        "records": "another number of records than its manifest says",
        "groups": "another number of records or groups than its manifest says",
        "twice": "a record pseudonym occurs twice",
        "null": "'enclave': an encoding is null, and the study has nulls filled",
        "no-table": "what is inside is no table",
        "bomb": "what is inside is no table",
    }
    assert said[spoil] in done["failure"]
    assert "Hint: " in done["failure"]
    assert done["result_digest"] is None
    release = bad.actor("admin").post(f"{bad.path}/releases", ReleaseRequest(run_id=done["run_id"]))
    assert problem(release)[:2] == (409, "conflict")
    # The next try is a new run, not the failed one.
    again = bad.actor("admin").post(f"{bad.path}/runs", RunRequest()).json()
    assert again["run_id"] != done["run_id"]
    bad.finish(f"{bad.path}/runs/{again['run_id']}")


def _without(changed: dict[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in changed.items() if k != name}


def _with_parts(package: Any, sender: Any) -> Any:
    """Announce one record more in each part than there is, and sign that."""
    parts = tuple(p.model_copy(update={"records": p.records + 1}) for p in package.manifest.parts)
    manifest = package.manifest.model_copy(update={"parts": parts}).sign(sender)
    return replace(package, manifest=manifest)


def _with_first_part(signed: Any, package: Any, sender: Any, inside: bytes) -> Any:
    """Seal something else, correctly, in place of the first part."""
    details = ("1", "1", str(len(package.parts)))
    context = Context(signed.study.study.id, sender.name, BROKER, messages.DATASET_PART, details)
    data = seal(inside, sender=sender, recipient=signed.pin(BROKER), context=context)
    first = package.manifest.parts[0].model_copy(
        update={"size": len(data), "digest": hashlib.sha256(data).hexdigest()}
    )
    parts = (first, *package.manifest.parts[1:])
    manifest = package.manifest.model_copy(update={"parts": parts}).sign(sender)
    return replace(package, manifest=manifest, parts=[data, *package.parts[1:]])


def _compressed(records: Any, signed: Any) -> bytes:
    """The right table, compressed: Arrow would allocate whatever size its buffers claim."""
    batch = to_arrow(records, signed.study).slice(0, len(records) // 2)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
