"""
Before a request is one: connections that never make one, and framing that two programs read alike
only by luck.

The server library waits without end for the rest of a request's head, and for a body that it will
throw away; some hundred of such connections, which cost an attacker nothing (slowloris), would keep
everybody else out. And it takes `Transfer-Encoding` beside `Content-Length`, as RFC 9112, 6.1
allows, where a proxy in front might go by the other: then one request's body is the next request
(smuggling). Remaining weakness: who sends whole requests may hold as many connections as the
system's limit of open files allows; a proxy in front counts them by address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import h11
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
"""For the whole head of a request, and for what is still sent of a body that was refused."""
HEAD_BYTES = 32 * 1024
"""Of the head of a request that comes in pieces; ours have about 1 KiB."""
_ONCE = frozenset({b"authorization", b"content-type", b"cookie", b"idempotency-key"})
"""Headers that say who calls or how a body is read: two of a kind may be read differently."""


class Patient(H11Protocol):
    """uvicorn's HTTP/1.1, with an end to waiting."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE:
            self._wait()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE and not self._is_answered():
            self._stop()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._wait()

    def _is_answered(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


def require_plain(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises HTTPException, and ends the connection, for a request that can be read two ways."""
    names = [name.lower() for name, _ in headers]
    twice = any(names.count(name) > 1 for name in _ONCE)
    if twice or {b"transfer-encoding", b"content-length"} <= set(names):
        raise HTTPException(400, headers={"connection": "close"})
