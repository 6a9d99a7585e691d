"""
A small OpenID Connect provider on loopback, over HTTP: discovery, keys, authorize, token, user
information. It checks PKCE, the client's secret and the redirect address, as a real one does; tests
spoil what it signs.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

CLIENT, SECRET = "linkage-broker", "a-client-secret-of-tests"


@dataclass(slots=True)
class TestProvider:
    """
    claims: of the person who signs in next. spoil: changes header and claims of the next ID tokens.
    signer: signs them; published: which keys it shows. base: the path of the issuer, as providers
    have that serve more than one. discovery, key_fields, more_keys: what else its documents say.
    answer: what else it sends back with a code, "" for what it does not; access_token: what it
    gives with the ID token. by_body: takes the client's secret in the body, not in a header.
    """

    __test__ = False

    host: str = ""
    base: str = ""
    discovery: dict[str, Any] = field(default_factory=dict)
    key_fields: dict[str, Any] = field(default_factory=dict)
    more_keys: list[dict[str, Any]] = field(default_factory=list)
    answer: dict[str, str] = field(default_factory=dict)
    access_token: str = "at"
    by_body: bool = False
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "7"})
    spoil: Callable[[dict[str, Any], dict[str, Any]], None] = lambda header, claims: None
    signer: RSAKey | ECKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k1"}))
    published: list[RSAKey | ECKey] = field(default_factory=list)
    userinfo: dict[str, Any] = field(default_factory=dict)
    raw_token: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked_for_keys: int = 0

    @property
    def url(self) -> str:
        """The issuer."""
        return self.host + self.base

    def id_token(self, nonce: str) -> str:
        """Sign an ID token as it is wanted now."""
        if self.raw_token:
            return self.raw_token
        now = int(time.time())
        header: dict[str, Any] = {"alg": "RS256", "kid": self.signer.kid}
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
        } | self.claims
        self.spoil(header, claims)
        return jwt.encode(header, claims, self.signer, algorithms=["RS256", "ES256"])


@contextmanager
def provider() -> Iterator[TestProvider]:
    """Run a provider for the time of the context."""
    made = TestProvider()
    made.published = [made.signer]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix(made.base)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if path == "/.well-known/openid-configuration":
                self._json(
                    {
                        "issuer": made.url,
                        "authorization_endpoint": f"{made.url}/authorize",
                        "token_endpoint": f"{made.url}/token",
                        "jwks_uri": f"{made.url}/keys",
                        "userinfo_endpoint": f"{made.url}/me",
                    }
                    | made.discovery
                )
            elif path == "/keys":
                made.asked_for_keys += 1
                shown = KeySet(list(made.published)).as_dict(private=False)
                keys = [dict(key) | made.key_fields for key in shown["keys"]]
                self._json({"keys": [*made.more_keys, *keys]})
            elif path == "/me":
                self._json(made.userinfo)
            elif path == "/authorize":
                assert query["client_id"] == CLIENT
                assert query["response_type"] == "code"
                assert query["code_challenge_method"] == "S256"
                code = secrets.token_urlsafe(16)
                made.codes[code] = query
                told = {"code": code, "state": query["state"], "iss": made.url} | made.answer
                back = urlencode({name: value for name, value in told.items() if value})
                self.send_response(302)
                self.send_header("location", f"{query['redirect_uri']}?{back}")
                self.end_headers()
            else:
                self._json({"error": "not_found"}, 404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            asked = made.codes.pop(form.get("code", ""), None)
            basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            header = None if made.by_body else f"Basic {basic}"
            sound = (
                asked is not None
                and self.headers.get("authorization") == header
                and (form.get("client_secret") == SECRET) == made.by_body
                and form.get("redirect_uri") == asked["redirect_uri"]
                and create_s256_code_challenge(form.get("code_verifier", ""))
                == asked["code_challenge"]
            )
            if not sound or asked is None:
                self._json({"error": "invalid_grant"}, 400)
                return
            token = made.id_token(asked["nonce"])
            given = {"access_token": made.access_token, "token_type": "Bearer"}
            self._json(given | {"id_token": token})

        def _json(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.host = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
