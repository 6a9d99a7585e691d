"""
The outermost layer: byte caps on bodies, one log line a request, and no error gets past it.

A plain ASGI middleware, because it must see the body before anything has read it.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker import problems
from linkage.errors import TooLarge

_TOKEN_BYTES = 16_384
_log = structlog.get_logger("linkage.broker")


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
        seen: dict[str, int] = {}

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            await send(message)

        try:
            await self._app(scope, self._capped(scope, receive), noting)
        except Exception as error:
            known = isinstance(error, TooLarge)
            answer = problems.of_error(error) if known else problems.of_unknown(error)  # type: ignore[arg-type]
            if "status" not in seen:
                await answer(scope, receive, noting)
        _log_request(scope, seen.get("status", 0), time.perf_counter() - started)

    def _capped(self, scope: Scope, receive: Receive) -> Receive:
        if scope["method"] == "PUT":
            return receive
        cap = _TOKEN_BYTES if scope["path"] == "/v1/token" else self._json_bytes
        size = 0

        async def counting() -> Message:
            nonlocal size
            message: MutableMapping[str, Any] = await receive()
            size += len(message.get("body", b""))
            if size > cap:
                raise TooLarge(f"the body is larger than {cap} bytes", hint="send less at a time")
            return message

        return counting


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
