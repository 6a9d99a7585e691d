"""
Every address by everybody: no token, another study's token, every role of programs and of people.

Addresses come from the API's own description, and what each asks of the policy from its route: a
new address is tested here without being named here, against the table in unit/broker/test_policy.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.dependencies.models import Dependant

import broker.routes
from broker.policy import Action
from broker.routes.common import May
from linkage import messages
from linkage.messages import Approval, QuestionRequest, ReleaseRequest
from linkage.question_messages import Remark
from linkage.run_messages import RunRequest
from tests.broker_packages import encoded, pack
from tests.broker_world import HTTP, Actor, World, make_world, problem, running, sign_for
from tests.people import in_session
from tests.questions import question as asking
from tests.unit.broker.test_policy import MAY, SIGN_IN, WHO

Caller = Callable[..., httpx.Response]
OPEN = {("POST", path) for path in SIGN_IN - {"/v1/session/end", "/v1/session/password"}}
OPEN |= {("GET", path) for path in SIGN_IN if "/provider" in path}
OPEN |= {("GET", path) for path in ("/health", "/health/live", "/health/ready")}
NAMES = {
    "study_id",
    "uploader",
    "dataset",
    "part",
    "run_id",
    "case_id",
    "job_id",
    "release_id",
    "question_id",
    "item_id",
    "number",
    "account",
    "actor",
    "proposal_id",
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


@pytest.fixture(scope="module")
def actions(world: World, addresses: list[tuple[str, str]]) -> dict[tuple[str, str], Action]:
    """What each address asks of the policy; those that ask nothing are for signing in."""

    def asked(dependant: Dependant) -> Iterator[Action]:
        if isinstance(dependant.call, May):
            yield dependant.call.action
        for one in dependant.dependencies:
            yield from asked(one)

    found, modules = {}, pkgutil.iter_modules(broker.routes.__path__)
    for module in [importlib.import_module(f"broker.routes.{one.name}") for one in modules]:
        for route in module.router.routes if hasattr(module, "router") else ():
            for action in asked(route.dependant):
                found |= {(method, route.path_format): action for method in route.methods}
    rest = {path for method, path in addresses if (method, path) not in found}
    assert {path for path in rest if not path.startswith("/health")} == SIGN_IN
    return found


def filled(path: str, study: str) -> str:
    values = {
        "study_id": study,
        "uploader": "imaging",
        "dataset": "1",
        "part": "1",
        "run_id": "run-1",
        "case_id": "case-1",
        "job_id": "release-1",
        "release_id": "release-1",
        "question_id": "question-1",
        "item_id": "item-1",
        "number": "1",
        "account": "nobody-here",
        "actor": "imaging",
        "proposal_id": "proposal-1",
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
        "/questions": asking(),
        "/approvals": Approval(
            study_id=world.study_id,
            question_id="question-1",
            spec_hash=sha,
            party="imaging",
            decision="approve",
        ),
        "/remarks": Remark(
            study_id=world.study_id,
            question_id="question-1",
            spec_hash=sha,
            author="imaging",
            text="Why CT alone?",
            said_at=1,
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


def outcome(answer: httpx.Response, action: Action) -> str:
    """Return what the policy said; "allowed", too, where the request then failed otherwise."""
    assert answer.status_code < 500, answer.text
    if answer.status_code == 401:
        return "unknown"
    if answer.status_code == 404 and "no such study here" in problem(answer)[2]:
        return "stranger"
    if answer.status_code == 403 and f"may not {action.value}" in problem(answer)[2]:
        return "forbidden"
    return "allowed"


@pytest.fixture(scope="module")
def everybody(world: World, other: World) -> dict[str, Caller]:
    """By who they are in unit/broker/test_policy.WHO: how they send a request."""
    found: dict[str, Caller] = {
        name: world.actor(name).call for name in ("admin", "imaging", "enclave", "claims")
    }
    for i, (who, caller) in enumerate(WHO.items()):
        if caller.person:
            roles = [str(role) for role in caller.roles]
            found[who] = in_session(world.home, world.url, f"person-{i}", *roles).call
    assert found.keys() == WHO.keys()
    return found


def asked_by(call: Caller, world: World, method: str, path: str, study: str, action: Action) -> str:
    # Claims is who WHO and MAY are written for; a body that fits nothing does no harm.
    at = filled(path, study).replace("/datasets/imaging", "/datasets/claims")
    options: dict[str, Any] = {}
    if method != "GET":
        options = {"content": b"{}", "headers": {"Content-Type": "application/json"}}
    if method == "PUT":
        options["params"] = body_of(world, method, path)["params"]
    return outcome(call(method, at, **options), action)


@pytest.mark.parametrize("who", WHO)
def test_every_address_by_every_role(
    world: World,
    everybody: dict[str, Caller],
    actions: dict[tuple[str, str], Action],
    who: str,
) -> None:
    for (method, path), action in actions.items():
        may = "admin" if who == "person admin" else who
        if "{uploader}" not in path and "claims" in MAY[action] and who in world.identities:
            may = "claims"  # MAY is written for paths that name claims as the uploader
        wanted = "allowed" if may in MAY[action] else "forbidden"
        told = asked_by(everybody[who], world, method, path, world.study_id, action)
        assert told == wanted, (method, path)


def test_people_of_another_study_find_nothing(
    world: World, other: World, actions: dict[tuple[str, str], Action]
) -> None:
    for i, who in enumerate(one for one in WHO if ":" in one):
        role = who.replace("small-study", "other-study")
        stranger = in_session(world.home, world.url, f"stranger-{i}", role).call
        for (method, path), action in actions.items():
            inside = "{study_id}" in path
            for study in (world.study_id, "no-such-study") if inside else ("",):
                told = asked_by(stranger, world, method, path, study, action)
                # Everybody has a list of studies; what is in it: test_broker_admin.
                outside = "allowed" if action is Action.LIST_STUDIES else "forbidden"
                assert told == ("stranger" if inside else outside), (who, method, path)


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
            if (method, path) in OPEN | {("GET", "/v1/studies")}:
                continue
            if method == "GET" and path.endswith("/releases"):
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
    question = asking(run)
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
    assert problem(HTTP.get(f"{world.url}/v1/nothing"))[:2] == (404, "malformed-request")
    assert problem(HTTP.delete(f"{world.url}/health"))[:2] == (405, "malformed-request")
    assert HTTP.get(f"{world.url}/docs").status_code == 404


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/health", "GET"),
        ("/v1/studies/x/runs", "GET, POST"),
        ("/v1/token", "POST"),
        ("/v1/studies/x/datasets/y/withdraw", "POST"),
        ("/v1/studies/x/datasets/y/1", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(world: World, path: str, methods: str) -> None:
    """RFC 9110, 15.5.6: all of them, though each has a route of its own."""
    for method in {"GET", "OPTIONS", "PATCH", "TRACE"} - set(methods.split(", ")):
        answer = HTTP.request(method, world.url + path)
        assert problem(answer)[0] == 405
        assert answer.headers["allow"] == methods


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
