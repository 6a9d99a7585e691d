"""Runs that cannot be: nobody has uploaded, or what was uploaded is not what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from linkage import messages
from linkage.messages import BROKER, ReleaseRequest
from linkage.records import to_arrow
from linkage.run_messages import RunRequest
from linkage.sealing import Context, seal
from tests.broker_packages import encoded, pack
from tests.broker_world import (
    STUDY,
    World,
    lose_blobs,
    make_world,
    opened,
    problem,
    running,
    sign_for,
)
from tests.questions import question as asking


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
    asked = asking("run-none")
    none_yet = admin.post(f"{early.path}/questions", asked)
    assert problem(none_yet)[0] == 404


@pytest.mark.threat("P07")
@pytest.mark.threat("P08")
@pytest.mark.parametrize("spoil", ["records", "groups", "twice", "null", "no-table", "bomb"])
def test_a_bad_dataset_is_put_into_quarantine_with_cause_and_remedy(
    world: World, spoil: str
) -> None:
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
    told = opened(bad, "enclave")
    said = {
        "records": "another number of records than its manifest says",
        "groups": "another number of records or groups than its manifest says",
        "twice": "a record pseudonym occurs twice",
        "null": "'enclave': an encoding is null, and the study has nulls filled",
        "no-table": "what is inside is no table",
        "bomb": "what is inside is no table",
    }
    assert told["state"] == "quarantined"
    assert said[spoil] in told["reason"]
    assert "Hint: " in told["reason"]
    admin = bad.actor("admin")
    refused = problem(admin.post(f"{bad.path}/runs", RunRequest()))
    assert refused[:2] == (409, "conflict")
    assert refused[2].endswith("from: enclave (version 1 is in quarantine)")
    release = admin.post(f"{bad.path}/releases", ReleaseRequest())
    assert problem(release)[:2] == (409, "conflict")


def _study(world: World, name: str, **people: int) -> World:
    """Register a study of its own in which these parties have uploaded so many people."""
    signed, identities = sign_for(world.home.public(), name)
    made = World(world.home, signed, identities, world.admin, url=world.url)
    made.actor("admin").post("/v1/studies", signed).raise_for_status()
    for party, count in people.items():
        made.upload(pack(signed, identities[party], encoded(signed, party, range(count))))
    return made


def test_a_party_of_one_record_and_one_of_duplicates_only_are_linked(world: World) -> None:
    odd = _study(world, "odd-parties", imaging=60, enclave=1)
    records = encoded(odd.signed, "claims", range(40))
    same = replace(records, groups=np.zeros(40, np.uint32))
    for column in (*same.clks.values(), *same.match_keys.values()):
        column.values[:] = column.values[0]
        column.present[:] = column.present[0]
    odd.upload(pack(odd.signed, odd.identities["claims"], same))
    done = odd.run()
    assert done["state"] == "done", done["failure"]
    report = done["report"]
    assert report["records"] == {"imaging": 60, "enclave": 1, "claims": 40}
    assert report["people"] == {"imaging": 60, "enclave": 1, "claims": 1}
    assert report["persons"] <= 62


def test_forty_equal_records_that_a_site_did_not_group_are_linked_to_nobody(world: World) -> None:
    """Their keys are the fillers that take the place of keys that two people share."""
    odd = _study(world, "ungrouped", imaging=60, enclave=60)
    same = encoded(odd.signed, "claims", range(40))
    noise = np.random.default_rng(1)
    for clk in same.clks.values():
        clk.values[:] = clk.values[0]
    for key in same.match_keys.values():
        key.values[:] = noise.integers(0, 256, key.values.shape)
    odd.upload(pack(odd.signed, odd.identities["claims"], same))
    done = odd.run()
    assert done["state"] == "done", done["failure"]
    # One of them may pass for the person whose filter they all have.
    assert 98 <= done["report"]["persons"] <= 103


@pytest.mark.parametrize("seed", ["-1", "1e400", "NaN", "2147483649", '"one"', "1.5"])
def test_parameters_out_of_range_start_nothing(world: World, seed: str) -> None:
    admin = world.actor("admin")
    before = admin.get(f"{world.path}/runs").json()
    kind = {"Content-Type": "application/json"}
    body = f'{{"seed": {seed}}}'
    answer = admin.call("POST", f"{world.path}/runs", content=body, headers=kind)
    assert answer.status_code in (400, 422)
    assert problem(answer)[1] == "malformed-request"
    assert admin.get(f"{world.path}/runs").json() == before


def test_encodings_of_another_length_are_refused(world: World) -> None:
    """A contributor that tokenized with another study file: half as long a CLK."""
    odd = _study(world, "mixed-lengths", imaging=60, claims=60)
    other = sign_for(world.home.public(), "mixed-lengths", text=STUDY.replace("1024", "512"))[0]
    sender = odd.identities["enclave"]
    batch = to_arrow(encoded(other, "enclave", range(60)), other.study).slice(0, 30)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    package = pack(odd.signed, sender, encoded(odd.signed, "enclave", range(60)))
    odd.upload(_with_first_part(odd.signed, package, sender, bytes(sink.getvalue())))
    told = opened(odd, "enclave")
    assert told["state"] == "quarantined"
    assert "its columns are not those of the study" in told["reason"]
    assert "Hint: " in told["reason"]


def test_a_dataset_replaced_under_way_leaves_the_run_what_it_began_with(world: World) -> None:
    odd = _study(world, "replaced", imaging=60, enclave=60, claims=60)
    admin = odd.actor("admin")
    started = admin.post(f"{odd.path}/runs", RunRequest()).raise_for_status().json()
    fewer = encoded(odd.signed, "claims", range(20))
    odd.upload(pack(odd.signed, odd.identities["claims"], fewer, dataset=2))
    done = odd.finish(f"{odd.path}/runs/{started['run_id']}")
    assert done["state"] == "done", done["failure"]
    assert done["report"]["records"]["claims"] == 60
    assert odd.run()["report"]["records"]["claims"] == 20


def test_a_dataset_that_is_gone_fails_the_run_with_a_remedy(world: World) -> None:
    odd = _study(world, "gone", imaging=60, enclave=60, claims=60)
    lose_blobs(odd, "claims")
    done = odd.run()
    assert done["state"] == "failed"
    assert "Hint: " in done["failure"]


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
