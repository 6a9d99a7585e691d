"""
What browsers are told and asked: the session's cookie, headers of every answer, and where a request
comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response

from broker.config import Home
from linkage.errors import NotAllowed

CSRF = "linkage-csrf"
"""The header with a session's CSRF token."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
AWAY_SECONDS = 600
"""How long somebody may take to sign in at an identity provider."""


@dataclass(frozen=True, slots=True)
class Browsers:
    """by_tls: do they speak TLS with this broker? origin: as they see it; "": their Host header."""

    by_tls: bool
    origin: str

    @classmethod
    def of(cls, home: Home) -> Browsers:
        """As the home's settings say."""
        return cls(home.by_tls, home.config.accounts.origin)

    @property
    def cookie(self) -> str:
        """The session's cookie. `__Host-`: a browser takes it from this very host only, by TLS."""
        return "__Host-linkage" if self.by_tls else "linkage-session"

    @property
    def away_cookie(self) -> str:
        """The cookie of somebody who is signing in at an identity provider."""
        return "__Host-linkage-away" if self.by_tls else "linkage-away"

    def sent(self, headers: Headers, name: str) -> str | None:
        """Return a cookie of a request."""
        return cookie_parser(headers.get("cookie", "")).get(name) or None

    def keep(self, answer: Response, value: str) -> None:
        """Have the browser keep a session until it is closed."""
        answer.set_cookie(
            self.cookie, value, path="/", secure=self.by_tls, httponly=True, samesite="strict"
        )

    def keep_away(self, answer: Response, value: str) -> None:
        """Have it keep what is checked on the way back; Strict would keep it from coming along."""
        answer.set_cookie(
            self.away_cookie,
            value,
            max_age=AWAY_SECONDS,
            path="/",
            secure=self.by_tls,
            httponly=True,
            samesite="lax",
        )

    def forget(self, answer: Response, name: str) -> None:
        """Have it forget a cookie."""
        answer.delete_cookie(name, path="/", secure=self.by_tls, httponly=True)

    def require_own(self, headers: Headers) -> None:
        """Raises NotAllowed for a request that a browser sent for another site."""
        said = headers.get("origin")
        if said is None:
            foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        elif self.origin:
            foreign = said != self.origin
        else:
            # "null", and what is no address, is nobody's own.
            foreign = said.partition("://")[2] != headers.get("host", "")
        if foreign:
            raise NotAllowed(
                "the request comes from another web site",
                hint="sign in at the broker's own address; the admin sets origin in [accounts]",
            )

    def headers(self) -> Iterator[tuple[str, str]]:
        """Yield what every answer says, unless it says otherwise itself."""
        yield (
            "content-security-policy",
            ("default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
        )
        yield "x-content-type-options", "nosniff"
        yield "x-frame-options", "DENY"
        yield "referrer-policy", "no-referrer"
        yield "cache-control", "no-store"
        yield "cross-origin-resource-policy", "same-origin"
        if self.by_tls:
            yield "strict-transport-security", "max-age=31536000"
