"""A study's key is rotated, then put out of use: who it was stays who it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from broker.registered import RegisteredStudy
from broker.services.epochs import next_epoch
from broker.store import bulk, people, runs, studies
from broker.store.engine import Database
from linkage.errors import Conflict
from linkage.messages import CUSTODIAN, Deactivation
from linkage.run_messages import RunRequest
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import STUDY, World, make_world, packages, problem, running, sign_for


def at_epoch(epoch: int, text: str = STUDY) -> str:
    return text.replace('title = "A small study"', f'title = "A small study"\nepoch = {epoch}')


def signed_again(world: World, text: str, **changed: Any) -> SignedStudy:
    """The same custodian signs another study file, with the same pins unless changed."""
    identities = {**world.identities, **changed}
    signed, _ = sign_for(world.home.public(), world.study_id, text=text, identities=identities)
    return signed


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("epochs"))) as made:
        yield made


def known(world: World) -> dict[bytes, bytes]:
    """The newest person of every record, by pseudonym."""
    database = Database(world.home.database_url())
    with database.read() as connection:
        found = people.everyone(connection, world.study_id)
    database.close()
    return dict(zip(bulk.split(found.pseudonyms), bulk.split(found.persons), strict=True))


def actions(world: World) -> list[str]:
    return [entry["action"] for entry in world.actor("admin").get("/v1/audit", limit=1000).json()]


@pytest.mark.threat("T22")
def test_a_study_lives_through_its_epochs(world: World) -> None:
    """One after another: first epoch, rotation, second epoch, deactivation, third."""
    first = packages(world)
    for package in first.values():
        world.upload(package)
    assert world.run()["state"] == "done"
    before = known(world)
    half_sent = late_package(world)

    _refused_successors(world)
    signed_in = world.actor("enclave")
    assert signed_in.get(world.path).status_code == 200
    rotated = signed_again(world, at_epoch(2))
    admin, imaging = world.actor("admin"), world.actor("imaging")
    made = admin.post("/v1/studies", rotated)
    assert (made.status_code, made.json()["epoch"]) == (201, 2)
    assert admin.post("/v1/studies", rotated).status_code == 200
    assert signed_in.get(world.path).status_code == 401, "its keys may have been renewed"
    told = imaging.get(world.path).json()["parties"]
    assert [(one["uploader"], one["dataset"], one["outdated"]) for one in told] == [
        ("imaging", None, 1),
        ("enclave", None, 1),
        ("claims", None, 1),
    ]
    _refuses_the_first_epoch(world, first["imaging"], half_sent)
    nothing = problem(admin.post(f"{world.path}/runs", RunRequest()))
    assert nothing[:2] == (409, "conflict")
    assert "imaging (only of epoch 1)" in nothing[2]

    world.signed = rotated
    for package in packages(world, dataset=3).values():
        world.upload(package)
    done = world.run()
    assert done["state"] == "done", done["failure"]
    assert set(done["report"]["person_changes"].values()) == {0}
    after = known(world)
    assert after == before, "every record is who it was"
    told = imaging.get(world.path).json()["parties"]
    assert [(one["dataset"], one["outdated"]) for one in told] == [(3, None)] * 3
    _first_run_keeps_its_epoch(world)
    assert actions(world).count("study epoch registered") == 1

    _deactivate(world)
    third = signed_again(world, at_epoch(3))
    assert admin.post("/v1/studies", third).status_code == 201
    assert world.actor("imaging").get(world.path).json()["deactivated"] is None
    world.signed = third
    world.upload(packages(world, dataset=9)["imaging"])


def late_package(world: World) -> Package:
    """The imaging party begins another version and is interrupted."""
    records = encoded(world.signed, "imaging", range(30))
    late = pack(world.signed, world.identities["imaging"], records, dataset=2)
    imaging = world.actor("imaging")
    imaging.post(f"{world.path}/datasets", late.manifest).raise_for_status()
    imaging.put(f"{world.path}/datasets/imaging/2/parts/1", late.parts[0]).raise_for_status()
    return late


def _refused_successors(world: World) -> None:
    admin = world.actor("admin")

    def said(signed: SignedStudy, **params: Any) -> str:
        status, code, detail = problem(admin.post("/v1/studies", signed, **params))
        assert (status, code) == (409, "conflict")
        return detail

    assert "of epoch 1, this one of 1" in said(
        signed_again(world, STUDY.replace("To test with", "To test on"))
    )
    stranger = Identity.generate(CUSTODIAN, kem="X25519")
    assert "another custodian" in said(signed_again(world, at_epoch(2), custodian=stranger))
    fewer = at_epoch(2).replace(
        'id = "claims"\n', 'id = "claims"\ncontributors = ["north", "south"]\n'
    )
    assert "other parties or contributors" in said(signed_again(world, fewer))
    moved = at_epoch(2).replace('id = "claims"\n', 'id = "other"\ncontributors = ["claims"]\n')
    assert "moves 'claims' from 'claims' to 'other'" in said(
        signed_again(world, moved), allow_changed_parties=True
    )
    assert admin.get(world.path).json()["epoch"] == 1


def _refuses_the_first_epoch(world: World, complete: Package, half_sent: Package) -> None:
    imaging = world.actor("imaging")
    again = problem(imaging.post(f"{world.path}/datasets", complete.manifest))
    assert again[:2] == (422, "package-refused")
    assert "of epoch 1, the study of 2" in again[2]
    at = f"{world.path}/datasets/imaging/2"
    for answer in (
        imaging.put(f"{at}/parts/2", half_sent.parts[1]),
        imaging.post(f"{at}/complete"),
    ):
        status, code, detail = problem(answer)
        assert (status, code) == (409, "conflict")
        assert "dataset version 2 is of epoch 1, the study of 2" in detail


def _first_run_keeps_its_epoch(world: World) -> None:
    """A run that a worker takes up again after a rotation sees the study as it was."""
    database = Database(world.home.database_url())
    with database.read() as connection:
        epochs = [row.epoch for row in runs.of_study(connection, world.study_id)]
        old = studies.find_study_at(connection, world.study_id, 1)
        new = studies.find_study_at(connection, world.study_id, 2)
        assert old is not None
        assert new is not None
    database.close()
    assert sorted(epochs) == [1, 2]
    assert RegisteredStudy.of(old).config.study.epoch == 1
    assert RegisteredStudy.of(new).study_hash == world.signed.study_hash


def _deactivate(world: World) -> None:
    admin, imaging = world.actor("admin"), world.actor("imaging")
    notice = Deactivation(
        study_id=world.study_id,
        epoch=2,
        key_check=world.signed.key_check,
        date="2026-05-31",
        reason="a laptop was stolen",
    )
    forged = notice.sign(world.identities["imaging"])
    assert problem(admin.post("/v1/deactivations", forged))[:2] == (422, "package-refused")
    custodian = world.identities[CUSTODIAN]
    other_key = notice.model_copy(update={"key_check": "0" * 32}).sign(custodian)
    assert "another study or key" in problem(admin.post("/v1/deactivations", other_key))[2]
    unknown = notice.model_copy(update={"study_id": "no-study"}).sign(custodian)
    assert problem(admin.post("/v1/deactivations", unknown))[:2] == (404, "not-found")
    assert problem(imaging.post("/v1/deactivations", notice.sign(custodian)))[0] == 403
    assert imaging.get(world.path).json()["deactivated"] is None

    first, again = (admin.post("/v1/deactivations", notice.sign(custodian)) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    said = "on 2026-05-31: a laptop was stolen"
    assert imaging.get(world.path).json()["deactivated"] == said
    records = encoded(world.signed, "imaging", range(30))
    late = pack(world.signed, world.identities["imaging"], records, dataset=4)
    status, code, detail = problem(imaging.post(f"{world.path}/datasets", late.manifest))
    assert (status, code) == (409, "conflict")
    assert detail == f"the study key of epoch 2 was deactivated {said}"
    # What is complete may still be linked.
    assert admin.post(f"{world.path}/runs", RunRequest(seed=5)).status_code == 202
    assert actions(world).count("study key deactivated") == 1


def test_what_the_audit_log_says_of_a_rotation(world: World) -> None:
    """Who got new keys, and whether the parties changed."""
    text = at_epoch(8).replace(
        'id = "claims"\n', 'id = "claims"\ncontributors = ["north", "south"]\n'
    )
    old = RegisteredStudy.of(
        studies.StudyRow(
            id=world.study_id,
            study_hash=world.signed.study_hash,
            signed=world.signed.model_dump_json(),
            registered_at=0,
        )
    )
    renewed = Identity.generate("enclave", kem="X25519")
    new = signed_again(world, text, enclave=renewed)
    with pytest.raises(Conflict, match="other parties or contributors"):
        next_epoch(old, new, allow_changed_parties=False)
    said = next_epoch(old, new, allow_changed_parties=True)
    assert said["parties"] == "changed"
    assert said["new keys of"] == "enclave"
    assert said["changed tables"] == "party claims"
    assert not [key for key in said if key.startswith("study.")]
    other = at_epoch(8).replace(
        'purpose = "To test with"', 'purpose = "To sell"\nrelease_to = ["imaging"]'
    )
    told = next_epoch(old, signed_again(world, other), allow_changed_parties=False)
    assert told["study.purpose"] == '"To test with" -> "To sell"'
    assert told["study.release_to"] == '[] -> ["imaging"]'
    assert "changed tables" not in told
    real = new.model_copy(update={"rehearsal": False}).sign(world.identities[CUSTODIAN])
    with pytest.raises(Conflict, match="rehearsal and a real study"):
        next_epoch(old, real, allow_changed_parties=True)
