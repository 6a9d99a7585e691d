"""
What may happen to a question between asking and delivery: counts to its reader, questions back,
decisions that end, are taken back or are played again; over HTTP, with a real worker.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from broker.registered import RegisteredStudy
from broker.services import standing
from broker.store import jobs, releases, studies
from broker.store.engine import Database
from linkage.errors import NotAllowed
from linkage.messages import (
    DELIVERY_CROSSWALK,
    DELIVERY_KEY,
    DELIVERY_ROWS,
    QUESTION_COUNTS,
    READER,
    Approval,
)
from linkage.question_messages import Remark
from linkage.sealing import Context, Identity, seal, unseal
from linkage.study import parse_study
from tests.broker_world import STUDY, World, make_world, packages, problem, running
from tests.questions import question as asking

KEY = Identity.generate("reader", kem="X25519")
TODAY = dt.datetime.now(dt.UTC).date()
COUNTS = b"what only the reader may read: " + bytes(range(64))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A broker with a finished run."""
    with running(make_world(tmp_path_factory.mktemp("questions"))) as made:
        for package in packages(made, people=40, overlap=20).values():
            made.upload(package)
        run = made.run()
        assert run["state"] == "done", run["failure"]
        yield made


def asked(world: World, **also: Any) -> str:
    """Ask a question of a fixed specification; return its ID once the worker has prepared it."""
    body = asking(imaging={"modality": ["CT"]}, clinical={"a": 1}, reader=KEY.public(), **also)
    job = world.actor("enclave").post(f"{world.path}/questions", body).raise_for_status().json()
    done = world.finish(f"{world.path}/jobs/{job['job_id']}")
    assert done["state"] == "done", done["failure"]
    return str(job["job_id"])


def told(world: World, question: str, who: str = "imaging") -> dict[str, Any]:
    answer = world.actor(who).get(f"{world.path}/questions/{question}").raise_for_status()
    return dict(answer.json())


def decision(world: World, party: str, question: str, said: str, **also: Any) -> Approval:
    made = Approval.model_validate(
        {
            "study_id": world.study_id,
            "question_id": question,
            "spec_hash": told(world, question)["spec_hash"],
            "party": party,
            "decision": said,
            "study_hash": world.signed.study_hash,
            "decided_at": int(time.time()),
            **also,
        }
    )
    return made.sign(world.identities[party])


def decide(world: World, party: str, question: str, said: str, **also: Any) -> httpx.Response:
    signed = decision(world, party, question, said, **also)
    return world.actor(party).post(f"{world.path}/questions/{question}/approvals", signed)


def delivered(world: World, question: str) -> str:
    for party in ("imaging", "enclave"):
        decide(world, party, question, "approve").raise_for_status()
    path = f"{world.path}/questions/{question}/delivery"
    job = world.actor("enclave").post(path).raise_for_status().json()["job_id"]
    done = world.finish(f"{world.path}/jobs/{job}")
    assert done["state"] == "done", done["failure"]
    return str(job)


def fetched(world: World, party: str, purpose: str, subject: str) -> httpx.Response:
    actor = world.actor(party)
    items = actor.get(f"{world.path}/inbox", purpose=purpose, subject=subject).json()["items"]
    return actor.get(f"{world.path}/inbox/{items[0]['item_id']}")


def sent(world: World, sender: str, recipient: str, purpose: str, subject: str) -> httpx.Response:
    key = KEY.public() if recipient == READER else world.signed.pin(recipient)
    context = Context(world.study_id, sender, recipient, purpose, (subject,))
    data = seal(COUNTS, sender=world.identities[sender], recipient=key, context=context)
    to = {"recipient": recipient, "purpose": purpose, "subject": subject}
    return world.actor(sender).put(f"{world.path}/outbox", data, **to)


def test_counts_reach_the_reader_and_the_imaging_commons_alone(world: World) -> None:
    question = asked(world)
    path = f"{world.path}/questions/{question}/counts"
    assert problem(world.actor("enclave").get(path))[:2] == (404, "not-found")
    assert told(world, question)["counted"] is False
    for sender, recipient in (("imaging", READER), ("claims", READER), ("enclave", "claims")):
        refused = sent(world, sender, recipient, QUESTION_COUNTS, question)
        assert refused.status_code == 403, (sender, recipient)
    for recipient in (READER, "imaging"):
        assert sent(world, "enclave", recipient, QUESTION_COUNTS, question).status_code == 201
    assert told(world, question)["counted"] is True
    for who in ("imaging", "claims", "admin"):
        assert problem(world.actor(who).get(path))[:2] == (403, "not-allowed")
    sealed = world.actor("enclave").get(path).raise_for_status().content
    context = Context(world.study_id, "enclave", READER, QUESTION_COUNTS, (question,))
    pin = world.signed.pin("enclave")
    assert unseal(sealed, sender=pin, recipient=KEY, context=context) == COUNTS
    assert fetched(world, "imaging", QUESTION_COUNTS, question).status_code == 200
    files = [one for one in world.home.path.rglob("*") if one.is_file()]
    assert not [one for one in files if COUNTS in one.read_bytes()]


def test_a_steward_asks_back_and_the_researcher_answers(world: World) -> None:
    question = asked(world)
    path = f"{world.path}/questions/{question}/remarks"

    def remark(author: str, signer: Identity, **changed: Any) -> Remark:
        content = {
            "study_id": world.study_id,
            "question_id": question,
            "spec_hash": told(world, question)["spec_hash"],
            "author": author,
            "text": "Why CT alone?",
            "said_at": int(time.time()),
        }
        return Remark.model_validate(content | changed).sign(signer)

    imaging, enclave = world.identities["imaging"], world.identities["enclave"]
    ask = remark("imaging", imaging)
    for _ in range(2):  # the same again is one
        said = world.actor("imaging").post(path, ask).raise_for_status().json()
    assert [one["number"] for one in said] == [1]
    assert told(world, question)["open_asks"] == ["imaging"]
    because = {"answers": 1, "text": "The protocol of the trial is CT."}
    refused = [
        ("claims", remark("imaging", imaging), (403, "not-allowed")),
        ("imaging", remark("imaging", enclave, text="forged"), (422, "package-refused")),
        ("imaging", remark("imaging", imaging, spec_hash="0" * 64), (409, "conflict")),
        ("imaging", remark("imaging", imaging, **because), (403, "not-allowed")),
        ("imaging", remark(READER, KEY, **because), (403, "not-allowed")),
        ("enclave", remark(READER, enclave, **because), (422, "package-refused")),
        ("enclave", remark(READER, KEY, answers=7), (409, "conflict")),
        ("enclave", remark(READER, KEY, text="a question"), (403, "not-allowed")),
    ]
    for who, one, wanted in refused:
        assert problem(world.actor(who).post(path, one))[:2] == wanted, (who, one)
    world.actor("enclave").post(path, remark(READER, KEY, **because)).raise_for_status()
    assert told(world, question)["open_asks"] == []
    listed = world.actor("claims").get(path).json()
    assert [one["remark"]["text"] for one in listed] == ["Why CT alone?", because["text"]]
    entries = [e for e in log(world) if e["subject"] == question and "back" in e["action"]]
    assert [e["action"] for e in entries] == ["question asked back", "question back answered"]
    assert "CT" not in str(entries)


def log(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    admin = world.actor("admin")  # signing in is an entry, too
    while page := admin.get("/v1/audit", after=len(found), limit=200).json():
        found += page
    return found


def test_an_approval_taken_back_before_the_delivery_stops_it(world: World) -> None:
    question = asked(world)
    early = decide(world, "imaging", question, "revoke")
    assert problem(early)[:2] == (409, "conflict"), "nothing to take back"
    for party in ("imaging", "enclave"):
        decide(world, party, question, "approve").raise_for_status()
    assert decide(world, "imaging", question, "revoke").json()["stopped"] == "revoked by: imaging"
    deliver = f"{world.path}/questions/{question}/delivery"
    refused = problem(world.actor("enclave").post(deliver))
    assert refused == (403, "not-allowed", "not approved by: imaging")
    # Whoever captured the approval cannot play it again.
    old = decision(world, "imaging", question, "approve", decided_at=int(time.time()) - 60)
    replayed = world.actor("imaging").post(f"{world.path}/questions/{question}/approvals", old)
    assert problem(replayed)[:2] == (409, "conflict")
    decide(world, "imaging", question, "approve").raise_for_status()
    assert told(world, question)["stopped"] == ""


def test_an_approval_taken_back_afterwards_ends_all_use(world: World) -> None:
    question = asked(world)
    delivery = delivered(world, question)
    assert sent(world, "imaging", "enclave", DELIVERY_ROWS, delivery).status_code == 201
    things = [
        ("imaging", DELIVERY_KEY),
        ("enclave", DELIVERY_CROSSWALK),
        ("enclave", DELIVERY_ROWS),
    ]
    for party, purpose in things:
        assert fetched(world, party, purpose, delivery).status_code == 200
    again = asked(world)
    revoked = decide(world, "imaging", question, "revoke").raise_for_status().json()
    assert (revoked["stopped"], revoked["newer"]) == ("revoked by: imaging", again)
    for party, purpose in things:
        status, code, detail = problem(fetched(world, party, purpose, delivery))
        assert (status, code) == (409, "conflict"), purpose
        assert "revoked by: imaging" in detail
    late = sent(world, "imaging", "enclave", DELIVERY_ROWS, delivery)
    assert problem(late)[:2] == (409, "conflict")
    assert problem(decide(world, "imaging", question, "approve"))[:2] == (409, "conflict")
    entry = next(e for e in reversed(log(world)) if e["action"] == "question decided: revoke")
    assert (entry["detail"]["before"], entry["detail"]["delivery"]) == ("approve", delivery)


def test_a_withdrawal_ends_a_pinned_delivery_and_names_the_newer_one(world: World) -> None:
    question = asked(world, title="withdrawn")
    delivery = delivered(world, question)
    newer = asked(world, title="withdrawn")
    database = Database(world.home.database_url())
    with database.change() as connection:
        releases.set_affected(connection, delivery, {"imaging": 3}, int(time.time()))
    database.close()
    assert "withdrawn since" in told(world, question)["stopped"]
    assert told(world, question)["newer"] == newer
    gone = fetched(world, "enclave", DELIVERY_CROSSWALK, delivery)
    assert problem(gone)[:2] == (409, "conflict")
    assert newer in gone.text


def test_last_days_end_a_question_and_its_delivery(world: World) -> None:
    past = asking(expires=(TODAY - dt.timedelta(1)).isoformat())
    refused = world.actor("enclave").post(f"{world.path}/questions", past)
    assert problem(refused)[:2] == (409, "conflict")
    later = TODAY + dt.timedelta(30)
    question = asked(world, expires=later.isoformat())
    sooner = TODAY + dt.timedelta(7)
    decide(world, "imaging", question, "approve", expires=sooner.isoformat()).raise_for_status()
    assert told(world, question)["decisions"]["imaging"]["expires"] == sooner.isoformat()
    database = Database(world.home.database_url())
    with database.read() as connection:
        row = jobs.find(connection, question)
        assert row is not None
        for day, ended in ((TODAY, False), (sooner, False), (sooner + dt.timedelta(1), True)):
            stop = standing.stopped(connection, row, today=day)
            assert (stop is not None) is ended, day
    database.close()


def test_no_delivery_under_another_epoch_or_from_who_is_sequestered(world: World) -> None:
    question = asked(world)
    wrong = decide(world, "imaging", question, "approve", study_hash="0" * 64)
    assert problem(wrong)[:2] == (409, "conflict")
    database = Database(world.home.database_url())
    with database.read() as connection:
        found = studies.find_study(connection, world.study_id)
        row = jobs.find(connection, question)
    database.close()
    assert found is not None
    assert row is not None
    study = RegisteredStudy.of(found)
    assert standing.other_epoch(study, row) is None
    standing.require_rows(study)
    next_epoch = dataclasses.replace(study, study_hash="0" * 64)
    stop = standing.other_epoch(next_epoch, row)
    assert stop is not None
    assert "under epoch 1" in stop.reason
    text = STUDY.format(id="s1").replace('id = "imaging"', 'id = "imaging"\nsequestered = true')
    apart = dataclasses.replace(study, config=parse_study(text))
    with pytest.raises(NotAllowed, match="imaging sequestered: counts only"):
        standing.require_rows(apart)
