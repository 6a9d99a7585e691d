"""The broker takes no study that did not pass the release gate, and no more than was measured."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.services.studies import Studies
from broker.store import studies
from broker.store.engine import Database
from linkage.certificate import GateCertificate
from linkage.errors import StudyRefused
from linkage.messages import CUSTODIAN, Manifest
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import PROGRAM, STUDY, World, make_world, problem, running, sign_for
from tests.studies import EXCEPTION, excepted


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("gate")), worker=False) as made:
        yield made


def real(
    world: World, study_id: str, text: str = STUDY, **figures: Any
) -> tuple[SignedStudy, dict[str, Identity]]:
    """Sign a study that is no rehearsal; `figures` change those of its certificate afterwards."""
    signed, identities = sign_for(world.home.public(), study_id, rehearsal=False, text=text)
    if figures and signed.certificate:
        raw = signed.certificate.model_dump() | figures
        other = GateCertificate.model_validate(raw)
        signed = signed.model_copy(update={"certificate": other}).sign(identities[CUSTODIAN])
    return signed, identities


def without(signed: SignedStudy, identities: dict[str, Identity]) -> SignedStudy:
    """As the custodian's software signed it before there was a gate."""
    return signed.model_copy(update={"certificate": None}).sign(identities[CUSTODIAN])


def register(world: World, signed: SignedStudy) -> Any:
    told = signed.pin(CUSTODIAN).fingerprint
    return world.actor("admin").post("/v1/studies", signed, custodian_fingerprint=told)


def test_a_study_without_certificate_is_refused_with_the_remedy(world: World) -> None:
    answer = register(world, without(*real(world, "no-certificate")))
    status, code, detail = problem(answer)
    assert (status, code) == (422, "study-refused")
    assert "no release-gate certificate" in detail
    assert "linkage attack study.toml --out gate" in answer.json()["hint"]
    assert problem(world.actor("admin").get("/v1/studies/no-certificate"))[0] == 404


def test_a_failed_certificate_is_refused_with_every_reason(world: World) -> None:
    signed, _ = real(world, "failed", draws=2, unique_by_structure=0.02)
    status, code, detail = problem(register(world, signed))
    assert (status, code) == (422, "study-refused")
    assert "(1) key draws: 2" in detail
    assert "(2) match keys: 2.000% of records" in detail


def test_a_certificate_older_than_its_schema_is_refused(world: World) -> None:
    """The custodian changed the study file after the gate had measured it, and signed."""
    measured, identities = real(world, "changed")
    deeper = STUDY.replace("length = 1024", "length = 1024\ndiffusion = 7")
    text = deeper.format(id="changed")
    later, _ = sign_for(
        world.home.public(), "changed", rehearsal=False, text=deeper, identities=identities
    )
    assert later.study_toml == text
    old = later.model_copy(update={"certificate": measured.certificate})
    detail = problem(register(world, old.sign(identities[CUSTODIAN])))[2]
    assert "older than the schema" in detail
    assert register(world, later).status_code == 201


def test_a_certificate_that_cannot_be_read_is_named_without_its_value(world: World) -> None:
    raw = real(world, "unreadable")[0].model_dump(mode="json")
    raw["certificate"]["correlation"] = raw["certificate"]["draws"] = "canary-value"
    answer = world.actor("admin").call("POST", "/v1/studies", json=raw)
    status, code, detail = problem(answer)
    assert (status, code) == (422, "malformed-request")
    assert "body.certificate.draws" in detail
    assert "canary" not in answer.text


@pytest.mark.threat("T23")
def test_an_exception_is_taken_and_everybody_sees_its_words(world: World) -> None:
    signed, identities = sign_for(
        world.home.public(), "excepted", rehearsal=False, text=excepted(STUDY)
    )
    signed = without(signed, identities)
    made = register(world, signed)
    assert made.status_code == 201
    said = f"EXCEPTION: {EXCEPTION}"
    assert made.json()["release_gate"] == said
    (entry,) = [
        one
        for one in world.actor("admin").get("/v1/audit", limit=1000).json()
        if one.get("study") == "excepted"
    ]
    assert entry["detail"]["release gate"] == said
    listed = subprocess.run(
        [PROGRAM, "study", "list", "--home", str(world.home.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"release gate: {said}" in listed.stdout


def test_a_passed_study_says_for_how_many_and_since_when(world: World) -> None:
    signed, _ = real(world, "passed")
    made = register(world, signed)
    assert made.status_code == 201
    assert made.json()["release_gate"] == "passed for 300,000 people (2026-11-21)"
    command = [PROGRAM, "study", "list", "--json", "--home", str(world.home.path)]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert {one["study_id"]: one["release_gate"] for one in listed}["passed"].startswith("passed")


@pytest.mark.threat("T23")
def test_the_console_is_no_way_around(world: World, tmp_path: Path) -> None:
    signed = without(*real(world, "by-console"))
    file = tmp_path / "signed.json"
    file.write_text(signed.model_dump_json())
    told = signed.pin(CUSTODIAN).fingerprint
    done = subprocess.run(
        [PROGRAM, "study", "register", str(file), "--home", str(world.home.path),
         "--custodian-fingerprint", told],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no release-gate certificate" in done.stderr


@pytest.mark.threat("T23")
def test_the_next_epoch_needs_a_certificate_of_its_own(world: World) -> None:
    first, identities = real(world, "rotated")
    assert register(world, first).status_code == 201
    text = STUDY.replace("[study]", "[study]\nepoch = 2")
    second, _ = sign_for(
        world.home.public(), "rotated", rehearsal=False, text=text, identities=identities
    )
    stale = second.model_copy(update={"certificate": first.certificate})
    detail = problem(register(world, stale.sign(identities[CUSTODIAN])))[2]
    assert "for epoch 1, this is epoch 2" in detail
    made = register(world, second)
    assert (made.status_code, made.json()["epoch"]) == (201, 2)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_study_registered_before_there_was_a_gate_stays_readable(
    backend: str, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    world = make_world(tmp_path, url=new_postgres_url() if backend == "postgresql" else None)
    signed = without(*real(world, "old-study"))
    raw = json.loads(signed.model_dump_json())
    del raw["certificate"]
    row = studies.StudyRow(
        id="old-study", study_hash=signed.study_hash, signed=json.dumps(raw), registered_at=1
    )
    database = Database(world.home.database_url())
    try:
        with database.change() as connection:
            studies.add_study(connection, row)
        service = Studies(database, world.home)
        (state,) = service.all()
        assert (state.study_id, state.epoch) == ("old-study", 1)
        assert state.release_gate == "NOT PASSED: it has no release-gate certificate"
        told = signed.pin(CUSTODIAN).fingerprint
        again, new = service.register("console", signed, custodian_fingerprint=told)
        assert (again.study_hash, new) == (signed.study_hash, False)
        other = without(*real(world, "new-study"))
        with pytest.raises(StudyRefused, match="does not pass the release gate"):
            service.register(
                "console", other, custodian_fingerprint=other.pin(CUSTODIAN).fingerprint
            )
    finally:
        database.close()


# The declared size

SMALL = STUDY.replace("records = 100_000", "records = 100")
HOSPITALS = SMALL.replace(
    'id = "imaging"\nkind', 'id = "imaging"\ncontributors = ["hospital-a", "hospital-b"]\nkind'
)


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sized")
    with running(make_world(folder, text=HOSPITALS), worker=False) as made:
        yield made


def package(world: World, uploader: str, people: range, **more: Any) -> Package:
    records = encoded(world.signed, uploader, people)
    return pack(world.signed, world.identities[uploader], records, **more)


def announce(world: World, manifest: Manifest) -> Any:
    return world.actor(manifest.uploader).post(f"{world.path}/datasets", manifest)


@pytest.mark.threat("T02")
def test_more_records_than_declared_are_refused(sized: World) -> None:
    """The exact number is taken, one more is not; a newer version replaces and does not add."""
    sized.upload(package(sized, "claims", range(100)))
    answer = announce(sized, package(sized, "claims", range(101), dataset=2).manifest)
    status, code, detail = problem(answer)
    assert (status, code) == (413, "too-large")
    assert "'claims' would have more records here than the 100" in detail
    assert "raise records in the study file" in answer.json()["hint"]
    sized.upload(package(sized, "claims", range(50, 150), dataset=2))


def test_a_delta_counts_as_the_version_that_it_makes(sized: World) -> None:
    sized.upload(package(sized, "enclave", range(90)))
    delta = package(sized, "enclave", range(10), dataset=2)
    grown = delta.manifest.model_copy(update={"base": 1, "changed": 10, "records": 101})
    signed = grown.sign(sized.identities["enclave"])
    assert problem(announce(sized, signed))[:2] == (413, "too-large")


@pytest.mark.threat("T02")
def test_contributors_of_a_party_count_together(sized: World) -> None:
    first = package(sized, "hospital-a", range(60))
    late = package(sized, "hospital-b", range(41))
    assert announce(sized, late.manifest).status_code == 201, "the other has sent nothing yet"
    sized.upload(first)
    hospital = sized.actor("hospital-b")
    at = f"{sized.path}/datasets/hospital-b/1"
    for number, data in enumerate(late.parts, start=1):
        hospital.put(f"{at}/parts/{number}", data).raise_for_status()
    status, code, detail = problem(hospital.post(f"{at}/complete"))
    assert (status, code) == (413, "too-large")
    assert "with those of its other contributors" in detail
    told = problem(announce(sized, package(sized, "hospital-b", range(41), dataset=2).manifest))
    assert told[:2] == (413, "too-large")
    sized.upload(package(sized, "hospital-b", range(40), dataset=2))
