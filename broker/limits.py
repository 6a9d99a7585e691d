"""
The outermost layer: byte caps on bodies, one log line a request, and no error gets past it.

A plain ASGI middleware, because it must see the body before anything has read it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker import problems
from linkage.errors import TooLarge

_TOKEN_BYTES = 16_384
_log = structlog.get_logger("linkage.broker")


@dataclass(slots=True)
class _Exchange:
    """One request as it goes: bytes that came, whether they were too many, the answer's status."""

    cap: int | None
    size: int = 0
    too_large: bool = False
    status: int = 0


class _CutShort(Exception):
    """An answer broke off in the middle; the server closes the connection."""


class Outermost:
    """
    json_bytes: cap of a body, except of raw bodies, which their routes cap by what they expect.
    """

    def __init__(self, app: ASGIApp, *, json_bytes: int) -> None:
        self._app, self._json_bytes = app, json_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its bytes and its time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = _Exchange(self._cap_of(scope))
        incoming, outgoing = _counting(exchange, receive), _noting(exchange, send)
        try:
            await self._app(scope, incoming, outgoing)
        except Exception as error:
            if not exchange.too_large:
                answer = problems.of_unknown(error)
                if exchange.status:
                    raise _CutShort from None
                await answer(scope, receive, outgoing)
        if exchange.too_large and not exchange.status:
            refusal = TooLarge(
                f"the body is larger than {exchange.cap} bytes", hint="send less at a time"
            )
            exchange.too_large = False
            await problems.of_error(refusal)(scope, receive, outgoing)
        _log_request(scope, exchange.status, time.perf_counter() - started)

    def _cap_of(self, scope: Scope) -> int | None:
        if scope["method"] == "PUT":
            return None
        return _TOKEN_BYTES if scope["path"] == "/v1/token" else self._json_bytes


def _counting(exchange: _Exchange, receive: Receive) -> Receive:
    async def counted() -> Message:
        message = await receive()
        exchange.size += len(message.get("body", b""))
        if exchange.cap is not None and exchange.size > exchange.cap:
            exchange.too_large = True
            raise TooLarge("the body is too large")
        return message

    return counted


def _noting(exchange: _Exchange, send: Send) -> Send:
    async def noted(message: Message) -> None:
        # The framework takes the cap's error for bad JSON; its answer gives way to ours.
        if exchange.too_large:
            return
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
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
