"""An admin over HTTP: studies' lives, people, the broker's health; and what a thief cannot do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pyotp
import pytest
from sqlalchemy import text

from broker.container import Broker
from broker.store import accounts
from linkage.governance import DestructionCertificate
from linkage.messages import BROKER
from linkage.sealing import Identity
from tests.broker_packages import encoded, pack
from tests.broker_world import (
    Actor,
    World,
    make_world,
    problem,
    running,
    sign_for,
    wait_for,
)
from tests.people import PASSWORD, Person, accept, in_session, signed_in


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    made = make_world(tmp_path_factory.mktemp("admin"), url=url)
    with (made.home.path / "config.toml").open("a") as config:
        config.write("[accounts]\nfailed_per_minute = 1000\n[retention]\npackages_days = 30\n")
    with running(made) as up:
        yield up


@pytest.fixture(scope="module")
def other(world: World) -> World:
    """Another study on the same broker."""
    signed, identities = sign_for(world.home.public(), "other-study")
    made = World(world.home, signed, identities, world.admin, url=world.url)
    made.actor("admin").post("/v1/studies", signed).raise_for_status()
    return made


@pytest.fixture(scope="module")
def person(world: World) -> Person:
    """An admin who signed in with password and authenticator."""
    return signed_in(world.home, world.url, "ada", "admin")


def by_key(world: World) -> dict[str, str]:
    return {"assertion": world.actor("admin").assertion()}


def proof(person: Person) -> dict[str, str]:
    return {"password": PASSWORD, "code": person.recovery.pop(0)}


def said(world: World, action: str) -> list[dict[str, Any]]:
    entries = world.actor("admin").get("/v1/audit", limit=1000).json()
    return [one for one in entries if one["action"] == action]


def post(who: Person | Actor, path: str, **body: Any) -> Any:
    return who.call("POST", path, json=body)


def test_everybody_lists_what_is_theirs(world: World, other: World, person: Person) -> None:
    def listed(who: Person | Actor) -> list[str]:
        return [one["study_id"] for one in who.call("GET", "/v1/studies").json()]

    both = ["other-study", "small-study"]
    assert listed(world.actor("admin")) == listed(person) == both
    assert listed(in_session(world.home, world.url, "checker", "auditor")) == both
    for name in ("imaging", "enclave", "claims"):
        assert listed(world.actor(name)) == ["small-study"]
        assert listed(other.actor(name)) == ["other-study"]
    roles = ("steward:small-study:claims", "researcher:other-study")
    assert listed(in_session(world.home, world.url, "two-roles", *roles)) == both
    assert listed(in_session(world.home, world.url, "reads-one", roles[1])) == ["other-study"]
    assert listed(in_session(world.home, world.url, "no-role")) == []
    (shown,) = world.actor("imaging").get("/v1/studies").json()
    assert shown["title"] == "A small study"
    assert shown["parties"] == ["imaging", "enclave", "claims"]
    assert (shown["state"], shown["epoch"], shown["rehearsal"]) == ("open", 1, True)
    # No count, no key: those who may read more ask for the study itself.
    assert "records" not in str(shown)


def test_a_study_closes_opens_again_and_is_destroyed(world: World, person: Person) -> None:
    """Over HTTP, in a browser's session; the worker signs the certificate."""
    signed, identities = sign_for(world.home.public(), "short-study")
    brief = World(world.home, signed, identities, world.admin, url=world.url)
    admin = brief.actor("admin")
    admin.post("/v1/studies", signed).raise_for_status()
    path = brief.path
    slip = post(admin, f"{path}/close", confirm="small-study")
    assert problem(slip)[0] == 409
    assert "given twice" in problem(slip)[2]
    early = post(admin, f"{path}/destruction", confirm="short-study", proof=by_key(world))
    assert "not closed" in problem(early)[2]
    for _ in range(2):  # twice is once
        closed = post(person, f"{path}/close", confirm="short-study").raise_for_status()
        assert closed.json()["state"] == "closed"
    assert problem(admin.post(f"{path}/runs"))[0] in (409, 422)
    assert post(admin, f"{path}/reopen", confirm="short-study").json()["state"] == "open"
    assert problem(post(admin, f"{path}/reopen", confirm="short-study"))[0] == 409
    post(admin, f"{path}/close", confirm="short-study").raise_for_status()
    # A stolen cookie is not enough.
    for wrong in ({}, {"password": PASSWORD, "code": "000000"}, by_key(world)):
        told = post(person, f"{path}/destruction", confirm="short-study", proof=wrong)
        assert problem(told)[:2] == (401, "not-authenticated"), wrong
    assert problem(admin.get(f"{path}/destruction"))[0] == 404
    slip = post(person, f"{path}/destruction", confirm="small-study", proof=proof(person))
    assert problem(slip)[0] == 409
    ordered = post(person, f"{path}/destruction", confirm="short-study", proof=proof(person))
    assert ordered.status_code == 202
    assert ordered.json()["asked_by"] == "person/ada"
    wait_for(lambda: admin.get(f"{path}/destruction").status_code == 200, 60)
    told = admin.get(f"{path}/destruction").content
    certificate = DestructionCertificate.model_validate_json(told)
    certificate.verify(signed.pin(BROKER))
    assert certificate.asked_by == "person/ada"
    again = post(admin, f"{path}/destruction", confirm="short-study", proof=by_key(world)).json()
    assert again["asked_by"] == "person/ada"
    assert again["finished_at"] == certificate.finished_at
    assert problem(post(admin, f"{path}/reopen", confirm="short-study"))[0] == 409
    states = {one["study_id"]: one["state"] for one in admin.get("/v1/studies").json()}
    assert states["short-study"] == "destroyed"
    steps = [one["action"] for one in world.actor("admin").get("/v1/audit", limit=1000).json()]
    for step in ("study closed", "study open", "study destroyed", "study destruction finished"):
        assert step in steps


def test_an_admin_looks_after_people(world: World, person: Person) -> None:
    admin = world.actor("admin")
    role = "steward:small-study:imaging"
    asked = {"name": "grace", "roles": [role], "hours": 24}
    invited = post(person, "/v1/accounts", **asked, proof=proof(person))
    assert invited.status_code == 201
    assert invited.json()["expires_at"] > time.time() + 23 * 3600
    assert listed(admin, "grace")["state"] == "invited"
    grace = accept(world.url, "grace", invited.json()["invitation_secret"])
    grace.sign_in().raise_for_status()
    shown = listed(person, "grace")
    assert (shown["state"], shown["roles"], shown["second_factor"]) == ("active", [role], True)
    assert "password" not in shown
    changed = post(
        admin, "/v1/accounts/grace/roles", roles=["reviewer:small-study"], proof=by_key(world)
    )
    assert changed.json()["roles"] == ["reviewer:small-study"]
    assert grace.call("GET", "/v1/session").json()["roles"] == ["reviewer:small-study"]
    disabled = post(admin, "/v1/accounts/grace/disable", proof=by_key(world)).json()
    assert disabled["state"] == "disabled"
    assert grace.call("GET", "/v1/session").status_code == 401
    assert grace.sign_in().status_code == 401
    assert post(admin, "/v1/accounts/grace/enable", proof=by_key(world)).json()["state"] == "active"
    assert grace.sign_in().status_code == 200
    reset = post(person, "/v1/accounts/grace/reset", proof=proof(person)).raise_for_status().json()
    assert grace.call("GET", "/v1/session").status_code == 401
    accept(world.url, "grace", reset["invitation_secret"]).sign_in().raise_for_status()
    actors = {one["subject"]: one["actor"] for one in said(world, "account invited")}
    assert actors["grace"] == "person/ada"
    assert said(world, "account disabled")[-1]["actor"] == "admin/tester"
    assert said(world, "person proved who it is")
    assert said(world, "proved its key")


def listed(who: Person | Actor, name: str) -> dict[str, Any]:
    found = {one["name"]: one for one in who.call("GET", "/v1/accounts").json()}
    return dict(found[name])


@pytest.mark.threat("T19")
def test_a_stolen_session_or_token_makes_nobody(world: World, person: Person) -> None:
    """Each change wants what a thief of cookie or token does not have, and has it used up."""
    admin, asked = world.actor("admin"), {"name": "mallory", "roles": []}
    stolen = in_session(world.home, world.url, "stolen", "admin")
    before = len(said(world, "account invited"))
    used = world.actor("admin").assertion()
    world.actor("admin").sign_in(used).raise_for_status()
    foreign = world.actor("imaging").assertion()
    stranger = Actor(lambda: world.url, "admin/tester", Identity.generate("x", kem="X25519"))
    tried: list[tuple[Person | Actor, dict[str, str]]] = [
        (stolen, {}),
        (stolen, {"password": PASSWORD}),
        (stolen, by_key(world)),
        (person, {"password": "another horse entirely", "code": "123456"}),
        (admin, {}),
        (admin, {"assertion": used}),
        (admin, {"assertion": foreign}),
        (admin, {"assertion": stranger.assertion()}),
        (admin, {"assertion": "x.y.z"}),
    ]
    for who, given in tried:
        refused = post(who, "/v1/accounts", **asked, proof=given)
        assert problem(refused)[:2] == (401, "not-authenticated"), given
    assert len(said(world, "account invited")) == before
    # What was typed right is good once, also for what fails then.
    code = person.recovery.pop(0)
    once = {"password": PASSWORD, "code": code}
    missing = post(person, "/v1/accounts/nobody-here/disable", proof=once)
    assert problem(missing)[0] == 404
    assert problem(post(person, "/v1/accounts", **asked, proof=once))[0] == 401
    # A role that is none is told before anything is used up.
    fresh = by_key(world)
    assert problem(post(admin, "/v1/accounts", name="m-m", roles=["boss"], proof=fresh))[0] == 422
    assert post(admin, "/v1/accounts", name="m-m", roles=[], proof=fresh).status_code == 201
    # Of a request with a proof nothing is kept, not even a digest under a key.
    again = admin.call(
        "POST",
        "/v1/accounts",
        json=asked | {"proof": by_key(world)},
        headers={"Idempotency-Key": "a-key-of-mine"},
    )
    assert again.status_code == 201
    free = admin.call(
        "POST",
        f"{world.path}/runs/dry-run",
        json={"seed": 1},
        headers={"Idempotency-Key": "a-key-of-mine"},
    )
    assert free.status_code != 422


def test_admins_are_made_at_the_console_only(world: World, person: Person) -> None:
    admin = world.actor("admin")
    in_session(world.home, world.url, "second-admin", "admin")
    in_session(world.home, world.url, "somebody", "auditor")
    tried: list[tuple[str, dict[str, Any]]] = [
        ("/v1/accounts", {"name": "new-admin", "roles": ["admin"]}),
        ("/v1/accounts/somebody/roles", {"roles": ["admin"]}),
        ("/v1/accounts/second-admin/roles", {"roles": []}),
        ("/v1/accounts/second-admin/disable", {}),
        ("/v1/accounts/second-admin/enable", {}),
        ("/v1/accounts/second-admin/reset", {}),
        ("/v1/accounts/ada/reset", {}),
    ]
    for path, body in tried:
        refused = post(admin, path, **body, proof=by_key(world))
        assert problem(refused)[:2] == (403, "not-allowed"), path
        assert "own machine" in problem(refused)[2]
    assert listed(person, "second-admin")["roles"] == ["admin"]


def test_an_authenticators_code_proves_too(world: World) -> None:
    """And is good once, as when signing in: the code that signed in proves nothing again."""
    eve = signed_in(world.home, world.url, "eve", "admin")
    assert isinstance(eve.totp, pyotp.TOTP)
    # The step after the one that the invitation took.
    code = eve.totp.at(int(time.time()) + 30)
    asked = {"proof": {"password": PASSWORD, "code": code}, "roles": []}
    assert post(eve, "/v1/accounts", name="by-eve", **asked).status_code == 201
    assert problem(post(eve, "/v1/accounts", name="by-eve-too", **asked))[0] == 401


def test_a_person_of_a_provider_has_to_come_from_there(world: World, person: Person) -> None:
    """A session that was begun minutes ago proves nothing, a new one does."""
    broker = Broker.at(world.home)
    name = "from-afar"
    with broker.database.change() as connection:
        row = accounts.AccountRow(name=name, issuer="https://idp", subject="7", added_at=1)
        accounts.add(connection, row)
        accounts.set_roles(connection, name, ["admin"], by_claim=True)
        begun = broker.sessions.begin(connection, name, "OpenID Connect")
    cookie = {broker.door.browsers.cookie: begun.cookie}
    client = httpx.Client(base_url=world.url, timeout=60, cookies=cookie)
    visitor = Person(name, client, csrf=begun.state.csrf_token)
    path = "/v1/accounts"
    assert post(visitor, path, name="by-afar", roles=[], proof={}).status_code == 201
    assert listed(person, name)["claimed_roles"] == ["admin"]
    assert listed(person, name)["provider"] == "https://idp 7"
    with broker.database.change() as connection:
        connection.execute(
            text("UPDATE session SET expires_at = expires_at - 301 WHERE account = :a"),
            {"a": name},
        )
    old = post(visitor, path, name="by-afar-too", roles=[], proof={})
    assert problem(old)[0] == 401
    assert "last five minutes" in problem(old)[2]
    broker.database.close()


def test_the_broker_says_how_it_does(world: World, person: Person) -> None:
    path = "/v1/system"
    admin = world.actor("admin")

    def well() -> bool:
        return bool(admin.get(path).raise_for_status().json()["head_at"])

    wait_for(well, 60)
    found = person.call("GET", path).json()
    assert (found["status"], found["ails"]) == ("ok", [])
    assert found["database"] == world.home.database_url().get_backend_name()
    assert found["migrated"] is found["blobs"] is True
    (worker,) = found["workers"]
    assert (worker["name"], worker["alive"]) == ("worker-1", True)
    assert abs(worker["seen_at"] - time.time()) < 600
    assert set(found["queued"]) == {"run", "job", "second look"}
    assert all(one["free"] <= one["total"] for one in found["disks"])
    assert found["head_number"] <= found["audit_entries"]
    assert "small-study" not in str(found)


def test_what_retention_will_delete(world: World, other: World) -> None:
    admin = world.actor("admin")
    assert admin.get("/v1/system/retention").json() == []
    records = encoded(other.signed, "claims", range(10))
    other.upload(pack(other.signed, other.identities["claims"], records))
    post(admin, f"{other.path}/close", confirm="other-study").raise_for_status()
    (clock,) = admin.get("/v1/system/retention").json()
    assert (clock["study_id"], clock["rule"]) == ("other-study", "packages_days")
    assert (clock["things"], clock["due"]) == (1, 0)
    assert clock["next_at"] > time.time() + 29 * 86_400
    post(admin, f"{other.path}/reopen", confirm="other-study").raise_for_status()


def test_without_a_worker_the_broker_says_so(world: World) -> None:
    """Last in this file: it ends the worker."""
    worker = world.processes[1]
    worker.terminate()
    worker.wait(180)
    database = Broker.at(world.home).database
    with database.change() as connection:
        connection.execute(text("UPDATE heartbeat SET seen_at = seen_at - 60"))
    database.close()
    found = world.actor("admin").get("/v1/system").json()
    assert found["status"] == "degraded"
    assert any("start one" in one for one in found["ails"])
    assert [one["alive"] for one in found["workers"]] == [False]
