"""
Who is calling: a signed assertion (RFC 7523) buys a short opaque access token.

1. iss = sub names the caller: "<study id>/<party or contributor>", or "admin/<name>";
2. its signing key is the one pinned in the signed study, or the admin's registered one;
3. the signature is Ed25519, no other algorithm is known here;
4. aud is this broker, exp at most five minutes ahead, iat, and nbf if there is one, not in the
   future;
5. jti is used once: remembered until the assertion has expired;
6. the caller's access is not suspended (broker.services.access); told to the key's owner only;
7. the caller holds fewer than MOST_TOKENS tokens that are valid.
What fails is counted by address (broker.rate). What succeeds is not: many sites may come from one
address, each proved its key, and step 7 bounds what a stolen key or a loop can write.
Steps 1 to 4 and 6 read only; the one writer's turn is taken for step 5, which looks at key and
suspension again.
Tokens are random; only their SHA-256 is stored, so the database signs nobody in.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import OKPKey

from broker import audit
from broker.config import Server, Tokens
from broker.policy import ADMIN, Caller
from broker.registered import RegisteredStudy
from broker.store import access, studies
from broker.store.engine import Connection, Database
from linkage.errors import NotAuthenticated, TooManyRequests
from linkage.messages import Token, TokenRequest
from linkage.sealing import Identity, PublicIdentity

_NAME = re.compile(r"([a-z][a-z0-9-]{0,62}[a-z0-9])/([a-z][a-z0-9-]{0,62}[a-z0-9])")
_MAX_ASSERTION = 8192
MOST_TOKENS = 1000
"""Valid at a time, of one caller: a program that signs in for every call gets this far."""
_REMEMBER_EXPIRED = 86_400
"""For a day an expired token is told from an unknown one, seconds."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Assertions to tokens, tokens to callers. now: Unix seconds, a parameter for tests."""

    database: Database
    server: Server
    tokens: Tokens
    now: Callable[[], float] = time.time

    def token(self, request: TokenRequest) -> Token:
        """Return an access token. Raises NotAuthenticated, naming which step failed."""
        token = secrets.token_urlsafe(32)

        def grant(connection: Connection, caller: Caller, now: int) -> None:
            self._require_few(connection, caller, now)
            granted = access.TokenRow(
                study_id=caller.study_id,
                name=caller.name,
                expires_at=now + self.tokens.access_seconds,
            )
            access.add_token(connection, _sha256(token), granted)
            study = caller.study_id or ""
            audit.record(connection, actor=caller.actor, action="signed in", study_id=study)

        self._redeem(_claimed_caller(request.assertion), request.assertion, grant)
        return Token(access_token=token, expires_in=self.tokens.access_seconds)

    def prove(self, caller: Caller, assertion: str) -> None:
        """
        Have a caller show that it holds its key now, not only a token: a fresh assertion, good
        once. Raises NotAuthenticated.
        """
        if _claimed_caller(assertion) != caller:
            _refuse("the assertion is not the caller's", "sign it with the key that signed in")

        def note(connection: Connection, who: Caller, _now: int) -> None:
            study = who.study_id or ""
            audit.record(connection, actor=who.actor, action="proved its key", study_id=study)

        self._redeem(caller, assertion, note)

    def _require_few(self, connection: Connection, caller: Caller, now: int) -> None:
        """Step 7. Raises TooManyRequests."""
        if access.valid_tokens(connection, caller.study_id, caller.name, now) >= MOST_TOKENS:
            raise TooManyRequests(
                f"this caller has {MOST_TOKENS:,} access tokens that are still valid",
                hint="use each until it expires, instead of signing in for every request; if this"
                " is not you, the key is stolen: tell the broker's admin",
                retry_after=max(1, self.tokens.access_seconds // 10),
            )

    def _redeem(
        self, caller: Caller, assertion: str, then: Callable[[Connection, Caller, int], None]
    ) -> None:
        """Check an assertion of `caller` and use it up; then do the rest, in that transaction."""
        # Signatures are checked before anybody has to wait: a stranger's assertion costs a read.
        with self.database.read() as connection:
            key = _key_of(connection, caller)
        # Who is not known costs as much time as who signs wrongly: else a clock tells the names.
        claims = _verified(assertion, key or _nobody())
        if key is None:
            _unknown()
        self._check(claims, caller, int(self.now()))
        with self.database.read() as connection:
            _require_not_suspended(connection, caller)
        used = _sha256(f"{caller.actor}\n{claims['jti']}")
        with self.database.change() as connection:
            if _key_of(connection, caller) != key:
                _unknown()  # revoked or renewed since
            _require_not_suspended(connection, caller)
            # It may have waited so long that the use of this very assertion is forgotten.
            now = int(self.now())
            self._check(claims, caller, now)
            if access.assertion_used(connection, used):
                _refuse("the assertion was used before", "sign a new one for every sign-in")
            access.forget_expired(
                connection,
                assertions=now - self.tokens.clock_skew_seconds - 1,
                tokens=now - _REMEMBER_EXPIRED,
            )
            access.use_assertion(connection, used, claims["exp"])
            then(connection, caller, now)

    def caller(self, authorization: str | None) -> Caller:
        """Return who sent this Authorization header. Raises NotAuthenticated."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            _refuse("no access token was sent", "get one from POST /v1/token")
        with self.database.read() as connection:
            found = access.find_token(connection, _sha256(token.strip()))
        if found is None:
            _refuse("unknown token", "get a new one from POST /v1/token")
        if found.expires_at <= self.now():
            _refuse("expired token", "get a new one from POST /v1/token")
        return Caller(found.name, found.study_id)

    def _check(self, claims: dict[str, Any], caller: Caller, now: int) -> None:
        skew = self.tokens.clock_skew_seconds
        exp, iat, jti = (claims.get(name) for name in ("exp", "iat", "jti"))
        not_before = claims.get("nbf", iat)
        if claims.get("iss") != claims.get("sub") or claims.get("iss") != caller.actor:
            _refuse("iss and sub of the assertion differ", "both name the caller")
        if claims.get("aud") != self.server.audience:
            _refuse(
                "the assertion is meant for another broker", f"its aud is {self.server.audience!r}"
            )
        if type(exp) is not int or type(iat) is not int:
            _refuse("the assertion lacks exp or iat", "both are Unix seconds, whole numbers")
        if exp <= now - skew:
            _refuse("expired assertion", "sign a new one; set this machine's clock")
        if exp > now + self.tokens.assertion_seconds + skew:
            _refuse(
                "the assertion lives too long",
                f"exp at most {self.tokens.assertion_seconds} seconds ahead",
            )
        if type(not_before) is not int:
            _refuse("nbf of the assertion is no time", "leave it out, or write whole Unix seconds")
        if max(iat, not_before) > now + skew:
            _refuse("the assertion comes from the future", "set this machine's clock")
        # Half a character (a lone surrogate) is text to JSON, and to no hash.
        if not isinstance(jti, str) or not 8 <= len(jti) <= 200 or not jti.isprintable():
            _refuse("the assertion lacks a jti", "a fresh random text of 8 to 200 characters")


def _claimed_caller(assertion: str) -> Caller:
    """Return whom the assertion names, before anything of it is believed."""
    if len(assertion) > _MAX_ASSERTION:
        _refuse("the assertion is too long", f"at most {_MAX_ASSERTION} characters")
    try:
        claims = json.loads(jws.extract_compact(assertion.encode()).payload)
    except (JoseError, ValueError, binascii.Error, RecursionError):
        _refuse("the assertion is no signed JWT", "sign it with Ed25519, compact form")
    named = _NAME.fullmatch(str(claims.get("iss"))) if isinstance(claims, dict) else None
    if not named:
        _refuse("iss names no caller", 'use "<study id>/<party>" or "admin/<name>"')
    study_id, name = named.groups()
    return Caller(name, None if study_id == ADMIN else study_id)


@cache
def _nobody() -> PublicIdentity:
    return Identity.generate("nobody", kem="X25519").public()


def _key_of(connection: Connection, caller: Caller) -> PublicIdentity | None:
    """Return the caller's registered keys; None for who has none."""
    if caller.study_id is None:
        row = access.find_admin(connection, caller.name)
        if row and row.revoked_at is None:
            return PublicIdentity.model_validate_json(row.public_identity)
    else:
        study = studies.find_study(connection, caller.study_id)
        registered = RegisteredStudy.of(study) if study else None
        if registered and caller.name in registered.config.actors:
            return registered.pin(caller.name)
    return None


def _require_not_suspended(connection: Connection, caller: Caller) -> None:
    if caller.study_id is None:
        return
    found = access.find_suspension(connection, caller.study_id, caller.name)
    if found is not None:
        day = dt.datetime.fromtimestamp(found.since, dt.UTC).date()
        _refuse(
            f"the broker's admin has suspended the access of {caller.actor!r} since {day}:"
            f" {found.reason}",
            "call the broker's admin; if the key was stolen, the custodian signs the next epoch"
            " with a new one",
        )


def _verified(assertion: str, identity: PublicIdentity) -> dict[str, Any]:
    raw = base64.b64decode(identity.signing)
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
    try:
        return dict(jwt.decode(assertion, key, algorithms=["Ed25519"]).claims)
    except BadSignatureError:
        _unknown()
    except (JoseError, ValueError):
        _refuse("the assertion is not signed with Ed25519", "name the algorithm Ed25519")


def _unknown() -> NoReturn:
    _refuse(
        "unknown caller, or the signature is not that of its registered key",
        "check the study's id and party, which identity file signs, and with the broker's admin"
        " that this study is registered; an admin is added with `linkage-broker admin add`",
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse(message: str, hint: str) -> NoReturn:
    raise NotAuthenticated(message, hint=hint)
