"""Settings of people who sign in: the tables [accounts] and [oidc] of config.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from broker.person_roles import parse_role
from linkage.errors import KeyRefused
from linkage.strict_toml import Fault, Strict

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class AccountSettings(Strict):
    """
    The table [accounts], people who sign in. key: the file broker.account_key describes. origin: as
    browsers see this broker, "https://broker.example"; "": whatever Host they name. idle_seconds,
    session_seconds: how long a session lasts unused, and at all (NIST SP 800-63B-4, AAL2).
    failed_per_minute: failed attempts to sign in that one address has.
    """

    key: Path = Path("accounts.key")
    origin: str = Field(default="", pattern=r"^(https?://[a-z0-9.\-\[\]:]+)?$", max_length=200)
    require_totp: bool = True
    idle_seconds: int = Field(default=1800, ge=60, le=3600)
    session_seconds: int = Field(default=43_200, ge=300, le=86_400)
    invitation_hours: int = Field(default=72, ge=1, le=720)
    failed_per_minute: int = Field(default=60, ge=5, le=100_000)


class ClaimRule(Strict):
    """
    One of [[oidc.rule]]: who has `value` in `claim` gets `role`. claim: a name, or a JSON pointer
    (RFC 6901, "/context/user/name"); a list or the keys of an object count as its values.
    """

    claim: str = Field(min_length=1, max_length=200)
    value: str = Field(min_length=1, max_length=300)
    role: str

    @field_validator("role")
    @classmethod
    def _known(cls, text: str) -> str:
        try:
            return str(parse_role(text))
        except KeyRefused as refusal:
            raise Fault(refusal.message, refusal.hint) from None


class Oidc(Strict):
    """
    The table [oidc], an identity provider (OpenID Connect); without `issuer`, none.
    algorithms: with which an ID token may be signed. userinfo: ask for the provider's user
    information, too, where claims are that the ID token lacks.
    """

    issuer: str = Field(default="", max_length=500)
    client_id: str = Field(default="", max_length=300)
    client_secret_file: Path | None = None
    scopes: tuple[str, ...] = ("openid",)
    algorithms: tuple[Literal["RS256", "PS256", "ES256", "Ed25519"], ...] = ("RS256", "ES256")
    userinfo: bool = False
    rule: tuple[ClaimRule, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Oidc:
        if not self.issuer:
            return self
        if not self.client_id:
            raise Fault("an issuer needs a client_id", "register this broker there", "oidc")
        if not self.rule:
            raise Fault(
                "without a rule nobody gets a role", "add a table [[oidc.rule]]", "oidc", "issuer"
            )
        if "openid" not in self.scopes:
            raise Fault("the scopes lack openid", 'write scopes = ["openid"]', "oidc", "scopes")
        if not is_private_enough(self.issuer):
            raise Fault("the issuer is not https://", "use its https address", "oidc", "issuer")
        return self


def is_private_enough(url: str) -> bool:
    """Does nobody on the way read it: https, or this machine?"""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
