"""
The same request a hundred times at once has one effect, whatever it asks for; the same key with
another body is refused; what was cut short leaves nothing, and only the rest is sent again.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url, text

from broker.container import Broker
from broker.store import engine
from broker.store.engine import Database
from linkage.governance import Withdrawal
from linkage.messages import Message, ReleaseRequest
from linkage.run_messages import RunRequest
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import Actor, World, crash, make_world, problem, running, wait_for
from tests.questions import question as asking

TIMES = 100
PARTIES = ("imaging", "enclave", "claims")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    with running(make_world(tmp_path_factory.mktemp("once"), url=url)) as made:
        yield made


def package(world: World, party: str, *, dataset: int = 1) -> Package:
    records = encoded(world.signed, party, range(40))
    return pack(world.signed, world.identities[party], records, dataset=dataset)


def at_once(
    actor: Actor, path: str, body: Message | None = None, *, key: str = "", times: int = TIMES
) -> list[dict[str, Any]]:
    """POST the same so many times from as many threads; return the answers, all of success."""
    actor.get(path.rpartition("/")[0])  # signs in, so that all threads share the token
    content = body.model_dump_json() if body is not None else None
    headers = {"Authorization": f"Bearer {actor.token}", "Content-Type": "application/json"}
    headers |= {"Idempotency-Key": key} if key else {}

    with httpx.Client(timeout=120, limits=httpx.Limits(max_connections=times)) as http:

        def post(_: int) -> httpx.Response:
            return http.post(actor.url() + path, content=content, headers=headers)

        with ThreadPoolExecutor(times) as pool:
            answers = list(pool.map(post, range(times)))
    assert {answer.status_code for answer in answers} <= {200, 201, 202}, answers[0].text
    return [answer.json() for answer in answers]


def withdrawal(world: World, uploader: str, newest: int) -> Withdrawal:
    """Sign a withdrawal of an uploader's dataset versions up to this one."""
    said = Withdrawal(study_id=world.study_id, uploader=uploader, newest=newest)
    return said.sign(world.identities[uploader])


def effects(world: World) -> Counter[str]:
    """How often each thing was done, by the audit log."""
    with Database(world.home.database_url()).read() as connection:
        entries = connection.execute(text("SELECT entry FROM audit")).scalars()
        return Counter(json.loads(one)["action"] for one in entries)


def test_everything_that_is_asked_a_hundred_times_at_once_is_done_once(world: World) -> None:
    datasets, admin, enclave = (
        f"{world.path}/datasets",
        world.actor("admin"),
        world.actor("enclave"),
    )
    made = {party: package(world, party) for party in PARTIES}
    for party in PARTIES[1:]:
        world.upload(made[party])
    imaging = world.actor("imaging")
    before = effects(world)
    assert len({str(one) for one in at_once(imaging, datasets, made["imaging"].manifest)}) == 1
    for number, data in enumerate(made["imaging"].parts, start=1):
        imaging.put(f"{datasets}/imaging/1/parts/{number}", data).raise_for_status()
    at_once(imaging, f"{datasets}/imaging/1/complete", key="complete-1")
    run = {one["run_id"] for one in at_once(admin, f"{world.path}/runs", RunRequest())}
    assert len(run) == 1
    assert world.finish(f"{world.path}/runs/{run.pop()}")["state"] == "done"
    release = ReleaseRequest()
    jobs = at_once(admin, f"{world.path}/releases", release, key="release-1")
    question = asking(clinical={"a": 1})
    asked = at_once(enclave, f"{world.path}/questions", question, key="question-1")
    assert len({one["job_id"] for one in jobs}) == len({one["job_id"] for one in asked}) == 1
    gone = withdrawal(world, "claims", 1)
    at_once(world.actor("claims"), f"{datasets}/claims/withdraw", gone, key="withdraw-1", times=20)
    after = effects(world)
    done = {name: after[name] - before[name] for name in after}
    once = ("dataset announced", "dataset completed", "run queued", "release queued")
    assert {done[name] for name in (*once, "question asked", "dataset withdrawn")} == {1}
    # The same key with another body, or at another address, is another request.
    other = question.model_copy(update={"title": "y"})
    for path, body in ((f"{world.path}/questions", other), (f"{world.path}/audit", None)):
        headers = {"Idempotency-Key": "question-1", "Content-Type": "application/json"}
        content = body.model_dump_json() if body else None
        again = enclave.call("POST", path, content=content, headers=headers)
        if body:
            assert problem(again)[:2] == (422, "request-reused")
    # A key is its caller's: somebody else's says nothing of it.
    mine = admin.call(
        "POST",
        f"{world.path}/questions",
        content=question.model_dump_json(),
        headers={"Idempotency-Key": "question-1", "Content-Type": "application/json"},
    )
    assert mine.json()["job_id"] != asked[0]["job_id"]


@pytest.mark.parametrize(
    ("actor", "path", "first", "second"),
    [
        ("imaging", "/datasets", "announce 7", "announce 8"),
        ("admin", "/runs", '{"seed": 1}', '{"seed": 2}'),
        ("admin", "/releases", "{}", '{"audience": ["enclave"]}'),
        ("imaging", "/datasets/imaging/1/complete", "", "{}"),
        ("imaging", "/datasets/imaging/withdraw", "withdraw 0", "withdraw 1"),
        ("enclave", "/questions/question-1/delivery", "", "{}"),
    ],
)
def test_a_key_with_another_body_is_refused_whatever_became_of_the_first(
    world: World, actor: str, path: str, first: str, second: str
) -> None:
    key = f"another-body-{abs(hash(path))}"

    def post(body: str) -> httpx.Response:
        if body.startswith("announce"):
            number = int(body.rpartition(" ")[2])
            body = package(world, "imaging", dataset=number).manifest.model_dump_json()
        elif body.startswith("withdraw"):
            number = int(body.rpartition(" ")[2])
            body = withdrawal(world, "imaging", number).model_dump_json()
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        return world.actor(actor).call("POST", world.path + path, content=body, headers=headers)

    assert post(first).status_code != 422
    status, code, said = problem(post(second))
    assert (status, code) == (422, "request-reused"), said


def test_a_key_that_is_none_is_refused(world: World) -> None:
    for key in ("short", "x" * 65, "with space"):
        answer = world.actor("admin").call(
            "POST", f"{world.path}/runs", content="{}", headers={"Idempotency-Key": key}
        )
        assert problem(answer)[:2] == (422, "malformed-request")


# Cut short


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def alone(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    """A broker without a worker, so that nothing else waits for the database."""
    url = new_postgres_url() if request.param == "postgresql" else None
    made = make_world(tmp_path_factory.mktemp("cut"), url=url)
    with running(made, worker=False):
        yield made


def cut(world: World, actor: Actor, method: str, path: str, body: bytes, *, sent: int) -> None:
    """Send the head of a request and `sent` bytes of its body, then drop the connection."""
    actor.get(world.path)
    url = httpx.URL(world.url)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {actor.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 80)) as wire:
        wire.sendall(head.encode() + body[:sent])
        time.sleep(0.3)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def incoming(world: World) -> list[Path]:
    return list((world.home.blobs / "incoming").iterdir())


def test_connections_that_are_cut_leave_nothing_and_only_the_rest_is_sent_again(
    alone: World,
) -> None:
    imaging, made = alone.actor("imaging"), package(alone, "imaging", dataset=1)
    announced, at = made.manifest.model_dump_json().encode(), f"{alone.path}/datasets/imaging/1"
    cut(alone, imaging, "POST", f"{alone.path}/datasets", announced, sent=len(announced) // 2)
    assert problem(imaging.get(at))[0] == 404
    first = imaging.post(f"{alone.path}/datasets", made.manifest)
    assert (first.status_code, first.json()["missing"]) == (201, [1, 2])
    imaging.put(f"{at}/parts/2", made.parts[1]).raise_for_status()
    cut(alone, imaging, "PUT", f"{at}/parts/1", made.parts[0], sent=len(made.parts[0]) - 1)
    wait_for(lambda: not incoming(alone), 10)
    assert imaging.get(at).json()["missing"] == [1]
    imaging.put(f"{at}/parts/1", made.parts[0]).raise_for_status()
    assert imaging.post(f"{at}/complete").json()["state"] == "complete"


@contextmanager
def held(world: World) -> Iterator[None]:
    """Nobody else writes to the database meanwhile."""
    database = Database(world.home.database_url())
    with database.engine.connect() as connection:
        alone = connection.execution_options(linkage_writer=True)
        with alone.begin():
            if not database.is_sqlite:
                lock = {"k": engine._WRITER_LOCK}
                alone.execute(text("SELECT pg_advisory_xact_lock(:k)"), lock)
            yield
    database.close()


def test_a_server_killed_between_the_blob_and_its_row_loses_nothing_that_was_acknowledged(
    alone: World,
) -> None:
    imaging, made = alone.actor("imaging"), package(alone, "imaging", dataset=2)
    at = f"{alone.path}/datasets/imaging/2"
    imaging.post(f"{alone.path}/datasets", made.manifest).raise_for_status()
    imaging.put(f"{at}/parts/1", made.parts[0]).raise_for_status()

    def blobs() -> set[str]:
        return {path.name for path in alone.home.blobs.glob("??/*")}

    before = blobs()
    with held(alone), ThreadPoolExecutor(1) as pool:
        sent = pool.submit(imaging.put, f"{at}/parts/2", made.parts[1])
        wait_for(lambda: len(blobs() - before) == 1, 20)
        crash(alone.processes.pop(0))
        with pytest.raises(httpx.TransportError):
            sent.result(20)
    orphan = blobs() - before
    alone.serve()
    again = imaging.post(f"{alone.path}/datasets", made.manifest)
    assert (again.status_code, again.json()["missing"]) == (200, [2])
    imaging.put(f"{at}/parts/2", made.parts[1]).raise_for_status()
    assert imaging.post(f"{at}/complete").json()["state"] == "complete"
    broker = Broker.at(alone.home)
    broker.sweep(older_than=0.0)
    broker.database.close()
    assert not orphan & blobs()
    with Database(make_url(str(alone.home.database_url().render_as_string(False)))).read() as now:
        named = set(now.execute(text("SELECT blob_id FROM part")).scalars())
    assert named <= blobs()
    assert os.listdir(alone.home.blobs / "incoming") == []
