"""People at a real broker over HTTP: cookies, CSRF, headers, waits; an auditor; a stolen token."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from broker.cli import app
from broker.store.engine import Database
from linkage.audit_chain import verify_export
from linkage.messages import StudyState
from linkage.sealing import Identity
from sites.upload import status_rows
from tests.broker_world import (
    HTTP,
    World,
    make_world,
    problem,
    running,
    sign_for,
    wait_for,
)
from tests.oidc_provider import CLIENT, SECRET, provider
from tests.people import PASSWORD, Person, accept, enrol, signed_in

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("people"))
    with (made.home.path / "config.toml").open("a") as config:
        config.write("[accounts]\nfailed_per_minute = 100\n")
    with running(made, worker=False) as up:
        yield up


@pytest.fixture(scope="module")
def auditor(world: World) -> Person:
    return signed_in(world.home, world.url, "the-auditor", "auditor")


def console(world: World, *words: str) -> str:
    """Run a command as on the broker's machine; return what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit):
        app([*words, "--home", str(world.home.path)])
    return out.getvalue() + err.getvalue()


def test_an_auditor_signs_in_and_verifies_the_log_elsewhere(
    world: World, auditor: Person, tmp_path: Path
) -> None:
    said = auditor.call("GET", "/v1/session").json()
    assert (said["name"], said["roles"]) == ("the-auditor", ["auditor"])
    entries = auditor.call("GET", "/v1/audit").json()
    assert {"person/the-auditor", "console", "admin/tester"} <= {one["actor"] for one in entries}
    export = auditor.call("GET", "/v1/audit/export")
    assert export.headers["content-type"] == "application/x-ndjson"
    (tmp_path / "log.jsonl").write_bytes(export.content)
    told = verify_export(tmp_path / "log.jsonl", world.home.public())
    assert told.entries == len(entries)
    assert auditor.call("POST", "/v1/audit/heads").status_code == 202
    assert auditor.call("GET", "/v1/audit/heads").json() == []  # no worker here signs any
    study = auditor.call("GET", world.path).json()
    assert [party["records"] for party in study["parties"]] == [None] * 3
    # And nothing else.
    for path in ("/runs", "/questions", "/inbox", "/assertions", "/second-looks"):
        assert problem(auditor.call("GET", world.path + path))[:2] == (403, "not-allowed"), path
    assert problem(auditor.call("POST", f"{world.path}/runs", json={}))[0] == 403
    assert problem(auditor.call("GET", "/v1/studies/no-such-study"))[0] == 404


def test_an_admin_by_role_is_like_one_by_key(world: World) -> None:
    admin = signed_in(world.home, world.url, "the-admin", "admin")
    asked = admin.call("POST", "/v1/studies", json=world.signed.model_dump(mode="json"))
    assert asked.status_code == 200  # it is there already
    assert admin.call("GET", f"{world.path}/runs").json() == []
    # A body that is larger than a stranger's is read for a session, too.
    large = {"study_toml": "x" * 40_000}
    assert problem(admin.call("POST", "/v1/studies", json=large))[:2] == (422, "malformed-request")
    stranger = httpx.post(f"{world.url}/v1/studies", json=large)
    assert problem(stranger)[0] == 401


def test_the_cookie_and_the_headers(world: World) -> None:
    person = enrol(world.home, world.url, "cookie-reader", "auditor")
    answer = person.sign_in()
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("linkage-session=")
    for mark in ("httponly", "samesite=strict", "path=/"):
        assert mark in cookie
    for mark in ("domain=", "max-age", "expires"):
        assert mark not in cookie
    for one in (answer, HTTP.get(f"{world.url}/health"), HTTP.get(f"{world.url}/v1/nothing")):
        assert HEADERS.items() <= dict(one.headers).items()
        assert "strict-transport-security" not in one.headers


def test_with_tls_the_cookie_is_bound_to_the_host(tmp_path: Path) -> None:
    made = make_world(tmp_path)
    config = made.home.path / "config.toml"
    text = config.read_text().replace("[server]", "[server]\nbehind_tls_proxy = true", 1)
    config.write_text(text + '[accounts]\norigin = "https://broker.example"\n')
    with running(made, worker=False) as up:
        person = enrol(made.home, up.url, "ada", "auditor")
        answer = person.sign_in()
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-linkage=")
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        sent = {"cookie": cookie.split(";")[0], "linkage-csrf": person.csrf}
        at = f"{up.url}/v1/session/end"
        for origin in (up.url, "http://broker.example", "null"):
            refused = httpx.post(at, headers=sent | {"origin": origin})
            assert problem(refused)[:2] == (403, "not-allowed"), origin
        origin = {"origin": "https://broker.example"}
        assert httpx.post(at, headers=sent | origin).status_code == 204


def test_what_changes_something_needs_the_csrf_token(world: World, auditor: Person) -> None:
    at = "/v1/audit/heads"
    for headers in ({"linkage-csrf": ""}, {"linkage-csrf": "0" * 64}):
        refused = auditor.client.post(at, headers=headers)
        assert problem(refused)[:2] == (401, "not-authenticated")
        assert "CSRF" in problem(refused)[2]
    assert problem(auditor.client.post(at))[0] == 401
    for said in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert problem(auditor.call("POST", at, headers=said))[:2] == (403, "not-allowed")
    # What no browser sends is refused, not failed on.
    for said in ({"origin": "http://["}, {"origin": ""}, {"origin": "null"}):
        assert problem(auditor.call("POST", at, headers=said))[:2] == (403, "not-allowed")
    strange = {"linkage-csrf": b"\xff\xfe", "cookie": b"linkage-session=\xff"}
    assert problem(httpx.post(world.url + at, headers=strange))[0] == 401
    own = {"origin": world.url, "sec-fetch-site": "same-origin"}
    assert auditor.call("POST", at, headers=own).status_code == 202


def test_another_site_signs_nobody_in(world: World) -> None:
    """Else it could sign a person in as somebody whose doings the attacker reads later."""
    body = {"name": "x", "password": "x"}
    said = {"origin": "https://evil.example"}
    for path in ("/v1/session", "/v1/invitations/open", "/v1/invitations/accept"):
        answer = HTTP.post(
            f"{world.url}{path}", json=body | {"invitation_secret": "x"}, headers=said
        )
        assert problem(answer)[0] in (403, 422), path
    answer = HTTP.post(f"{world.url}/v1/session", json=body, headers=said)
    assert problem(answer)[:2] == (403, "not-allowed")


def test_a_session_and_a_token_at_once_are_refused(world: World, auditor: Person) -> None:
    token = world.actor("admin").sign_in().json()["access_token"]
    both = auditor.call("GET", "/v1/audit", headers={"Authorization": f"Bearer {token}"})
    assert problem(both)[2] == "both a session and an Authorization header were sent"


def test_a_session_is_no_access_token_and_the_reverse(world: World, auditor: Person) -> None:
    cookie = auditor.client.cookies["linkage-session"]
    as_token = HTTP.get(f"{world.url}/v1/audit", headers={"Authorization": f"Bearer {cookie}"})
    assert problem(as_token)[0] == 401
    token = world.actor("admin").sign_in().json()["access_token"]
    as_cookie = httpx.get(f"{world.url}/v1/audit", headers={"cookie": f"linkage-session={token}"})
    assert problem(as_cookie)[0] == 401


def test_changing_ones_password(world: World) -> None:
    person = signed_in(world.home, world.url, "changer", "auditor")
    before, at = list(person.recovery), "/v1/session/password"
    new = {"new_password": "quite another four words"}
    for wrong, said in (
        ({"password": PASSWORD, "code": before[1], "new_password": "short"}, 422),
        ({"password": "a wrong password", "code": before[1]} | new, 401),
    ):
        assert problem(person.call("POST", at, json=wrong))[0] == said
    right = {"password": PASSWORD, "code": before[0]} | new
    assert problem(person.client.post(at, json=right))[0] == 401  # without the CSRF token
    ready = person.call("POST", at, json=right).raise_for_status().json()
    assert problem(person.call("GET", "/v1/session"))[0] == 401
    assert person.sign_in(before[2], password=new["new_password"]).status_code == 401
    assert person.sign_in(ready["recovery_codes"][0]).status_code == 401
    code = ready["recovery_codes"][0]
    assert person.sign_in(code, password=new["new_password"]).status_code == 200


def test_signing_out_everywhere(world: World) -> None:
    here = signed_in(world.home, world.url, "two-browsers", "auditor")
    there = Person("two-browsers", httpx.Client(base_url=world.url), recovery=[here.recovery.pop()])
    there.sign_in().raise_for_status()
    assert here.call("POST", "/v1/session/end?everywhere=true").status_code == 204
    assert "linkage-session" not in here.client.cookies
    for one in (here, there):
        assert problem(one.call("GET", "/v1/session"))[0] == 401


def test_guessing_is_made_to_wait_and_the_console_helps(world: World) -> None:
    person = enrol(world.home, world.url, "guessed-at", "auditor")
    answers = [person.sign_in("000000", password="a wrong password") for _ in range(5)]
    assert [one.status_code for one in answers] == [401] * 5
    # On a busy machine the first waits are over before the next attempt.
    answer = next(a for a in iter(lambda: person.sign_in("000000"), None) if a.status_code != 401)
    assert problem(answer)[:2] == (429, "too-many-requests")
    assert int(answer.headers["retry-after"]) >= 1
    assert "may sign in again" in console(world, "account", "enable", "guessed-at")
    assert person.sign_in().status_code == 200


def test_an_invitation_by_the_console_and_its_mistakes(world: World) -> None:
    said = console(world, "account", "invite", "grace", "--role", "steward:small-study:claims")
    assert "It is shown this once" in said
    assert "at /invitation of the broker's address" in said
    person = accept(world.url, "grace", said.splitlines()[1].strip())
    person.sign_in().raise_for_status()
    assert person.call("GET", f"{world.path}/runs").json() == []
    study = person.call("GET", world.path).json()
    assert study["parties"]
    assert "no role" not in said
    idle = console(world, "account", "invite", "ida")
    assert idle.splitlines()[-1] == (
        "ida has no role yet, and may do nothing: "
        "`linkage-broker account roles ida --role ROLE` gives some."
    )
    assert "has no 'nobody'" in console(
        world, "account", "invite", "hal", "--role", "steward:small-study:nobody"
    )
    assert "no study 'typo'" in console(
        world, "account", "roles", "grace", "--role", "reviewer:typo"
    )
    assert "stands alone" in console(
        world, "account", "roles", "grace", "--role", "admin", "--role", "auditor"
    )
    for hours, told in (("1", "may open the invitation"), ("0", "`linkage-broker account reset")):
        console(world, "account", "invite", f"late-{hours}", "--role", "auditor", "--hours", "1")
        with Database(world.home.database_url()).change() as connection:
            end = text("UPDATE invitation SET expires_at = expires_at - 3600 WHERE account = :a")
            if hours == "0":
                connection.execute(end, {"a": f"late-{hours}"})
        assert told in console(world, "account", "enable", f"late-{hours}")
    assert "is disabled" in console(world, "account", "disable", "grace")
    assert problem(person.call("GET", world.path))[0] == 401
    weak = {"invitation_secret": "x" * 32, "password": "short"}
    answer = HTTP.post(f"{world.url}/v1/invitations/accept", json=weak)
    assert problem(answer)[:2] == (401, "not-authenticated")


def test_an_attacker_with_a_stolen_site_token_and_key(world: World) -> None:
    """Suspended: the token ends, the key buys no other; the next epoch's does, once restored."""
    thief = world.actor("imaging")
    assert thief.get(world.path).status_code == 200  # the stolen key works
    token = thief.token
    # What it can and cannot do: one party of one study, as ever.
    assert problem(thief.get("/v1/audit"))[0] == 403
    assert problem(thief.get(f"{world.path}/datasets/claims/1"))[0] == 403
    said = console(
        world, "access", "suspend", "small-study", "imaging", "--reason", "key stolen on Monday"
    )
    assert "suspended; 1 tokens ended" in said
    answer = HTTP.get(world.url + world.path, headers={"Authorization": f"Bearer {token}"})
    assert problem(answer)[:2] == (401, "not-authenticated")
    refused = thief.sign_in()
    assert "suspended the access" in problem(refused)[2]
    assert "key stolen on Monday" in problem(refused)[2]
    # Who does not have the key is not told.
    stranger = world.actor("imaging")
    stranger.identity = Identity.generate("imaging", kem="X25519")
    assert "suspended" not in problem(stranger.sign_in())[2]
    # Everybody else goes on, and sees it.
    parties = world.actor("claims").get(world.path).json()["parties"]
    assert {one["party"]: one["suspended"] for one in parties} == {
        "imaging": True,
        "enclave": False,
        "claims": False,
    }
    shown = status_rows(
        StudyState.model_validate_json(world.actor("claims").get(world.path).content)
    )
    assert "ACCESS SUSPENDED" in str(shown["imaging"])
    assert "ACCESS SUSPENDED" not in str(shown["claims"])
    assert "small-study/imaging  since" in console(world, "access", "list")
    assert "suspended; 0 tokens" in console(
        world, "access", "suspend", "small-study", "imaging", "--reason", "again"
    )
    again = {one: world.identities[one] for one in world.identities if one != "imaging"}
    text = world.signed.study_toml.replace("[study]", "[study]\nepoch = 2", 1)
    text = text.replace("{", "{{").replace("}", "}}")
    signed, identities = sign_for(world.home.public(), "small-study", text=text, identities=again)
    world.actor("admin").post("/v1/studies", signed).raise_for_status()
    assert "suspended the access" not in problem(world.actor("imaging").sign_in())[2]
    owner = world.actor("imaging")
    owner.identity = identities["imaging"]
    assert "suspended the access" in problem(owner.sign_in())[2]
    fingerprint = identities["imaging"].public().fingerprint
    assert fingerprint in console(world, "access", "restore", "small-study", "imaging")
    assert owner.sign_in().status_code == 200
    assert problem(world.actor("imaging").sign_in())[0] == 401  # the stolen key is worth nothing


def test_a_person_of_an_institution_signs_in(tmp_path: Path, free_port: int) -> None:
    with provider() as idp:
        made = make_world(tmp_path)
        (made.home.path / "secret").write_text(SECRET + "\n")
        with (made.home.path / "config.toml").open("a") as config:
            config.write(
                f'[accounts]\norigin = "http://127.0.0.1:{free_port}"\n[oidc]\n'
                f'issuer = "{idp.url}"\nclient_id = "{CLIENT}"\nclient_secret_file = "secret"\n'
                '[[oidc.rule]]\nclaim = "groups"\nvalue = "linkage-auditors"\nrole = "auditor"\n'
            )
        ready = made.home.path / "ready"
        made.spawn("serve", "--port", str(free_port), "--ready-file", str(ready), log="serve")
        try:
            wait_for(ready.exists, 60)
            idp.claims = {"sub": "u-1", "groups": ["linkage-auditors"]}
            with httpx.Client(base_url=ready.read_text().strip()) as browser:
                gone = browser.get("/v1/session/provider")
                assert gone.status_code == 303
                away = gone.headers["set-cookie"].lower()
                assert {"httponly", "samesite=lax", "max-age=600"} <= set(away.split("; "))
                back = httpx.get(gone.headers["location"]).headers["location"]
                arrived = browser.get(back).raise_for_status()
                assert arrived.json()["roles"] == ["auditor"]
                assert "linkage-away" not in browser.cookies
                assert browser.get("/v1/audit").status_code == 200
                stranger = httpx.get(back)
                assert problem(stranger)[:2] == (401, "not-authenticated")
        finally:
            made.stop()
    listed = console(made, "account", "list", "--json")
    assert f'"provider": "{idp.url} u-1"' in listed


def test_no_secret_of_a_person_is_in_the_logs(world: World, auditor: Person) -> None:
    said = (world.home.path / "serve.log").read_text()
    assert '"route": "/v1/session"' in said
    cookie = auditor.client.cookies["linkage-session"]
    for secret in (cookie, auditor.csrf, "five words", *auditor.recovery):
        assert secret not in said


def test_a_restart_ends_no_session(tmp_path: Path) -> None:
    made = make_world(tmp_path)
    with running(made, worker=False) as up:
        person = signed_in(made.home, up.url, "ada", "auditor")
        process = up.processes[0]
        process.terminate()
        process.wait(180)
        up.serve()
        person.client.base_url = httpx.URL(up.url)
        assert person.call("GET", "/v1/session").json()["csrf_token"] == person.csrf
