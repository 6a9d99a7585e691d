"""People for tests: accounts on a broker's folder, and browsers that are signed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import pyotp

from broker.config import Home
from broker.container import Broker
from broker.person_roles import parse_role

PASSWORD = "five words and a horse"


@dataclass(slots=True)
class Person:
    """Somebody with a browser. client: keeps the cookies."""

    name: str
    client: httpx.Client
    csrf: str = ""
    recovery: list[str] = field(default_factory=list)
    totp: pyotp.TOTP | None = None

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request as the signed-in person."""
        headers = {"linkage-csrf": self.csrf} if method != "GET" else {}
        headers |= options.pop("headers", {})
        return self.client.request(method, path, headers=headers, **options)

    def sign_in(self, code: str | None = None, *, password: str = PASSWORD) -> httpx.Response:
        """Sign in with the next recovery code, or this one."""
        used = self.recovery.pop(0) if code is None else code
        body = {"name": self.name, "password": password, "code": used}
        answer = self.client.post("/v1/session", json=body)
        if answer.status_code == 200:
            self.csrf = answer.json()["csrf_token"]
        return answer


def enrol(home: Home, url: str, name: str, *roles: str) -> Person:
    """Invite a person at the console; the person accepts over HTTP, and is not signed in yet."""
    broker = Broker.at(home)
    code, _ = broker.accounts.invite(name, [parse_role(role) for role in roles])
    broker.database.close()
    return accept(url, name, code)


def accept(url: str, name: str, code: str) -> Person:
    """Accept an invitation over HTTP."""
    client = httpx.Client(base_url=url, timeout=60)
    opened = client.post("/v1/invitations/open", json={"invitation_secret": code})
    totp = pyotp.parse_uri(opened.raise_for_status().json()["totp_secret"])
    assert isinstance(totp, pyotp.TOTP)
    body = {"invitation_secret": code, "password": PASSWORD, "code": totp.now()}
    ready = client.post("/v1/invitations/accept", json=body).raise_for_status().json()
    return Person(name, client, recovery=list(ready["recovery_codes"]), totp=totp)


def signed_in(home: Home, url: str, name: str, *roles: str) -> Person:
    """Enrol a person, and sign in."""
    made = enrol(home, url, name, *roles)
    made.sign_in().raise_for_status()
    return made


def in_session(home: Home, url: str, name: str, *roles: str) -> Person:
    """A person with a session, without the time that passwords take."""
    broker = Broker.at(home)
    broker.accounts.invite(name, [parse_role(role) for role in roles])
    with broker.database.change() as connection:
        begun = broker.sessions.begin(connection, name, "a test")
    broker.database.close()
    cookie = {broker.door.browsers.cookie: begun.cookie}
    client = httpx.Client(base_url=url, timeout=60, cookies=cookie)
    return Person(name, client, csrf=begun.state.csrf_token)
