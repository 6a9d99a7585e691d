"""Every address by every stranger: no token, another study's token, another role's token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from linkage import messages
from linkage.messages import Approval, QuestionRequest, ReleaseRequest
from linkage.run_messages import RunRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import HTTP, Actor, World, make_world, problem, running, sign_for

OPEN = {("GET", "/health"), ("POST", "/v1/token")}
NAMES = {
    "study_id",
    "uploader",
    "dataset",
    "part",
    "run_id",
    "job_id",
    "question_id",
    "item_id",
    "number",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("tenants")), worker=False) as made:
        yield made


@pytest.fixture(scope="module")
def other(world: World) -> World:
    """Another study on the same broker, with parties of the same names."""
    signed, identities = sign_for(world.home.public(), "other-study")
    made = World(world.home, signed, identities, world.admin, url=world.url)
    made.actor("admin").post("/v1/studies", signed).raise_for_status()
    return made


@pytest.fixture(scope="module")
def addresses(world: World) -> list[tuple[str, str]]:
    """Every address of the API, from its own description, so that a new one is tested too."""
    described = HTTP.get(f"{world.url}/openapi.json").json()["paths"]
    found = [(method.upper(), path) for path, ways in described.items() for method in ways]
    assert len(found) >= 20
    assert {name for _, path in found for name in re.findall(r"{(\w+)}", path)} == NAMES
    return found


def filled(path: str, study: str) -> str:
    values = {
        "study_id": study,
        "uploader": "imaging",
        "dataset": "1",
        "part": "1",
        "run_id": "run-1",
        "job_id": "release-1",
        "question_id": "question-1",
        "item_id": "item-1",
        "number": "1",
    }
    return re.sub(r"{(\w+)}", lambda name: values[name.group(1)], path)


def body_of(world: World, method: str, path: str) -> dict[str, Any]:
    """A body (and query) that is well formed, so that only the caller is wrong."""
    sha = "0" * 64
    records = encoded(world.signed, "imaging", range(5))
    manifest = pack(world.signed, world.identities["imaging"], records).manifest
    bodies: dict[str, messages.Message] = {
        "/v1/studies": world.signed,
        "/datasets": manifest,
        "/runs": RunRequest(),
        "/releases": ReleaseRequest(),
        "/questions": QuestionRequest(
            title="x", purpose="x", spec_hash=sha, imaging={}, clinical={}
        ),
        "/approvals": Approval(
            study_id=world.study_id,
            question_id="question-1",
            spec_hash=sha,
            party="imaging",
            decision="approve",
        ),
    }
    if method == "PUT":
        to = {"recipient": "enclave", "purpose": "question-answer", "subject": "question-1"}
        return {"content": b"x", "params": to}
    found = next((b for end, b in bodies.items() if method == "POST" and path.endswith(end)), None)
    if found is None:
        return {}
    kind = {"Content-Type": "application/json"}
    return {"content": found.model_dump_json(), "headers": kind}


@pytest.mark.threat("T19")
@pytest.mark.threat("P05")
def test_without_a_token_nothing_opens(world: World, addresses: list[tuple[str, str]]) -> None:
    for method, path in addresses:
        if (method, path) in OPEN:
            continue
        for token in ("", "Bearer made-up", "Basic eDp5"):
            options = body_of(world, method, path)
            headers = options.pop("headers", {}) | ({"Authorization": token} if token else {})
            url = world.url + filled(path, world.study_id)
            answer = HTTP.request(method, url, headers=headers, **options)
            assert problem(answer)[:2] == (401, "not-authenticated"), (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.threat("T19")
def test_another_studys_party_finds_nothing(
    world: World, other: World, addresses: list[tuple[str, str]]
) -> None:
    """The same party name in another study is somebody else."""
    for name in ("imaging", "enclave", "claims"):
        stranger = other.actor(name)
        for method, path in addresses:
            if "{study_id}" not in path:
                continue
            options = body_of(world, method, path)
            answer = stranger.call(method, filled(path, world.study_id), **options)
            assert problem(answer)[:2] == (404, "not-found"), (name, method, path)
            unknown = stranger.call(method, filled(path, "no-such-study"), **options)
            # What is not there and what is not yours look the same.
            assert problem(unknown) == problem(answer), (name, method, path)


@pytest.mark.threat("T19")
def test_a_party_may_not_do_what_another_role_does(
    world: World, addresses: list[tuple[str, str]]
) -> None:
    forbidden = {
        "admin": {"/parts/", "/complete", "/approvals", "/inbox", "/outbox", "/datasets"},
        "imaging": {
            "/v1/studies",
            "/v1/audit",
            "/v1/deactivations",
            "/releases",
            "/jobs/",
            "/delivery",
        },
        "claims": {
            "/v1/studies",
            "/v1/audit",
            "/releases",
            "/jobs/",
            "/delivery",
            "/outbox",
            "/parts/",
            "/complete",
        },
        "enclave": {"/v1/studies", "/v1/audit", "/releases", "/outbox", "/parts/", "/complete"},
    }
    checked = 0
    for name, marks in forbidden.items():
        actor = world.actor(name)
        for method, path in addresses:
            if not any(path.endswith(m) or (m.endswith("/") and m in path) for m in marks):
                continue
            if (method, path) in OPEN:
                continue
            answer = actor.call(
                method, filled(path, world.study_id), **body_of(world, method, path)
            )
            assert problem(answer)[:2] == (403, "not-allowed"), (name, method, path)
            checked += 1
    assert checked >= 25


@pytest.mark.threat("T19")
def test_objects_of_another_study_are_not_reached_through_ones_own(
    world: World, other: World
) -> None:
    """A run, job, question or item is looked for within the caller's study only."""
    for party in ("imaging", "enclave", "claims"):
        records = encoded(world.signed, party, range(10))
        world.upload(pack(world.signed, world.identities[party], records))
    run = world.actor("admin").post(f"{world.path}/runs", RunRequest()).json()["run_id"]
    for actor in (other.actor("enclave"), other.actor("admin")):
        assert problem(actor.get(f"{other.path}/runs/{run}"))[0] == 404
        assert actor.get(f"{other.path}/runs").json() == []
    asked = ReleaseRequest(run_id=run)
    assert problem(other.actor("admin").post(f"{other.path}/releases", asked))[0] == 404
    question = QuestionRequest(
        run_id=run, title="x", purpose="x", spec_hash="0" * 64, imaging={}, clinical={}
    )
    assert problem(other.actor("enclave").post(f"{other.path}/questions", question))[0] == 404


@pytest.mark.threat("P05")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/studies/..%2F..%2Fetc",
        "/v1/studies/a%00b",
        "/v1/studies/%F0%9F%92%A9",
        "/v1/studies/small-study/runs/a%00b",
        "/v1/studies/small-study/jobs/%ED%A0%80",
        "/v1/studies/small-study/inbox/../../x",
        "/v1/studies/small-study/datasets/imaging/0",
        "/v1/studies/small-study/datasets/imaging/99999999999999999999999",
        "/v1/studies/small-study/questions/'%20OR%201=1",
    ],
)
def test_strange_paths_are_refused_not_failed_on(world: World, path: str) -> None:
    for who in ("enclave", "admin"):
        assert world.actor(who).get(path).status_code in (403, 404, 422), path


@pytest.mark.threat("P05")
@pytest.mark.threat("P08")
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[]", 422),
        (b"null", 422),
        (b'"\xff"', 400),
        (b"[" * 50_000, 400),
        (b'{"version": 2, "seed": 1}', 422),
        (b'{"seed": -1}', 422),
        (b'{"seed": 1e999}', 422),
        (b'{"seed": 1, "extra": 1}', 422),
    ],
)
def test_malformed_bodies_are_problems_too(world: World, content: bytes, status: int) -> None:
    answer = world.actor("admin").call(
        "POST",
        f"{world.path}/runs",
        content=content,
        headers={"Content-Type": "application/json"},
    )
    found, code, _ = problem(answer)
    assert (found, code) == (status, "malformed-request")


def test_what_is_not_there_is_a_problem_too(world: World) -> None:
    assert problem(HTTP.get(f"{world.url}/nothing"))[:2] == (404, "malformed-request")
    assert problem(HTTP.delete(f"{world.url}/health"))[:2] == (405, "malformed-request")
    assert HTTP.get(f"{world.url}/docs").status_code == 404


@pytest.mark.threat("P05")
def test_text_that_a_database_cannot_hold(world: World) -> None:
    """NUL and lone surrogates break PostgreSQL and UTF-8; they must not break us."""
    actor: Actor = world.actor("admin")
    for text in ("\\u0000", "\\ud800"):
        sound = QuestionRequest(
            run_id="run-x",
            title="TEXT",
            purpose="x",
            spec_hash="0" * 64,
            imaging={"TEXT": "TEXT"},
            clinical={},
        )
        content = sound.model_dump_json().replace("TEXT", text)
        answer = actor.call(
            "POST",
            f"{world.path}/questions",
            content=content,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in (404, 409, 422), answer.text
