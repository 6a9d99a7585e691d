"""
Forms that want a person to prove anew who it is, as the API does (`FrontDoor.prove`): password and
code in the form; whom an identity provider sends must have come from there just now.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.web.visits import Visit
from linkage.account_messages import Proof
from linkage.errors import (
    CallerRefused,
    Conflict,
    KeyRefused,
    NotFound,
    PackageRefused,
    TooManyRequests,
)

SAID = (CallerRefused, TooManyRequests, KeyRefused, Conflict, NotFound, PackageRefused)
"""What a person at a form can do something about: it is said above the form."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a form asks for. password: of this broker, else an identity provider's session. code: of
    an authenticator."""

    password: bool
    code: bool


def asked(visit: Visit) -> Asked:
    """Return what this visitor proves with."""
    local = visit.broker.sessions.is_local(visit.caller.name)
    return Asked(password=local, code=local and visit.broker.home.config.accounts.require_totp)


def prove(visit: Visit, address: str) -> str:
    """
    Check the proof in a posted form; return who acts, for the log. Raises NotAuthenticated and
    TooManyRequests as signing in does.
    """
    proof = Proof(password=visit.text("password")[:1024], code=visit.text("code")[:64])
    visit.broker.door.prove(visit.request.headers, visit.caller, proof, address=address)
    return visit.caller.actor
