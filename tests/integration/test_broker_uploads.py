"""Uploads over HTTP: each way to get one wrong has its own clear refusal, and leaves nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from linkage.messages import BROKER, CUSTODIAN, DATASET_PART, Manifest
from linkage.sealing import Context, seal
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import HTTP, Actor, World, make_world, problem, running, sign_for

NUMBERS = count(100)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("uploads")), worker=False) as made:
        yield made


@pytest.fixture
def imaging(world: World) -> Actor:
    return world.actor("imaging")


def package(world: World, **changed: Any) -> Package:
    """A good package of the imaging party with the next version number; `changed` spoils it."""
    records = encoded(world.signed, "imaging", range(30))
    changed = {"dataset": next(NUMBERS)} | changed
    return pack(world.signed, world.identities["imaging"], records, **changed)


def at(world: World, made: Package, part: int | None = None) -> str:
    path = f"{world.path}/datasets/{made.manifest.party}/{made.manifest.dataset}"
    return f"{path}/parts/{part}" if part else path


def announce(world: World, imaging: Actor, made: Package) -> tuple[int, str, str]:
    return problem(imaging.post(f"{world.path}/datasets", made.manifest))


def stored(world: World) -> set[Path]:
    """Every file in the blob folder, half-written ones too."""
    return {path for path in world.home.blobs.rglob("*") if path.is_file()}


@pytest.mark.threat("P03")
def test_an_upload_goes_part_by_part_and_the_same_again_is_one(
    world: World, imaging: Actor
) -> None:
    made = package(world)
    first = imaging.post(f"{world.path}/datasets", made.manifest)
    assert (first.status_code, first.json()["missing"]) == (201, [1, 2])
    assert imaging.put(at(world, made, 2), made.parts[1]).status_code == 204
    again = imaging.post(f"{world.path}/datasets", made.manifest)
    assert (again.status_code, again.json()["missing"]) == (200, [1])
    early = imaging.post(f"{at(world, made)}/complete")
    assert problem(early) == (409, "conflict", "1 parts are missing, first: 1")
    for _ in range(2):
        assert imaging.put(at(world, made, 1), made.parts[0]).status_code == 204
        assert imaging.post(f"{at(world, made)}/complete").json()["state"] == "complete"
    assert imaging.get(at(world, made)).json()["missing"] == []
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in stored(world)}
    assert {part.digest for part in made.manifest.parts} <= digests


def test_wrong_study_key(world: World, imaging: Actor) -> None:
    refused = announce(world, imaging, package(world, key_check="cd" * 16))
    assert refused[:2] == (422, "key-refused")
    assert "wrong study key" in refused[2]


@pytest.mark.threat("P07")
@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"study_hash": "0" * 64}, "package-refused", "wrong study"),
        ({"study_id": "other-study"}, "package-refused", "wrong study"),
        ({"schema_hash": "0" * 64}, "package-refused", "another linkage schema"),
        ({"epoch": 2}, "package-refused", "of epoch 2, the study of 1"),
        ({"densities": {"name-dob-sex": 0.0999}}, "package-refused", "sets 0.0999 of its bits"),
        ({"densities": {"name-dob-sex": 0.5501}}, "package-refused", "sets 0.5501 of its bits"),
        ({"densities": {}}, "package-refused", "CLKs are not those of the study"),
        ({"densities": {"name-dob-sex": 0.3, "x": 0.3}}, "package-refused", "CLKs are not those"),
        ({"collisions": {"strange": 5}}, "package-refused", "match-key rules"),
        ({"null_reasons": {"strange": {"missing": 1}}}, "package-refused", "match-key rules"),
        ({"records": 31}, "package-refused", "do not add up"),
        ({"groups": 31}, "package-refused", "more groups than records"),
    ],
)
def test_a_manifest_that_does_not_fit(
    world: World, imaging: Actor, changed: dict[str, Any], code: str, said: str
) -> None:
    status, found, detail = announce(world, imaging, package(world, **changed))
    assert (status, found) == (422, code)
    assert said in detail


@pytest.mark.parametrize("density", [0.0, 0.10, 0.55])
def test_the_density_bounds_are_inclusive(world: World, imaging: Actor, density: float) -> None:
    made = package(world, densities={"name-dob-sex": density})
    assert imaging.post(f"{world.path}/datasets", made.manifest).status_code == 201


def test_parts_that_are_not_numbered_in_order(world: World, imaging: Actor) -> None:
    good = package(world).manifest
    swapped = tuple(reversed(good.parts))
    manifest = good.model_copy(update={"parts": swapped}).sign(world.identities["imaging"])
    refused = announce(world, imaging, Package(manifest, []))
    assert "not numbered 1, 2, 3" in refused[2]


@pytest.mark.threat("T22")
def test_an_altered_manifest(world: World, imaging: Actor) -> None:
    made = package(world)
    altered = made.manifest.model_copy(update={"software": "other"})
    status, code, detail = announce(world, imaging, Package(altered, []))
    assert (status, code) == (422, "package-refused")
    assert "signature is not that of 'imaging'" in detail
    unsigned = made.manifest.model_copy(update={"signature": ""})
    assert "not signed" in announce(world, imaging, Package(unsigned, []))[2]


@pytest.mark.threat("T22")
def test_a_manifest_of_another_party_or_by_a_stranger(world: World, imaging: Actor) -> None:
    records = encoded(world.signed, "enclave", range(30))
    others = pack(world.signed, world.identities["enclave"], records)
    assert announce(world, imaging, others)[:2] == (403, "not-allowed")
    strangers = package(world).manifest.sign(world.identities["claims"])
    assert announce(world, imaging, Package(strangers, []))[:2] == (422, "package-refused")


def test_a_second_upload_of_the_same_version(world: World, imaging: Actor) -> None:
    made = package(world)
    assert imaging.post(f"{world.path}/datasets", made.manifest).status_code == 201
    other = package(world, dataset=made.manifest.dataset)
    status, code, detail = announce(world, imaging, other)
    assert (status, code) == (409, "conflict")
    assert "second upload of the same version" in detail
    # A site that lost its folder counts from 1 again: the number to take is said, and is accepted.
    newer = package(world)
    assert imaging.post(f"{world.path}/datasets", newer.manifest).status_code == 201
    again = imaging.post(f"{world.path}/datasets", other.manifest).json()
    assert again["hint"].endswith(f"--dataset {newer.manifest.dataset + 1}")
    assert imaging.post(f"{world.path}/datasets", package(world).manifest).status_code == 201


def test_only_a_higher_version_replaces_an_unfinished_one(world: World, imaging: Actor) -> None:
    older, newer = package(world), package(world)
    before = stored(world)
    imaging.post(f"{world.path}/datasets", older.manifest)
    imaging.put(at(world, older, 1), older.parts[0])
    assert imaging.post(f"{world.path}/datasets", newer.manifest).status_code == 201
    assert stored(world) == before
    assert problem(imaging.put(at(world, older, 2), older.parts[1]))[:2] == (409, "conflict")
    assert problem(imaging.post(f"{at(world, older)}/complete"))[0] == 409
    low = package(world, dataset=newer.manifest.dataset - 1)
    assert announce(world, imaging, low)[0] == 409


def test_the_normalisation_must_be_that_of_the_study(world: World, imaging: Actor) -> None:
    """Told before the schema's hash, which covers it too: this is what the operator can act on."""
    made = package(world, normalisation="999", schema_hash="0" * 64)
    status, code, detail = announce(world, imaging, made)
    assert (status, code) == (422, "package-refused")
    assert "normalised by version 999" in detail
    assert f"signed for version {world.signed.normalisation}" in detail
    answer = imaging.post(f"{world.path}/datasets", made.manifest)
    assert "same software version at all sites" in answer.json()["hint"]


def test_in_older_studies_the_first_upload_sets_the_normalisation(world: World) -> None:
    """Studies signed before they named the version."""
    signed, identities = sign_for(world.home.public(), "older-study")
    older = signed.model_copy(update={"normalisation": ""}).sign(identities[CUSTODIAN])
    made = World(world.home, older, identities, world.admin, url=world.url)
    made.actor("admin").post("/v1/studies", older).raise_for_status()
    packages = {
        name: pack(older, identities[name], encoded(older, name, range(30)), normalisation=version)
        for name, version in (("imaging", "7"), ("claims", "8"))
    }
    made.upload(packages["imaging"])
    status, code, detail = announce(made, made.actor("claims"), packages["claims"])
    assert (status, code) == (409, "conflict")
    assert "normalisation version differs from that of 'imaging'" in detail


class TestParts:
    """Parts that are not what the manifest announces; nothing of them stays."""

    @pytest.fixture
    def made(self, world: World, imaging: Actor) -> Package:
        made = package(world)
        assert imaging.post(f"{world.path}/datasets", made.manifest).status_code == 201
        return made

    def refused(
        self, world: World, made: Package, data: bytes, part: int = 1
    ) -> tuple[int, str, str]:
        before = stored(world)
        answer = world.actor("imaging").put(at(world, made, part), data)
        assert stored(world) == before
        told = problem(answer)
        state = world.actor("imaging").get(at(world, made)).json()
        assert state["missing"] == [1, 2]
        return told

    def test_truncated(self, world: World, made: Package) -> None:
        status, code, detail = self.refused(world, made, made.parts[0][:-1])
        assert (status, code) == (422, "package-refused")
        assert "part 1 is truncated" in detail

    def test_empty(self, world: World, made: Package) -> None:
        assert "truncated: 0 of" in self.refused(world, made, b"")[2]

    def test_oversize(self, world: World, made: Package) -> None:
        assert self.refused(world, made, made.parts[0] + b"x")[:2] == (413, "too-large")

    def test_oversize_without_a_length(self, world: World, made: Package) -> None:
        imaging = world.actor("imaging")
        before = stored(world)

        def pieces() -> Iterator[bytes]:
            yield made.parts[0]
            yield b"x" * 65536

        answer = imaging.call("PUT", at(world, made, 1), content=pieces())
        assert problem(answer)[:2] == (413, "too-large")
        assert stored(world) == before

    def test_altered(self, world: World, made: Package) -> None:
        data = bytearray(made.parts[0])
        data[-1] ^= 1
        status, code, detail = self.refused(world, made, bytes(data))
        assert (status, code) == (422, "package-refused")
        assert "not the one in the manifest" in detail

    def test_another_part(self, world: World, made: Package) -> None:
        parts = made.manifest.parts
        assert parts[0].size == parts[1].size
        assert "not the one in the manifest" in self.refused(world, made, made.parts[1])[2]

    def test_compressed(self, world: World, made: Package) -> None:
        answer = world.actor("imaging").call(
            "PUT", at(world, made, 1), content=b"x", headers={"Content-Encoding": "gzip"}
        )
        assert problem(answer)[:2] == (422, "package-refused")

    def test_a_part_that_nobody_announced(self, world: World, made: Package) -> None:
        imaging = world.actor("imaging")
        assert problem(imaging.put(at(world, made, 3), b"x"))[:2] == (404, "not-found")
        other = f"{world.path}/datasets/imaging/999999/parts/1"
        assert problem(imaging.put(other, b"x"))[:2] == (404, "not-found")


@pytest.mark.threat("T22")
@pytest.mark.parametrize("spoil", ["unsigned", "other-signer", "other-study", "other-place"])
def test_a_part_that_its_party_did_not_seal_for_this_place(
    world: World, imaging: Actor, spoil: str
) -> None:
    """The manifest announces the very bytes, so only the seal's signature can tell."""
    number = next(NUMBERS)
    good = package(world, dataset=number, parts=1)
    sender = world.identities["claims" if spoil == "other-signer" else "imaging"]
    context = Context(
        "other-study" if spoil == "other-study" else world.study_id,
        "imaging",
        BROKER,
        DATASET_PART,
        (str(number), "2" if spoil == "other-place" else "1", "1"),
    )
    data = seal(b"rows", sender=sender, recipient=world.signed.pin(BROKER), context=context)
    if spoil == "unsigned":
        data = data[:4] + bytes(64) + data[68:]
    part = good.manifest.parts[0].model_copy(
        update={"size": len(data), "digest": hashlib.sha256(data).hexdigest()}
    )
    manifest: Manifest = good.manifest.model_copy(update={"parts": (part,)})
    made = Package(manifest.sign(world.identities["imaging"]), [data])
    assert imaging.post(f"{world.path}/datasets", made.manifest).status_code == 201
    before = stored(world)
    status, code, detail = problem(imaging.put(at(world, made, 1), data))
    assert (status, code) == (422, "package-refused")
    assert "not signed by 'imaging' for this study, recipient and place" in detail
    assert stored(world) == before


@pytest.mark.threat("P03")
def test_the_same_upload_many_times_at_once_has_one_effect(world: World) -> None:
    made = package(world)

    def upload(_: int) -> str:
        return str(world.upload(made).json()["state"])

    before = stored(world)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(upload, range(16))) == {"complete"}
    assert len(stored(world) - before) == len(made.parts)


@pytest.mark.threat("P08")
def test_caps_on_size_and_records(tmp_path: Path) -> None:
    made = make_world(tmp_path)
    config = made.home.path / "config.toml"
    config.write_text(config.read_text() + "\n[limits]\ndataset_bytes = 1000\njson_bytes = 40000\n")
    with running(made, worker=False) as world:
        imaging = world.actor("imaging")
        refused = announce(world, imaging, package(world))
        assert refused[:2] == (413, "too-large")
        assert "larger than 1000 bytes" in refused[2]
        flood = imaging.call("POST", f"{world.path}/datasets", content=b"[" * 50_000)
        assert problem(flood)[:2] == (413, "too-large")
        token = HTTP.post(f"{world.url}/v1/token", content=b"x" * 20_000)
        assert problem(token)[:2] == (413, "too-large")


class TestRegistration:
    """Which signed studies a broker takes."""

    def test_the_same_study_twice_is_one(self, world: World) -> None:
        again = world.actor("admin").post("/v1/studies", world.signed)
        assert (again.status_code, again.json()["study_id"]) == (200, world.study_id)

    def test_another_study_of_the_same_id(self, world: World) -> None:
        other, _ = sign_for(world.home.public(), world.study_id)
        refused = problem(world.actor("admin").post("/v1/studies", other))
        assert refused[:2] == (409, "conflict")

    def test_a_study_of_another_broker(self, world: World) -> None:
        other, _ = sign_for(
            world.identities["claims"].public().model_copy(update={"name": BROKER}), "stray-study"
        )
        refused = problem(world.actor("admin").post("/v1/studies", other))
        assert refused[:2] == (422, "package-refused")
        assert "another broker's keys" in refused[2]

    def test_a_real_study_needs_the_custodians_fingerprint(self, world: World) -> None:
        signed, identities = sign_for(world.home.public(), "real-study", rehearsal=False)
        admin = world.actor("admin")
        assert "fingerprint was not given" in problem(admin.post("/v1/studies", signed))[2]
        wrong = admin.post("/v1/studies", signed, custodian_fingerprint="ab12 " * 8)
        assert "another custodian" in problem(wrong)[2]
        right = identities["custodian"].public().fingerprint
        mistyped = right[:-1] + ("0" if right[-1] != "0" else "1")
        said = problem(admin.post("/v1/studies", signed, custodian_fingerprint=mistyped))[2]
        assert "differs in group 8 of 8" in said
        done = admin.post("/v1/studies", signed, custodian_fingerprint=right)
        assert done.status_code == 201

    def test_an_altered_study(self, world: World) -> None:
        altered = world.signed.model_copy(
            update={"study_toml": world.signed.study_toml.replace("To test", "To sell")}
        )
        refused = problem(world.actor("admin").post("/v1/studies", altered))
        assert refused[:2] == (422, "package-refused")

    def test_a_study_named_admin(self, world: World) -> None:
        signed, _ = sign_for(world.home.public(), "admin")
        refused = problem(world.actor("admin").post("/v1/studies", signed))
        assert refused[:2] == (422, "study-refused")

    def test_a_party_registers_nothing(self, world: World, imaging: Actor) -> None:
        assert problem(imaging.post("/v1/studies", world.signed))[:2] == (403, "not-allowed")


def test_a_broker_of_record_takes_no_rehearsal(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    config = world.home.path / "config.toml"
    config.write_text(config.read_text().replace("allow_rehearsal = true", ""))
    try:
        world.serve()
        refused = problem(world.actor("admin").post("/v1/studies", world.signed))
        assert refused[:2] == (403, "not-allowed")
        assert "takes no rehearsals" in refused[2]
    finally:
        world.stop()


def test_what_cannot_be_read_is_named_without_its_value(world: World, imaging: Actor) -> None:
    body = package(world).manifest.model_dump(mode="json") | {"records": "canary-value"}
    answer = imaging.call("POST", f"{world.path}/datasets", json=body | {"canary-key": 1})
    status, code, detail = problem(answer)
    assert (status, code) == (422, "malformed-request")
    assert "body.records" in detail
    assert "canary" not in answer.text
    infinite = imaging.call(
        "POST",
        f"{world.path}/datasets",
        content=package(world).manifest.model_dump_json().replace("0.32", "NaN"),
        headers={"Content-Type": "application/json"},
    )
    assert problem(infinite)[0] == 422
