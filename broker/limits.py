"""
The outermost layer: byte caps on bodies, one log line a request, and no error gets past it.

A plain ASGI middleware, because it must see the body before anything has read it. The framework
reads and parses a JSON body before it asks who is calling; so a body that grows beyond a few
kilobytes has its token checked here, at that moment, and costs a stranger no more than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker import problems
from linkage.audit_chain import HEADER
from linkage.errors import LinkageError, TooLarge

HEAD = "audit_head"
"""Under this name `request.state` holds the signed head that the answer carries."""

_STRANGER_BYTES = 16_384
"""What anybody may send: a token request with the longest assertion fits."""
_KIB = 1024
CAPS: Mapping[str, int | None] = {
    "/v1/token": _STRANGER_BYTES,
    "/v1/studies": None,
    "/v1/deactivations": 64 * _KIB,
    "/datasets": None,
    "/questions": _KIB * _KIB,
    "/approvals": 64 * _KIB,
}
"""Caps of JSON bodies by the end of the path; None: the broker's `json_bytes`."""
_OTHER_BYTES = 64 * _KIB
_log = structlog.get_logger("linkage.broker")


@dataclass(slots=True)
class _Exchange:
    """One request as it goes. cap: None for a raw body. refusal: why the body was not read on."""

    cap: int | None
    size: int = 0
    known: bool = False
    refusal: LinkageError | None = None
    status: int = 0


class _CutShort(Exception):
    """An answer broke off in the middle; the server closes the connection."""


class Outermost:
    """
    json_bytes: the largest cap of a JSON body; raw bodies are capped by their routes, after they
    know the caller. known: raises NotAuthenticated unless this Authorization header is a caller's.
    """

    def __init__(
        self, app: ASGIApp, *, json_bytes: int, known: Callable[[str | None], object]
    ) -> None:
        self._app, self._json_bytes, self._known = app, json_bytes, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its bytes and its time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = _Exchange(None if scope["method"] == "PUT" else self._cap_of(scope["path"]))
        incoming = self._counting(exchange, scope, receive)
        outgoing = _noting(exchange, scope, send)
        try:
            await self._app(scope, incoming, outgoing)
        except Exception as error:
            if exchange.refusal is None:
                answer = problems.of_unknown(error)
                if exchange.status:
                    raise _CutShort from None
                await answer(scope, receive, outgoing)
        if exchange.refusal is not None and not exchange.status:
            answer = problems.of_error(exchange.refusal)
            exchange.refusal = None
            await answer(scope, receive, outgoing)
        _log_request(scope, exchange.status, time.perf_counter() - started)

    def _cap_of(self, path: str) -> int:
        found = next((cap for end, cap in CAPS.items() if path.endswith(end)), _OTHER_BYTES)
        return self._json_bytes if found is None else min(found, self._json_bytes)

    def _counting(self, exchange: _Exchange, scope: Scope, receive: Receive) -> Receive:
        async def counted() -> Message:
            message = await receive()
            exchange.size += len(message.get("body", b""))
            cap = exchange.cap
            if cap is None:
                return message
            try:
                if exchange.size > cap:
                    raise TooLarge(
                        f"the body is larger than {cap} bytes", hint="send less at a time"
                    )
                if exchange.size > _STRANGER_BYTES and not exchange.known:
                    authorization = Headers(scope=scope).get("authorization")
                    await run_in_threadpool(self._known, authorization)
                    exchange.known = True
            except LinkageError as refusal:
                exchange.refusal = refusal
                raise
            return message

        return counted


def _noting(exchange: _Exchange, scope: Scope, send: Send) -> Send:
    async def noted(message: Message) -> None:
        # The framework takes the cap's error for bad JSON; its answer gives way to ours.
        if exchange.refusal is not None:
            return
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            if head := scope.get("state", {}).get(HEAD):
                MutableHeaders(scope=message)[HEADER] = head
        await send(message)

    return noted


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    # The route's template, not the path: ids and query values stay out of the log.
    route = scope.get("route")
    _log.info(
        "request",
        method=scope["method"],
        route=getattr(route, "path", "none"),
        status=status,
        milliseconds=round(seconds * 1000, 1),
    )
