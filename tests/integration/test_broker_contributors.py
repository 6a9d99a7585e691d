"""Hospitals that tokenize for a commons: each a dataset of its own, only the commons gets IDs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from linkage import idtables
from linkage.case_map_names import case_map_subject
from linkage.messages import (
    BROKER,
    CASE_MAP,
    CROSSWALK,
    QUESTION_ANSWER,
    ReleaseRequest,
)
from linkage.run_messages import RunRequest
from linkage.sealing import Context, seal, unseal
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import STUDY, World, make_world, problem, running

TEXT = STUDY.replace(
    'id = "imaging"\nkind', 'id = "imaging"\ncontributors = ["hospital-a", "hospital-b"]\nkind'
)
PEOPLE = {
    "hospital-a": range(120),
    "hospital-b": range(60, 180),
    "enclave": range(30, 150),
    "claims": range(100, 220),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("contributors"), text=TEXT)) as made:
        yield made


@pytest.fixture(scope="module")
def run(world: World) -> dict[str, Any]:
    for uploader in ("hospital-a", "enclave", "claims"):
        world.upload(package(world, uploader))
    early = world.actor("admin").post(f"{world.path}/runs", RunRequest())
    assert problem(early) == (409, "conflict", "no complete dataset version from: hospital-b")
    world.upload(package(world, "hospital-b"))
    done = world.run()
    assert done["state"] == "done", done["failure"]
    return done


def package(world: World, uploader: str, **changed: Any) -> Package:
    records = encoded(world.signed, uploader, PEOPLE[uploader])
    return pack(world.signed, world.identities[uploader], records, **changed)


def test_a_person_of_two_hospitals_is_one_in_the_commons(world: World, run: dict[str, Any]) -> None:
    assert run["report"]["records"] == dict.fromkeys(PEOPLE, 120)
    compared = [set(one["parties"]) for one in run["report"]["comparisons"]]
    assert {"hospital-a", "hospital-b"} in compared
    assert len(compared) == 6
    request = ReleaseRequest(run_id=run["run_id"], audience=("imaging", "enclave"))
    made = world.actor("admin").post(f"{world.path}/releases", request).json()
    world.finish(f"{world.path}/jobs/{made['job_id']}")
    ids = {party: _ids(world, party, made["job_id"]) for party in request.audience}
    truth = {
        encoded(world.signed, uploader, [person]).pseudonyms[0].tobytes(): (uploader, person)
        for uploader, people in PEOPLE.items()
        for person in people
    }
    assert {truth[name][0] for name in ids["imaging"]} == {"hospital-a", "hospital-b"}
    assert len(ids["imaging"]) == 240
    of: dict[bytes, list[tuple[str, int]]] = {}
    for party in ids:
        for name, one in ids[party].items():
            of.setdefault(one, []).append(truth[name])
    assert all(len({person for _, person in held}) == 1 for held in of.values())
    inside = [held for held in of.values() if {"hospital-a", "hospital-b"} <= {u for u, _ in held}]
    assert len(inside) >= 57, "60 persons are in both hospitals"
    everywhere = [held for held in inside if len(held) == 3]
    assert len(everywhere) >= 57, "and the enclave has them all"


def _ids(world: World, party: str, release: str) -> dict[bytes, bytes]:
    actor = world.actor(party)
    (item,) = actor.get(f"{world.path}/inbox", purpose=CROSSWALK, subject=release).json()["items"]
    sealed = actor.get(f"{world.path}/inbox/{item['item_id']}").content
    opened = unseal(
        sealed,
        sender=world.signed.pin(BROKER),
        recipient=world.identities[party],
        context=Context(world.study_id, BROKER, party, CROSSWALK, (release,)),
    )
    table = idtables.unpack(opened, idtables.CROSSWALK)
    rows = zip(table["record_pseudonym"], table["cross_commons_id"], strict=True)
    return {name.tobytes(): one.tobytes() for name, one in rows}


@pytest.mark.threat("T15")
def test_a_contributor_asks_for_nothing(world: World, run: dict[str, Any]) -> None:
    hospital = world.actor("hospital-a")
    for path in ("inbox", "runs", f"runs/{run['run_id']}", "questions"):
        assert problem(hospital.get(f"{world.path}/{path}"))[:2] == (403, "not-allowed"), path
    to_itself = ReleaseRequest(run_id=run["run_id"], audience=("hospital-a",))
    refused = world.actor("admin").post(f"{world.path}/releases", to_itself)
    assert problem(refused)[:2] == (403, "not-allowed")


def test_each_sees_its_own_numbers_and_the_commons_both(world: World, run: dict[str, Any]) -> None:
    def shown(who: str) -> dict[str, int | None]:
        parties = world.actor(who).get(world.path).json()["parties"]
        assert [one["party"] for one in parties] == ["imaging", "imaging", "enclave", "claims"]
        return {one["uploader"]: one["records"] for one in parties if one["records"]}

    assert shown("hospital-a") == {"hospital-a": 120}
    assert shown("imaging") == {"hospital-a": 120, "hospital-b": 120}
    assert shown("claims") == {"claims": 120}
    assert shown("admin") == dict.fromkeys(PEOPLE, 120)


def test_each_uploads_its_own_only(world: World, run: dict[str, Any]) -> None:
    datasets = f"{world.path}/datasets"
    mine = package(world, "hospital-a", dataset=7)
    for who in ("hospital-b", "imaging", "claims"):
        assert problem(world.actor(who).post(datasets, mine.manifest))[0] == 403, who
    for changed in ({"contributor": ""}, {"party": "claims"}, {"contributor": "hospital-b"}):
        forged = package(world, "hospital-a", dataset=7, **changed).manifest
        refused = problem(world.actor("hospital-a").post(datasets, forged))
        assert refused[:2] == (403, "not-allowed"), changed
    at = f"{datasets}/hospital-a/1"
    assert world.actor("hospital-a").get(at).json()["state"] == "complete"
    assert problem(world.actor("hospital-b").get(at))[0] == 403
    assert problem(world.actor("hospital-b").put(f"{at}/parts/1", b"x"))[0] == 403


def test_a_case_map_goes_to_the_own_commons_unopened(world: World, run: dict[str, Any]) -> None:
    hospital, outbox = world.actor("hospital-a"), f"{world.path}/outbox"
    subject = case_map_subject(1, 1, 1)

    def sealed(subject: str, recipient: str = "imaging") -> bytes:
        return seal(
            b"who is whom",
            sender=world.identities["hospital-a"],
            recipient=world.signed.pin(recipient),
            context=Context(world.study_id, "hospital-a", recipient, CASE_MAP, (subject,)),
        )

    to = {"recipient": "imaging", "purpose": CASE_MAP, "subject": subject}
    strange: list[tuple[dict[str, str], int]] = [
        ({"recipient": "enclave"}, 403),
        ({"recipient": "hospital-b"}, 403),
        ({"purpose": QUESTION_ANSWER}, 403),
        ({"subject": "release-1"}, 422),
        ({"subject": "dataset-1-chunk-2-of-1"}, 422),
        ({"subject": "dataset-1-chunk-1-of-2"}, 422),
        ({"subject": "dataset-9-chunk-1-of-1"}, 404),
    ]
    for changed, status in strange:
        answer = hospital.put(outbox, sealed(subject), **(to | changed))
        assert answer.status_code == status, changed
    others = problem(world.actor("hospital-b").put(outbox, sealed(subject), **to))
    assert others[:2] == (422, "package-refused")
    for who in ("imaging", "enclave", "claims"):
        assert problem(world.actor(who).put(outbox, sealed(subject), **to))[0] == 403, who
    data = sealed(subject)
    first, again = (hospital.put(outbox, data, **to) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    item = f"{world.path}/inbox/{first.json()['item_id']}"
    assert world.actor("imaging").get(item).content == data
    assert problem(world.actor("enclave").get(item))[0] == 404
