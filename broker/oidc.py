"""
Signing in at an identity provider: OpenID Connect Core 1.0, authorization code flow with PKCE.

1. The person is sent to the provider with state, nonce and a PKCE challenge (RFC 7636); what is
   checked on the way back lies encrypted in the browser's own cookie, for ten minutes.
2. On the way back state must be that of this browser, and `iss`, if it is sent, this provider
   (RFC 9207).
3. The code is exchanged for an ID token, with the PKCE verifier.
4. Its signature is by a key of the provider's, with an algorithm that the settings allow; iss, aud,
   azp, exp, iat, nonce and at_hash hold. A key id that is unknown has the keys fetched once more.
5. The account is that of issuer and subject, never of a name or an e-mail address, which a provider
   may give to somebody else. Its roles are what the rules make of this sign-in's claims, and those
   that an admin gave here.

Addresses come from the provider's discovery document, fetched by https or on this machine only.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import httpx
from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]
from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, KeySet
from joserfc.jws import JWSRegistry

from broker.account_config import ClaimRule, Oidc, is_private_enough
from broker.account_key import AccountKey
from broker.browsers import AWAY_SECONDS
from broker.config import Home
from broker.person_roles import parse_role, require_compatible
from broker.sessions import Begun, Sessions
from broker.store import accounts
from broker.store.accounts import AccountRow
from broker.store.engine import Database
from linkage.errors import KeyRefused, NotAllowed, NotAuthenticated, NotFound, Unreachable

BACK = "/v1/session/provider/back"
"""Where the provider sends people back to; to be registered there, behind the broker's origin."""

_FRESH = 3600
_SKEW = 60
_MOST_BYTES = 1 << 20
_KEY_FIELDS = ("kty", "kid", "alg", "n", "e", "crv", "x", "y")
_AGAIN = "sign in again: GET /v1/session/provider"


class Provider:
    """
    The identity provider of `[oidc]`. origin: of this broker. secret: its file, if the provider
    gave one. Nothing is asked of the provider before somebody signs in.
    """

    def __init__(
        self,
        settings: Oidc,
        *,
        origin: str,
        secret_file: Path | None,
        database: Database,
        key: AccountKey,
        sessions: Sessions,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._secret_file, self._now = settings, secret_file, now
        self._back = origin + BACK
        self._database, self._account_key, self._sessions = database, key, sessions
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    @classmethod
    def of(cls, home: Home, database: Database, key: AccountKey, sessions: Sessions) -> Provider:
        """As the home's settings say."""
        settings, secret = home.config.oidc, home.config.oidc.client_secret_file
        return cls(
            settings,
            origin=home.config.accounts.origin,
            secret_file=home.path / secret if secret else None,
            database=database,
            key=key,
            sessions=sessions,
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Provider refuses pickling")

    def send(self) -> tuple[str, str]:
        """Return where to send a browser, and what it keeps meanwhile. Raises Unreachable."""
        self._require_configured()
        metadata = self._found()
        away = {name: secrets.token_urlsafe(48) for name in ("state", "nonce", "verifier")}
        with self._client(metadata) as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"],
                state=away["state"],
                nonce=away["nonce"],
                code_verifier=away["verifier"],
            )
        return str(url), self._account_key.encrypt(json.dumps(away))

    def receive(
        self, answer: Mapping[str, str], away: str | None, *, cookie: str | None = None
    ) -> Begun:
        """
        Begin the session of somebody whom the provider sent back. answer: the query. away: what the
        browser kept. cookie: of a session that ends. Raises NotAuthenticated, saying which check
        failed; NotAllowed where no rule gives a role.
        """
        self._require_configured()
        kept = self._kept(away)
        if not secrets.compare_digest(answer.get("state", "").encode(), kept["state"].encode()):
            _refuse("the answer is not that of this browser's sign-in")
        if answer.get("iss", self._settings.issuer) != self._settings.issuer:
            _refuse("the answer comes from another identity provider")
        if "error" in answer or not answer.get("code"):
            _refuse("the identity provider did not let you in")
        metadata = self._found()
        token = self._exchanged(metadata, answer["code"], kept["verifier"])
        claims = self._verified(metadata, token, kept["nonce"])
        if self._settings.userinfo:
            claims = self._more(metadata, token, claims["sub"]) | claims
        return self._begin(claims, cookie)

    def _begin(self, claims: dict[str, Any], cookie: str | None) -> Begun:
        issuer, subject = self._settings.issuer, str(claims["sub"])
        given = {rule.role for rule in self._settings.rule if rule.value in _values(claims, rule)}
        with self._database.change() as connection:
            row = accounts.find_subject(connection, issuer, subject)
            if row is not None and row.disabled_at is not None:
                _refuse("the account is disabled", "ask the broker's admin")
            name = row.name if row else _name_of(issuer, subject)
            if row is None and given:
                made = AccountRow(
                    name=name, issuer=issuer, subject=subject, added_at=int(self._now())
                )
                accounts.add(connection, made)
            if row is not None or given:
                accounts.set_roles(connection, name, given, by_claim=True)
            roles = accounts.roles(connection, name)
            begun = None
            if roles and _compatible(roles):
                begun = self._sessions.begin(connection, name, "OpenID Connect", replacing=cookie)
        if begun is None:
            raise NotAllowed(
                "you are known, but have no role at this broker, or roles that exclude each other",
                hint=_left_out(claims, self._settings.rule)
                or "the broker's admin sets the rules of [oidc]; `linkage-broker account list`",
            )
        return begun

    def _kept(self, away: str | None) -> dict[str, str]:
        try:
            kept = json.loads(self._account_key.decrypt(away or "", not_older=AWAY_SECONDS))
        except KeyRefused:
            _refuse("this browser did not begin to sign in here, or more than ten minutes ago")
        return dict(kept)

    def _exchanged(self, metadata: dict[str, Any], code: str, verifier: str) -> dict[str, Any]:
        try:
            with self._client(metadata) as client:
                found = client.fetch_token(
                    metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                )
        except (AuthlibBaseError, ValueError):
            _refuse("the identity provider refused the code")
        except httpx.HTTPError as fault:
            raise _unreachable(fault) from None
        if not isinstance(found.get("id_token"), str):
            _refuse("the identity provider sent no ID token")
        return dict(found)

    def _verified(
        self, metadata: dict[str, Any], token: dict[str, Any], nonce: str
    ) -> dict[str, Any]:
        issuer, client_id = self._settings.issuer, self._settings.client_id
        try:
            try:
                decoded = self._decoded(metadata, token["id_token"], _FRESH)
            except InvalidKeyIdError:
                decoded = self._decoded(metadata, token["id_token"], _SKEW)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                options={
                    "iss": {"essential": True, "value": issuer},
                    "aud": {"essential": True, "value": client_id},
                    "nonce": {"essential": True, "value": nonce},
                },
                params={
                    "nonce": nonce,
                    "client_id": client_id,
                    "access_token": token.get("access_token"),
                },
            )
            claims.validate(now=int(self._now()), leeway=_SKEW)
        except (JoseError, ValueError) as fault:
            # Which claim it is says the type or the fault's own description; no value is in it.
            _refuse(f"the ID token does not hold ({type(fault).__name__}{_claim_of(fault)})")
        if not isinstance(claims["sub"], str) or not 1 <= len(claims["sub"]) <= 255:
            _refuse("the ID token names nobody")
        return dict(claims)

    def _decoded(self, metadata: dict[str, Any], token: str, fresh: int) -> jwt.Token:
        registry = JWSRegistry(
            algorithms=list(self._settings.algorithms), strict_check_header=False
        )
        return jwt.decode(token, self._key_set(metadata, fresh), registry=registry)

    def _key_set(self, metadata: dict[str, Any], fresh: int) -> KeySet:
        now = self._now()
        if self._keys is None or now - self._keys[0] > fresh:
            found = self._get(metadata["jwks_uri"])
            self._keys = (now, _signing_keys(found))
        return self._keys[1]

    def _more(self, metadata: dict[str, Any], token: dict[str, Any], sub: str) -> dict[str, Any]:
        bearer = {"authorization": f"Bearer {token.get('access_token', '')}"}
        found = self._get(metadata.get("userinfo_endpoint", ""), headers=bearer)
        # Gen3 Fence writes its number of a person as a number here, and as text in the ID token.
        told = found.get("sub")
        if (str(told) if type(told) is int else told) != sub:
            _refuse("the identity provider's user information is about somebody else")
        return found

    def _found(self) -> dict[str, Any]:
        now = self._now()
        if self._metadata is None or now - self._metadata[0] > _FRESH:
            issuer = self._settings.issuer
            found = self._get(issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != issuer:
                raise Unreachable(
                    "the identity provider's discovery document names another issuer",
                    hint="write its issuer into [oidc] exactly as it writes it itself",
                )
            self._metadata = (now, found)
        return self._metadata[1]

    def _get(self, url: str, *, headers: dict[str, str] | None = None) -> dict[str, Any]:
        if not is_private_enough(url):
            raise Unreachable(
                "the identity provider names an address that is not https",
                hint="its admin mends the discovery document",
            )
        try:
            with httpx.Client(timeout=10, follow_redirects=False) as client:
                answer = client.get(url, headers=headers).raise_for_status()
            found = json.loads(answer.content) if len(answer.content) <= _MOST_BYTES else None
        except httpx.HTTPError as fault:
            raise _unreachable(fault) from None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unreachable("the identity provider's answer is no JSON object", hint="ask there")
        return found

    def _client(self, metadata: dict[str, Any]) -> Any:
        with warnings.catch_warnings():
            # Authlib would like a client that is not in our lock; httpx works as before.
            warnings.simplefilter("ignore")
            from authlib.integrations.httpx_client import (  # type: ignore[import-untyped]
                OAuth2Client,
            )
        secret = self._secret_file.read_text().strip() if self._secret_file else None
        ways = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        by_body = "client_secret_basic" not in ways
        return OAuth2Client(
            client_id=self._settings.client_id,
            client_secret=secret,
            scope=" ".join(self._settings.scopes),
            redirect_uri=self._back,
            code_challenge_method="S256",
            token_endpoint_auth_method=(
                "none" if not secret else "client_secret_post" if by_body else "client_secret_basic"
            ),
            timeout=10,
            follow_redirects=False,
        )

    def _require_configured(self) -> None:
        if not self._settings.issuer:
            raise NotFound(
                "this broker has no identity provider", hint="sign in with name and password"
            )


def _values(claims: Mapping[str, Any], rule: ClaimRule) -> set[str]:
    """Return the values of a claim: of a list its items, of an object its keys."""
    found: Any = claims
    steps = rule.claim[1:].split("/") if rule.claim.startswith("/") else [rule.claim]
    for step in steps:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, bool):
        return {str(found).lower()}
    if isinstance(found, str | int):
        return {str(found)}
    if isinstance(found, list | Mapping):
        return {one for one in found if isinstance(one, str)}
    return set()


def _signing_keys(found: Mapping[str, Any]) -> KeySet:
    """
    Return the keys that a provider signs with (RFC 7517). What else it publishes is passed over, so
    that no key of another kind or use hinders: Keycloak has one for encryption. Gen3 Fence writes
    `key_ops` as text, not as a list of texts.
    """
    listed, made = found.get("keys"), []
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, Mapping) or one.get("use", "sig") != "sig":
            continue
        operations = one.get("key_ops", "verify")
        try:
            if "verify" not in ([operations] if isinstance(operations, str) else operations):
                continue
            # The public half alone, whatever else is there.
            plain = {name: one[name] for name in _KEY_FIELDS if name in one}
            made.append(JWKRegistry.import_key(plain))
        except (JoseError, ValueError, TypeError):
            continue
    return KeySet(made)


def _left_out(claims: Mapping[str, Any], rules: Sequence[ClaimRule]) -> str:
    """
    Return what to do where the provider says that it left out a claim that a rule asks for: OpenID
    Connect Core 1.0, 5.6.2; Entra ID does so with `groups` of somebody who is in too many.
    """
    named = claims.get("_claim_names")
    elsewhere = set(named) if isinstance(named, Mapping) else set()
    if not any(rule.claim in elsewhere for rule in rules):
        return ""
    return (
        "the identity provider left out the groups that roles come from, since they are too many;"
        " its admin defines app roles for this broker, or sends only groups that are assigned to it"
    )


def _name_of(issuer: str, subject: str) -> str:
    return "oidc-" + hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:16]


def _compatible(roles: set[str]) -> bool:
    try:
        require_compatible(map(parse_role, roles))
    except KeyRefused:
        return False
    return True


def _claim_of(fault: Exception) -> str:
    claim = getattr(fault, "claim", None)
    return f": {claim}" if isinstance(claim, str) else ""


def _unreachable(fault: Exception) -> Unreachable:
    return Unreachable(
        f"the identity provider does not answer as it should ({type(fault).__name__})",
        hint="try again; the broker's admin looks at [oidc] and the network",
    )


def _refuse(message: str, hint: str = _AGAIN) -> NoReturn:
    raise NotAuthenticated(message, hint=hint)
