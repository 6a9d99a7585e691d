"""Who is calling, by an access token or by a session's cookie; never by both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.datastructures import Headers

from broker.auth import SignIn
from broker.browsers import CSRF, READING, Browsers
from broker.policy import Caller
from broker.rate import Attempts
from broker.services.accounts import Accounts
from broker.sessions import Sessions
from linkage.account_messages import AccountReady, PasswordChange, PasswordSignIn, Proof
from linkage.errors import NotAuthenticated
from linkage.messages import Token, TokenRequest

T = TypeVar("T")
FRESH_SECONDS = 300
"""So new must be a session of an identity provider's person for what is asked to be proved."""


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """Every way in."""

    sign_in: SignIn
    sessions: Sessions
    accounts: Accounts
    attempts: Attempts
    browsers: Browsers

    def token(self, request: TokenRequest, *, address: str) -> Token:
        """Return an access token. Raises NotAuthenticated, TooManyRequests."""
        return self.counted(address, lambda: self.sign_in.token(request))

    def counted(self, address: str, attempt: Callable[[], T]) -> T:
        """Make an attempt, if the address has one left. Raises TooManyRequests."""
        self.attempts.require(address)
        try:
            return attempt()
        except NotAuthenticated:
            self.attempts.failed(address)
            raise

    def session(self, headers: Headers, method: str) -> str:
        """Return the cookie of a request's session, which is valid. Raises like `caller`."""
        cookie = self.browsers.sent(headers, self.browsers.cookie)
        if cookie is None:
            raise NotAuthenticated("nobody is signed in", hint="sign in: POST /v1/session")
        self.caller(headers, method)
        return cookie

    def change_password(self, cookie: str, asked: PasswordChange, *, address: str) -> AccountReady:
        """
        Change the password of who is signed in, and proves it once more. Every session ends, this
        one too. Raises NotAuthenticated, TooManyRequests; KeyRefused for the new password.
        """
        name = self.sessions.state(cookie).name
        # Before a code is used up for a password that is refused.
        self.accounts.require_sound(name, asked.new_password)
        proof = PasswordSignIn(name=name, password=asked.password, code=asked.code)
        self.sessions.sign_in(proof, address=address, cookie=cookie)
        return self.accounts.renew(name, asked.new_password)

    def prove(self, headers: Headers, caller: Caller, proof: Proof, *, address: str) -> None:
        """
        Have a caller prove anew who it is, for what a stolen cookie or token must not do: a person
        with password and code, a key with a fresh assertion, good once. Whom an identity provider
        sends has to have come from there just now. Remaining weakness: whether the provider then
        asked for anything is its own affair. Raises NotAuthenticated, TooManyRequests.
        """
        if not caller.person:
            self.counted(address, lambda: self.sign_in.prove(caller, proof.assertion))
        elif self.sessions.is_local(caller.name):
            asked = PasswordSignIn(name=caller.name, password=proof.password, code=proof.code)
            self.sessions.prove(asked, address=address)
        else:
            cookie = self.browsers.sent(headers, self.browsers.cookie) or ""
            # A clock that was put back makes no old session a new one.
            if not 0 <= self.sessions.age(cookie) <= FRESH_SECONDS:
                raise NotAuthenticated(
                    "this needs a session that was begun in the last five minutes",
                    hint="sign in again at the identity provider: GET /v1/session/provider",
                )

    def caller(self, headers: Headers, method: str = "GET") -> Caller:
        """
        Return who sent a request. Raises NotAuthenticated, also where a session's request changes
        something and lacks the CSRF token; NotAllowed where another web site sent it.
        """
        authorization = headers.get("authorization")
        cookie = self.browsers.sent(headers, self.browsers.cookie)
        if cookie is None:
            return self.sign_in.caller(authorization)
        if authorization is not None:
            raise NotAuthenticated(
                "both a session and an Authorization header were sent", hint="send one of them"
            )
        if method in READING:
            return self.sessions.caller(cookie, csrf=None)
        self.browsers.require_own(headers)
        return self.sessions.caller(cookie, csrf=headers.get(CSRF, ""))
