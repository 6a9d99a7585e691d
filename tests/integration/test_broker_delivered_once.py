"""
A delivery that is asked for, and rows and counts that are handed in, a hundred times at once: one
effect. Of different rows for one delivery one stands, whole, and whoever sent others is told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import text

from broker.container import Broker
from broker.store import blobs as blob_rows
from broker.store.engine import Database
from linkage.messages import DELIVERY_ROWS, QUESTION_ANSWER, Approval
from linkage.sealing import Context, seal
from tests.broker_world import Actor, World, make_world, packages, problem, running, wait_for
from tests.questions import question as asking

TIMES = 100


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    with running(make_world(tmp_path_factory.mktemp("delivered"), url=url)) as made:
        for package in packages(made, people=40, overlap=20).values():
            made.upload(package)
        done = made.run()
        assert done["state"] == "done", done["failure"]
        yield made


@pytest.fixture(scope="module")
def question(world: World) -> str:
    """A question that both stewards approved."""
    asked = world.actor("enclave").post(f"{world.path}/questions", asking(clinical={"a": 1}))
    job = world.finish(f"{world.path}/jobs/{asked.raise_for_status().json()['job_id']}")
    assert job["state"] == "done", job["failure"]
    path = f"{world.path}/questions/{job['job_id']}"
    spec = world.actor("enclave").get(path).json()["spec_hash"]
    for party in ("enclave", "imaging"):
        approval = Approval(
            study_id=world.study_id,
            question_id=job["job_id"],
            spec_hash=spec,
            study_hash=world.signed.study_hash,
            party=party,
            decision="approve",
        ).sign(world.identities[party])
        world.actor(party).post(f"{path}/approvals", approval).raise_for_status()
    return str(job["job_id"])


def at_once(
    actor: Actor, method: str, path: str, bodies: list[bytes], **options: object
) -> list[httpx.Response]:
    """Send one request a body, all at once, under one token."""
    actor.get("/v1/studies")  # signs in, so that all threads share the token
    headers = {"Authorization": f"Bearer {actor.token}"} | dict(options.pop("headers", {}))  # type: ignore[call-overload]
    limits = httpx.Limits(max_connections=len(bodies))
    with httpx.Client(timeout=120, limits=limits) as http:

        def send(body: bytes) -> httpx.Response:
            url = actor.url() + path
            return http.request(method, url, content=body, headers=headers, **options)  # type: ignore[arg-type]

        with ThreadPoolExecutor(len(bodies)) as pool:
            return list(pool.map(send, bodies))


def entries(world: World) -> Counter[str]:
    """How often each thing was done, by the audit log."""
    with Database(world.home.database_url()).read() as connection:
        said = connection.execute(text("SELECT entry FROM audit")).scalars()
        return Counter(json.loads(one)["action"] for one in said)


def items(world: World, purpose: str) -> list[str]:
    found = world.actor("enclave").get(f"{world.path}/inbox", purpose=purpose).json()["items"]
    return [one["digest"] for one in found]


def sealed(world: World, purpose: str, subject: str, body: bytes) -> bytes:
    context = Context(world.study_id, "imaging", "enclave", purpose, (subject,))
    sender, recipient = world.identities["imaging"], world.signed.pin("enclave")
    return seal(body, sender=sender, recipient=recipient, context=context)


@pytest.fixture(scope="module")
def delivery(world: World, question: str) -> str:
    """The one delivery that a hundred requests made, half of them with a key of their own."""
    path, enclave = f"{world.path}/questions/{question}/delivery", world.actor("enclave")
    before = entries(world)
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(at_once, enclave, "POST", path, [b""] * (TIMES // 2))
        keyed = pool.submit(
            at_once,
            world.actor("enclave"),
            "POST",
            path,
            [b""] * (TIMES // 2),
            headers={"Idempotency-Key": "delivery-1"},
        )
        answers = [*plain.result(), *keyed.result()]
    assert {one.status_code for one in answers} <= {200, 201, 202}, answers[0].text
    [job] = {one.json()["job_id"] for one in answers}
    assert (entries(world) - before)["delivery queued"] == 1
    done = world.finish(f"{world.path}/jobs/{job}")
    assert (done["kind"], done["state"]) == ("delivery", "done"), done["failure"]
    return str(job)


def test_a_delivery_asked_for_a_hundred_times_is_prepared_once(world: World, delivery: str) -> None:
    for party in ("imaging", "enclave"):
        inbox = world.actor(party).get(f"{world.path}/inbox", subject=delivery).json()["items"]
        purposes = [one["purpose"] for one in inbox if one["sender"] == "broker"]
        assert len(purposes) == len(set(purposes)) >= 1


@pytest.mark.parametrize("purpose", [DELIVERY_ROWS, QUESTION_ANSWER])
def test_the_same_bytes_a_hundred_times_are_one_object(
    world: World, question: str, delivery: str, purpose: str
) -> None:
    subject = delivery if purpose == DELIVERY_ROWS else question
    body = sealed(world, purpose, subject, b"rows" * 5000)
    to = {"recipient": "enclave", "purpose": purpose, "subject": subject}
    before = entries(world)
    answers = at_once(
        world.actor("imaging"), "PUT", f"{world.path}/outbox", [body] * TIMES, params=to
    )
    assert Counter(one.status_code for one in answers) == {201: 1, 200: TIMES - 1}
    assert len({one.text for one in answers}) == 1
    assert items(world, purpose) == [answers[0].json()["digest"]]
    assert (entries(world) - before)[f"relayed: {purpose}"] == 1
    # Sealed anew it is another object, a hundred times: the first one stands.
    others = [sealed(world, purpose, subject, b"others") for _ in range(TIMES)]
    refused = at_once(world.actor("imaging"), "PUT", f"{world.path}/outbox", others, params=to)
    assert {problem(one)[:2] for one in refused} == {(409, "already-sent")}
    assert items(world, purpose) == [answers[0].json()["digest"]]


def test_of_a_hundred_different_ones_at_once_one_stands_whole(world: World) -> None:
    asked = world.actor("enclave").post(f"{world.path}/questions", asking(clinical={"b": 2}))
    subject = asked.raise_for_status().json()["job_id"]
    assert world.finish(f"{world.path}/jobs/{subject}")["state"] == "done"
    bodies = [sealed(world, QUESTION_ANSWER, subject, b"%d" % n * 999) for n in range(TIMES)]
    to = {"recipient": "enclave", "purpose": QUESTION_ANSWER, "subject": subject}
    answers = at_once(world.actor("imaging"), "PUT", f"{world.path}/outbox", bodies, params=to)
    assert Counter(one.status_code for one in answers) == {201: 1, 409: TIMES - 1}
    [(body, first)] = [
        (body, one) for body, one in zip(bodies, answers, strict=True) if one.is_success
    ]
    item = first.json()["item_id"]
    assert world.actor("enclave").get(f"{world.path}/inbox/{item}").content == body
    # Nothing of the others is left: not in the spool, not in the folder.
    broker = Broker.at(world.home)

    def unnamed() -> set[str]:
        with broker.database.read() as connection:
            return {one.name for one in world.home.blobs.glob("??/*")} - blob_rows.named(connection)

    wait_for(lambda: not unnamed(), 60)
    broker.database.close()
    assert list((world.home.blobs / "incoming").iterdir()) == []
