"""From uploads to IDs, questions and deliveries over HTTP, on SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from broker import audit
from broker.store.engine import Database
from linkage import delivery, idtables
from linkage.messages import (
    BROKER,
    CROSSWALK,
    DELIVERY_CROSSWALK,
    DELIVERY_KEY,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_IDS,
    Approval,
    QuestionRequest,
    ReleaseRequest,
)
from linkage.run_messages import RunRequest
from linkage.sealing import Context, seal, unseal
from tests.broker_packages import encoded
from tests.broker_world import HTTP, World, make_world, packages, problem, running, wait_for
from tests.questions import question as asking

PEOPLE, OVERLAP = 120, 60


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    with running(make_world(tmp_path_factory.mktemp("linkage"), url=url)) as made:
        yield made


@pytest.fixture(scope="module")
def run(world: World) -> dict[str, Any]:
    """A finished run over everybody's first dataset version."""
    for package in packages(world, people=PEOPLE, overlap=OVERLAP).values():
        world.upload(package)
    done = world.run()
    assert done["state"] == "done", done["failure"]
    return done


@pytest.fixture(scope="module")
def question(world: World, run: dict[str, Any]) -> str:
    """A question that the worker has prepared."""
    answer = world.actor("enclave").post(f"{world.path}/questions", asked(run["run_id"]))
    job = world.finish(f"{world.path}/jobs/{answer.raise_for_status().json()['job_id']}")
    assert (job["kind"], job["state"]) == ("question", "done"), job["failure"]
    return str(job["job_id"])


def asked(run_id: str) -> QuestionRequest:
    return asking(
        run_id,
        title="Chest CT in lung cancer",
        purpose="To test with",
        imaging={"modality": ["CT"]},
        clinical={"concept": 4115276},
    )


def opened(world: World, party: str, purpose: str, subject: str) -> bytes:
    """Fetch and open the one item of this purpose and subject in a party's inbox."""
    actor = world.actor(party)
    items = actor.get(f"{world.path}/inbox", purpose=purpose, subject=subject).json()["items"]
    assert len(items) == 1
    body = actor.get(f"{world.path}/inbox/{items[0]['item_id']}")
    assert body.headers["content-type"] == "application/octet-stream"
    assert hashlib.sha256(body.content).hexdigest() == items[0]["digest"]
    context = Context(world.study_id, BROKER, party, purpose, (subject,))
    return unseal(
        body.content,
        sender=world.signed.pin(BROKER),
        recipient=world.identities[party],
        context=context,
    )


def by_name(data: bytes, widths: dict[str, int], column: str) -> dict[bytes, bytes]:
    table = idtables.unpack(data, widths)
    names = [row.tobytes() for row in table["record_pseudonym"]]
    return dict(zip(names, (row.tobytes() for row in table[column]), strict=True))


def rows_of(data: bytes, widths: dict[str, int]) -> list[dict[str, bytes]]:
    table = idtables.unpack(data, widths)
    return [
        {name: column[i].tobytes() for name, column in table.items()}
        for i in range(len(table["record_pseudonym"]))
    ]


def people_by_name(world: World, party: str) -> dict[bytes, int]:
    """The truth: which made-up person each pseudonym is."""
    number = [p.id for p in world.signed.study.party].index(party)
    start = number * (PEOPLE - OVERLAP)
    people = range(start, start + PEOPLE)
    return {
        encoded(world.signed, party, [person]).pseudonyms[0].tobytes(): person for person in people
    }


def spec_of(world: World, question: str) -> str:
    told = world.actor("admin").get(f"{world.path}/questions/{question}")
    return str(told.raise_for_status().json()["spec_hash"])


def decide(world: World, party: str, question: str, decision: str = "approve", **changed: str):  # type: ignore[no-untyped-def]
    fields = {
        "study_id": world.study_id,
        "question_id": question,
        "spec_hash": spec_of(world, question),
        "study_hash": world.signed.study_hash,
    } | changed
    approval = Approval(**fields, party=party, decision=decision)  # type: ignore[arg-type]
    signed = approval.sign(world.identities[party])
    return world.actor(party).post(f"{world.path}/questions/{question}/approvals", signed)


@pytest.mark.threat("T07")
@pytest.mark.threat("T17")
def test_a_run_reports_to_admins_and_tells_parties_nothing_to_probe_with(
    world: World, run: dict[str, Any]
) -> None:
    report = run["report"]
    assert report["records"] == {"imaging": PEOPLE, "enclave": PEOPLE, "claims": PEOPLE}
    assert sum(report["overlaps"].values()) == report["persons"]
    assert report["overlaps"]["enclave+imaging"] >= OVERLAP - 3
    sizes = {int(size): count for size, count in report["cluster_sizes"].items()}
    assert sum(sizes.values()) == report["persons"]
    assert sum(size * count for size, count in sizes.items()) == 3 * PEOPLE
    # Of all parties together, as of each two: what lies below the link threshold, and above.
    for one in (report["overall"], *(c["estimate"] for c in report["comparisons"])):
        under = {point["threshold"]: point for point in one["below"]}
        link, review = under[one["link_threshold"]], under[one["review"]["threshold"]]
        assert link["pairs"] <= sum(one["histogram"])
        assert review["matches"] <= link["matches"]
    assert 0.9 < report["estimated_precision"] <= 1
    assert set(run["seconds"]) == {"open", "candidates", "weights", "solve", "identity"}
    assert (run["stage"], run["progress"]) == ("identity", 1.0)
    path = f"{world.path}/runs/{run['run_id']}"
    told = world.actor("imaging").get(path).json()
    assert told["state"] == "done"
    assert (told["report"], told["result_digest"], told["seconds"]) == (None, None, {})
    listed = world.actor("imaging").get(f"{world.path}/runs").json()
    # Nor any figure, in a list.
    assert [(one["work"], one["seconds"], one["asked_at"]) for one in listed] == [
        (None, {}, None)
    ] * len(listed)
    counts = world.actor("imaging").get(world.path).json()["parties"]
    assert {p["party"]: p["records"] for p in counts} == {
        "imaging": PEOPLE,
        "enclave": None,
        "claims": None,
    }


def test_the_same_run_again_is_the_same(world: World, run: dict[str, Any]) -> None:
    admin = world.actor("admin")
    again = admin.post(f"{world.path}/runs", RunRequest()).json()
    assert again["run_id"] == run["run_id"]
    listed = admin.get(f"{world.path}/runs").json()
    assert [one["run_id"] for one in listed] == [run["run_id"]]
    # Its report comes with the run itself.
    assert (listed[0]["report"], listed[0]["result_digest"]) == (None, run["result_digest"])
    assert admin.get(f"{world.path}/runs", before=run["run_id"]).json() == []
    for limit in (0, 101):
        assert admin.get(f"{world.path}/runs", limit=limit).status_code == 422
    for unknown, status in (("run-none", 404), ("a/b", 422)):
        assert admin.get(f"{world.path}/runs", before=unknown).status_code == status


def test_a_release_gives_every_record_an_id_and_a_person_one(
    world: World, run: dict[str, Any]
) -> None:
    admin = world.actor("admin")
    request = ReleaseRequest(run_id=run["run_id"], audience=("imaging", "enclave", "claims"))
    keyed = {"headers": {"Idempotency-Key": "release-test"}}
    made = [
        admin.call("POST", f"{world.path}/releases", json=request.model_dump(mode="json"), **keyed)
        for _ in range(2)
    ]
    assert made[0].json()["job_id"] == made[1].json()["job_id"]
    job = world.finish(f"{world.path}/jobs/{made[0].json()['job_id']}")
    assert job["state"] == "done", job["failure"]
    ids = {
        party: by_name(
            opened(world, party, CROSSWALK, job["job_id"]), idtables.CROSSWALK, "cross_commons_id"
        )
        for party in request.audience
    }
    truth = {party: people_by_name(world, party) for party in request.audience}
    assert {party: set(ids[party]) for party in ids} == {p: set(truth[p]) for p in truth}
    for one, other in [("imaging", "enclave"), ("enclave", "claims")]:
        linked = {
            (truth[one][a], truth[other][b])
            for a in ids[one]
            for b in ids[other]
            if ids[one][a] == ids[other][b]
        }
        right = {pair for pair in linked if pair[0] == pair[1]}
        assert len(linked) >= OVERLAP - 3
        assert len(right) == len(linked)
    other = request.model_copy(update={"audience": ("enclave",)}).model_dump(mode="json")
    reused = admin.call("POST", f"{world.path}/releases", json=other, **keyed)
    assert problem(reused)[:2] == (422, "request-reused")


def test_the_default_audience_is_the_enclave_and_the_newest_run(
    world: World, run: dict[str, Any]
) -> None:
    made = world.actor("admin").post(f"{world.path}/releases", ReleaseRequest()).json()
    world.finish(f"{world.path}/jobs/{made['job_id']}")
    assert len(opened(world, "enclave", CROSSWALK, made["job_id"])) > 0
    inbox = world.actor("imaging").get(f"{world.path}/inbox", subject=made["job_id"]).json()
    assert inbox["items"] == []


@pytest.mark.threat("T15")
def test_a_release_beyond_the_study_is_refused(world: World, run: dict[str, Any]) -> None:
    request = ReleaseRequest(run_id=run["run_id"], audience=("stranger",))
    refused = problem(world.actor("admin").post(f"{world.path}/releases", request))
    assert refused[:2] == (403, "not-allowed")
    unknown = world.actor("admin").post(f"{world.path}/releases", ReleaseRequest(run_id="run-x"))
    assert problem(unknown)[:2] == (404, "not-found")


@pytest.mark.threat("T11")
def test_a_question_shows_each_side_its_own_half(world: World, question: str) -> None:
    path = f"{world.path}/questions/{question}"
    seen = {who: world.actor(who).get(path).json() for who in ("imaging", "enclave", "claims")}
    seen["admin"] = world.actor("admin").get(path).json()
    shown = {who: (told["imaging"], told["clinical"]) for who, told in seen.items()}
    assert shown == {
        "imaging": ({"modality": ["CT"]}, None),
        "enclave": (None, {"concept": 4115276}),
        "claims": (None, None),
        "admin": (None, None),
    }
    listed = world.actor("imaging").get(f"{world.path}/questions").json()
    assert [(one["imaging"], one["clinical"]) for one in listed] == [shown["imaging"]]


@pytest.mark.threat("T21")
def test_question_ids_match_for_one_person_and_are_fresh_for_each_question(
    world: World, run: dict[str, Any], question: str
) -> None:
    again = world.actor("admin").post(f"{world.path}/questions", asked(run["run_id"])).json()
    world.finish(f"{world.path}/jobs/{again['job_id']}")
    ids = {
        (party, subject): by_name(
            opened(world, party, QUESTION_IDS, subject), idtables.QUESTION_IDS, "question_id"
        )
        for party in ("imaging", "enclave")
        for subject in (question, again["job_id"])
    }
    both = set(ids["imaging", question].values()) & set(ids["enclave", question].values())
    assert len(both) >= OVERLAP - 3
    keys = {
        party: {
            row["question_id"]: row["answer_key"]
            for row in rows_of(opened(world, party, QUESTION_IDS, question), idtables.QUESTION_IDS)
        }
        for party in ("imaging", "enclave")
    }
    # One person has one key at both; nobody else's is the same.
    assert all(keys["imaging"][one] == keys["enclave"][one] for one in both)
    shared = set(keys["imaging"].values()) & set(keys["enclave"].values())
    assert len(shared) == len(both)
    assert len(ids["imaging", question]) == len(ids["enclave", question]) == PEOPLE
    fresh = set(ids["enclave", question].values()) & set(ids["enclave", again["job_id"]].values())
    assert fresh == set()


@pytest.mark.threat("T11")
@pytest.mark.threat("T22")
def test_answers_are_relayed_to_the_enclave_alone(world: World, question: str) -> None:
    imaging = world.actor("imaging")
    context = Context(world.study_id, "imaging", "enclave", QUESTION_ANSWER, (question,))
    sender, recipient = world.identities["imaging"], world.signed.pin("enclave")
    data = seal(b"who qualifies", sender=sender, recipient=recipient, context=context)
    to = {"recipient": "enclave", "purpose": QUESTION_ANSWER, "subject": question}
    path = f"{world.path}/outbox"
    strange = [
        ({"recipient": "claims"}, 403),
        ({"recipient": "imaging"}, 403),
        ({"purpose": CROSSWALK}, 403),
        ({"subject": "question-none"}, 404),
        ({"purpose": DELIVERY_ROWS}, 404),
    ]
    for changed, status in strange:
        assert imaging.put(path, data, **(to | changed)).status_code == status, changed
    other = replace(context, details=("question-other",))
    misplaced = seal(b"x", sender=sender, recipient=recipient, context=other)
    assert problem(imaging.put(path, misplaced, **to))[:2] == (422, "package-refused")
    foreign = seal(b"x", sender=world.identities["claims"], recipient=recipient, context=context)
    assert problem(imaging.put(path, foreign, **to))[:2] == (422, "package-refused")
    assert problem(imaging.put(path, b"", **to))[:2] == (422, "package-refused")
    first, again = imaging.put(path, data, **to), imaging.put(path, data, **to)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    changed_mind = seal(b"others", sender=sender, recipient=recipient, context=context)
    assert problem(imaging.put(path, changed_mind, **to))[:2] == (409, "already-sent")
    item = first.json()["item_id"]
    assert world.actor("enclave").get(f"{world.path}/inbox/{item}").content == data
    for other_party in ("imaging", "claims"):
        refused = world.actor(other_party).get(f"{world.path}/inbox/{item}")
        assert problem(refused)[:2] == (404, "not-found")
    for nobody in ("enclave", "claims", "admin"):
        assert problem(world.actor(nobody).put(path, data, **to))[0] == 403


@pytest.mark.threat("T11")
def test_a_delivery_needs_both_stewards_and_opens_matched_rows_only(
    world: World, question: str
) -> None:
    deliver = f"{world.path}/questions/{question}/delivery"
    enclave = world.actor("enclave")

    def waiting() -> str:
        status, code, detail = problem(enclave.post(deliver))
        assert (status, code) == (403, "not-allowed")
        return detail

    assert waiting() == "not approved by: enclave, imaging"
    assert decide(world, "enclave", question).json()["approvals"] == {"enclave": "approve"}
    assert waiting() == "not approved by: imaging"
    assert decide(world, "imaging", question, "deny").status_code == 200
    assert enclave.get(f"{world.path}/questions/{question}").json()["stopped"]
    assert waiting() == "not approved by: imaging"
    assert decide(world, "claims", question, "deny").status_code == 200
    decide(world, "imaging", question)
    assert waiting() == "not approved by: claims"
    decide(world, "claims", question)
    job = enclave.post(deliver).json()
    assert enclave.post(deliver).json()["job_id"] == job["job_id"]
    done = world.finish(f"{world.path}/jobs/{job['job_id']}")
    assert (done["kind"], done["state"]) == ("delivery", "done"), done["failure"]
    told = enclave.get(f"{world.path}/questions/{question}").json()
    assert told["delivery_id"] == job["job_id"]
    late = decide(world, "imaging", question, "approve", expires="2031-01-01")
    assert problem(late)[:2] == (409, "conflict")
    key = opened(world, "imaging", DELIVERY_KEY, job["job_id"])
    table = idtables.unpack(
        opened(world, "enclave", DELIVERY_CROSSWALK, job["job_id"]), idtables.DELIVERY_CROSSWALK
    )
    assert len(table["row_id"]) == PEOPLE
    truth, other = people_by_name(world, "imaging"), people_by_name(world, "enclave")
    rows = {delivery.row_id(key, name): name for name in truth}
    open_rows = 0
    for name, row_id, row_key in zip(
        table["record_pseudonym"], table["row_id"], table["row_key"], strict=True
    ):
        if found := rows.get(row_id.tobytes()):
            open_rows += 1
            assert truth[found] == other[name.tobytes()]
            made = delivery.encrypt_rows(key, found, b"rows")
            assert delivery.decrypt_rows(row_key.tobytes(), made[0], made[1]) == b"rows"
    assert open_rows >= OVERLAP - 3
    assert len(np.unique(table["cohort_id"], axis=0)) == PEOPLE


@pytest.mark.threat("T22")
def test_a_decision_must_be_ones_own_and_about_this_specification(
    world: World, question: str
) -> None:
    wrong_spec = decide(world, "enclave", question, spec_hash="0" * 64)
    assert problem(wrong_spec)[:2] == (409, "conflict")
    path = f"{world.path}/questions/{question}/approvals"
    approval = Approval(
        study_id=world.study_id,
        question_id=question,
        spec_hash=spec_of(world, question),
        party="enclave",
        decision="approve",
    )
    forged = approval.sign(world.identities["claims"])
    assert problem(world.actor("enclave").post(path, forged))[:2] == (422, "package-refused")
    own = approval.sign(world.identities["enclave"])
    assert problem(world.actor("claims").post(path, own))[:2] == (403, "not-allowed")
    assert problem(world.actor("admin").post(path, own))[:2] == (403, "not-allowed")


@pytest.mark.threat("T20")
def test_every_change_is_in_the_log_and_the_log_verifies(world: World, question: str) -> None:
    entries, after, admin = [], 0, world.actor("admin")
    while page := admin.get("/v1/audit", after=after, limit=50).json():
        entries += page
        after = page[-1]["number"]
    assert [one["number"] for one in entries] == list(range(1, len(entries) + 1))
    actions = {one["action"] for one in entries}
    assert actions >= {
        "admin added",
        "signed in",
        "study registered",
        "dataset announced",
        "part received",
        "dataset completed",
        "run queued",
        "run started",
        "run done",
        "question asked",
        "question made",
    }
    with Database(world.home.database_url()).read() as connection:
        assert audit.verify(connection).number >= len(entries)


def test_the_broker_says_that_it_is_well(world: World) -> None:
    def well() -> bool:
        told = HTTP.get(f"{world.url}/health").json()
        return bool(told["status"] == "ok" and told["database"] and told["worker"])

    wait_for(well, 30)


@pytest.mark.parametrize("precision", [0.49, 1.5, -1.0])
def test_a_wanted_precision_must_make_sense(world: World, precision: float) -> None:
    body = RunRequest.model_construct(precision=precision)
    assert problem(world.actor("admin").post(f"{world.path}/runs", body))[0] == 422


def test_a_wanted_precision_is_another_run(world: World, run: dict[str, Any]) -> None:
    wanted = world.run(precision=0.999)
    assert wanted["run_id"] != run["run_id"]
    usual, strict = (r["report"]["overall"] for r in (run, wanted))
    assert [usual["wanted_precision"], strict["wanted_precision"]] == [None, 0.999]
    # So few records cannot be that sure: nothing is linked, and a person looks at every link.
    assert 0.9 < usual["chosen"]["precision"] < 0.999
    assert (strict["chosen"]["links"], strict["link_threshold"]) == (0, 1.0)
    assert strict["review"]["pairs"] >= usual["chosen"]["links"] > 0


def test_strange_ids_are_refused_before_the_database_sees_them(world: World) -> None:
    """PostgreSQL fails on a NUL in a text."""
    for path in ("runs/a%00b", "jobs/a%00b", "questions/a%00b"):
        refused = world.actor("enclave" if "jobs" in path else "admin").get(f"{world.path}/{path}")
        assert problem(refused)[:2] == (404, "not-found")
    inbox = world.actor("claims").get(f"{world.path}/inbox", purpose="a\0b")
    assert problem(inbox)[0] == 422
