"""
The outermost layer: byte caps on bodies, an id, a log line and a count for each request, and no
error gets past it.

A plain ASGI middleware, because it must see the body before anything has read it. The framework
reads and parses a JSON body before it asks who is calling; so a body that grows beyond a few
kilobytes has its token checked here, at that moment, and costs a stranger no more than that. Nor
may a body take for ever: a stranger's has to be there soon, anybody's to go on. An answer may take
as long as its reader needs, over however bad a line, if it goes on being read.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker import metrics, problems
from broker.wire import require_plain
from linkage.audit_chain import HEADER
from linkage.errors import LinkageError, TooLarge, TooSlow

REQUEST_ID = "Linkage-Request-Id"
"""Of every answer: 16 hex digits, drawn here, under which the log has this request."""
HEAD = "audit_head"
"""Under this name `request.state` holds the signed head that the answer carries."""

_STRANGER_BYTES = 16_384
"""What anybody may send: a token request with the longest assertion fits."""
STRANGER_SECONDS, SILENT_SECONDS = 30.0, 60.0
"""For the whole of a stranger's body, and between two pieces of anybody's, body or answer."""
_PIECE_BYTES = 64 * 1024
"""Of an answer: what the worst line takes in SILENT_SECONDS."""
_KIB = 1024
CAPS: Mapping[str, int | None] = {
    "/v1/token": _STRANGER_BYTES,
    "/v1/studies": None,
    "/admin/studies": None,
    "/v1/deactivations": 64 * _KIB,
    "/datasets": None,
    "/questions": _KIB * _KIB,
    "/approvals": 64 * _KIB,
    # 64 KiB of text, of which JSON may escape each byte.
    "/proposals": 512 * _KIB,
    # The same, as a form spells it.
    "/questions/new": 256 * _KIB,
}
"""Caps of JSON bodies by the end of the path; None: the broker's `json_bytes`."""
_OTHER_BYTES = 64 * _KIB
_log = structlog.get_logger("linkage.broker")


@dataclass(slots=True)
class _Exchange:
    """
    One request as it goes. cap: None for a raw body. whole: all of the body has come. refusal: why
    the body was not read on, or the answer not sent on.
    """

    cap: int | None
    size: int = 0
    known: bool = False
    whole: bool = False
    refusal: LinkageError | None = None
    status: int = 0
    started: float = field(default_factory=time.perf_counter)
    # Drawn here: an id that a caller chose would be a caller's text in the log.
    request_id: str = field(default_factory=lambda: secrets.token_hex(8))


class _CutShort(Exception):
    """An answer broke off in the middle; the server closes the connection."""


class Outermost:
    """
    json_bytes: the largest cap of a JSON body; raw bodies are capped by their routes, after they
    know the caller. known: raises NotAuthenticated unless these headers are a caller's. headers:
    what every answer says, unless it says otherwise itself. shown: a refusal as who asked reads it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        json_bytes: int,
        known: Callable[[Headers], object],
        headers: Sequence[tuple[str, str]] = (),
        shown: Callable[[Request, JSONResponse], Response] = lambda _, answer: answer,
    ) -> None:
        self._app, self._json_bytes, self._known = app, json_bytes, known
        self._headers, self._shown = headers, shown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its bytes and its time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(None if scope["method"] == "PUT" else self._cap_of(scope["path"]))
        structlog.contextvars.bind_contextvars(request=exchange.request_id)
        incoming = self._counting(exchange, scope, receive)
        outgoing = _noting(exchange, scope, send, self._headers)
        try:
            require_plain(scope["headers"])
            await self._app(scope, incoming, outgoing)
        except HTTPException as error:
            await self._told(scope, problems.of_http(error))(scope, receive, outgoing)
        except Exception as error:
            if exchange.refusal is None:
                answer = problems.of_unknown(error)
                if exchange.status:
                    _note_request(scope, exchange)
                    raise _CutShort from None
                await self._told(scope, answer)(scope, receive, outgoing)
        if exchange.refusal is not None and not exchange.status:
            answer = problems.of_error(exchange.refusal)
            exchange.refusal = None
            await self._told(scope, answer)(scope, receive, outgoing)
        _note_request(scope, exchange)

    def _told(self, scope: Scope, answer: JSONResponse) -> Response:
        return self._shown(Request(scope), answer)

    def _cap_of(self, path: str) -> int:
        found = next((cap for end, cap in CAPS.items() if path.endswith(end)), _OTHER_BYTES)
        return self._json_bytes if found is None else min(found, self._json_bytes)

    def _counting(self, exchange: _Exchange, scope: Scope, receive: Receive) -> Receive:
        async def counted() -> Message:
            # What streams an answer waits here for the caller to hang up, until it is sent.
            if exchange.whole:
                return await receive()
            try:
                message = await _in_time(exchange, receive)
                exchange.whole = not message.get("more_body", False)
                exchange.size += len(message.get("body", b""))
                cap = exchange.cap
                if cap is None:
                    return message
                if exchange.size > cap:
                    raise TooLarge(
                        f"the body is larger than {cap} bytes", hint="send less at a time"
                    )
                if exchange.size > _STRANGER_BYTES and not exchange.known:
                    await run_in_threadpool(self._known, Headers(scope=scope))
                    exchange.known = True
            except LinkageError as refusal:
                exchange.refusal = refusal
                raise
            return message

        return counted


async def _in_time(exchange: _Exchange, receive: Receive) -> Message:
    # The route of a raw body asks who calls before it reads.
    stranger = exchange.cap is not None and not exchange.known
    left = exchange.started + STRANGER_SECONDS - time.perf_counter()
    with anyio.move_on_after(left if stranger else SILENT_SECONDS):
        return await receive()
    raise TooSlow("the body did not come in time", hint="send it again, over a better line")


def _noting(
    exchange: _Exchange, scope: Scope, send: Send, headers: Sequence[tuple[str, str]]
) -> Send:
    async def noted(message: Message) -> None:
        # The framework takes the cap's error for bad JSON; its answer gives way to ours.
        if exchange.refusal is not None:
            return
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = exchange.request_id
            said = MutableHeaders(scope=message)
            for name, value in headers:
                said.setdefault(name, value)
            if head := scope.get("state", {}).get(HEAD):
                said[HEADER] = head
        try:
            await _taken(message, send)
        except TooSlow as refusal:
            exchange.refusal = refusal
            raise

    return noted


async def _taken(message: Message, send: Send) -> None:
    """
    Send. Raises TooSlow where nothing of it is read for a while: a package would stay open, and
    its pieces in memory, for whoever stops reading. Remaining weakness: the connection stays.
    """
    body = message.get("body", b"")
    for at in range(0, len(body) or 1, _PIECE_BYTES):
        piece, end = message, at + _PIECE_BYTES
        if len(body) > _PIECE_BYTES:
            more = end < len(body) or message.get("more_body", False)
            piece = {**message, "body": body[at:end], "more_body": more}
        with anyio.move_on_after(SILENT_SECONDS) as waiting:
            await send(piece)
        if waiting.cancelled_caught:
            raise TooSlow("the answer was not read in time", hint="ask again, and read it")


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _note_request(scope: Scope, exchange: _Exchange) -> None:
    # A method is the caller's text as well: any name would be a line of the log and a metric.
    method = scope["method"] if scope["method"] in _METHODS else "other"
    seconds = time.perf_counter() - exchange.started
    # The route's template, not the path: ids and query values stay out of log and metrics.
    route = getattr(scope.get("route"), "path", "none")
    metrics.answered(method, route, exchange.status, seconds, exchange.size)
    # An answer that broke off has its status nevertheless.
    cut = {"cut": exchange.refusal.message} if exchange.refusal else {}
    _log.info(
        "request",
        method=method,
        route=route,
        status=exchange.status,
        milliseconds=round(seconds * 1000, 1),
        **cut,
    )
