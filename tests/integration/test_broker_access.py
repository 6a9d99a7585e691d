"""Suspending a party's access over HTTP, and restoring it with a proof."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkage.messages import CUSTODIAN
from tests.broker_world import World, make_world, problem, running
from tests.people import PASSWORD, signed_in


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("access")), worker=False) as made:
        yield made


def test_a_stolen_key_opens_nothing_until_somebody_proves_who_restores_it(world: World) -> None:
    admin, imaging = world.actor("admin"), world.actor("imaging")
    at = f"{world.path}/access"
    listed = {one["name"]: one for one in admin.get(at).json()}
    assert list(listed) == ["imaging", "enclave", "claims"]
    assert listed["imaging"]["fingerprint"] == world.signed.pin("imaging").fingerprint
    assert imaging.get(world.path).status_code == 200
    for reason in ("", "x", "two\nlines", "x" * 201):
        body = {"reason": reason, "proof": {"assertion": admin.assertion()}}
        assert admin.call("POST", f"{at}/imaging/suspend", json=body).status_code == 422
    person = signed_in(world.home, world.url, "eve", "admin")
    # A stolen session could cut off every site at once, and each costs a proof to let in again.
    for proof in (None, {"password": PASSWORD}):
        body = {"reason": "a slip"} | ({} if proof is None else {"proof": proof})
        answer = person.call("POST", f"{at}/imaging/suspend", json=body)
        assert answer.status_code == (422 if proof is None else 401), proof
    assert imaging.get(world.path).status_code == 200
    body = {"reason": "key stolen", "proof": {"assertion": admin.assertion()}}
    gone = admin.call("POST", f"{at}/imaging/suspend", json=body).raise_for_status().json()
    assert (gone["reason"], gone["suspended_at"] is not None) == ("key stolen", True)
    assert imaging.get(world.path).status_code == 401
    assert "key stolen" in imaging.sign_in().text
    again = problem(admin.call("POST", f"{at}/imaging/suspend", json=body))
    assert again[:2] == (401, "not-authenticated"), "an assertion is good once"
    for nobody in ("nobody", CUSTODIAN):
        assert admin.call("POST", f"{at}/{nobody}/suspend", json=body).status_code == 404
    for proof in ({}, {"password": PASSWORD}, {"password": "wrong", "code": person.recovery[0]}):
        answer = person.call("POST", f"{at}/imaging/restore", json={"proof": proof})
        assert problem(answer)[:2] == (401, "not-authenticated")
    assert imaging.sign_in().status_code == 401
    proof = {"password": PASSWORD, "code": person.recovery.pop(0)}
    back = person.call("POST", f"{at}/imaging/restore", json={"proof": proof})
    assert back.raise_for_status().json()["suspended_at"] is None
    imaging.token = ""
    assert imaging.get(world.path).status_code == 200
    again = {"proof": {"assertion": admin.assertion()}}
    answer = admin.call("POST", f"{at}/imaging/restore", json=again)
    assert problem(answer)[:2] == (404, "not-found")

    entries = admin.get("/v1/audit", limit=1000).json()
    told = [(one["action"], one["actor"]) for one in entries if "access" in one["action"]]
    assert told == [("access suspended", "admin/tester"), ("access restored", "person/eve")]


def test_the_script_in_the_documents_suspends_a_site(world: World, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "accounts.md").read_text(encoding="utf-8")
    [script] = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "suspend.py").write_text(script, encoding="utf-8")
    (tmp_path / "ada-keys").mkdir()
    world.admin.save(tmp_path / "ada-keys" / "identity.key")

    def suspended(party: str) -> subprocess.CompletedProcess[str]:
        named = [world.url, "admin/tester", world.study_id, party, "key stolen"]
        command = [sys.executable, "suspend.py", *named]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert suspended("nobody").returncode == 1
    done = suspended("enclave")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["reason"] == "key stolen"
    assert world.actor("enclave").sign_in().status_code == 401
