"""An attacker at the socket: framing that can be read two ways, and requests that never end."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from broker import limits, wire
from tests.broker_world import PATIENCE, World, make_world, running

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("wire")), worker=False) as made:
        yield made


@pytest.fixture(scope="module")
def token(world: World) -> bytes:
    answer = world.actor("imaging").sign_in().raise_for_status()
    return str(answer.json()["access_token"]).encode()


def said(url: str, data: bytes, seconds: float = 10) -> bytes:
    """Send bytes on a connection of their own; return all that comes until it is closed."""
    place = urlsplit(url)
    heard = b""
    with socket.create_connection((place.hostname, place.port), timeout=seconds) as caller:
        caller.sendall(data)
        while more := caller.recv(65_536):
            heard += more
    return heard


def statuses(heard: bytes) -> list[int]:
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d+)", heard)]


ONE = b"POST %b/heads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
AMBIGUOUS = {
    "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 4\r\nContent-Length: 0\r\n\r\nabcd",
    "signed length": b"Content-Length: +4\r\n\r\nabcd",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "huge length": b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "no chunk size": b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "chunk too long": b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdeX\r\n0\r\n\r\n",
    "two hosts": b"Host: y\r\n\r\n",
    "two tokens": b"Authorization: Bearer x\r\n\r\n",
    "two kinds of body": b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n",
    "two keys": b"Idempotency-Key: 12345678\r\nIdempotency-Key: 12345679\r\n\r\n",
    "a null": b"X: a\0b\r\n\r\n",
}


@pytest.mark.parametrize("rest", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_what_can_be_read_two_ways_is_refused_and_ends_the_connection(
    world: World, token: bytes, rest: bytes
) -> None:
    """A request hidden in another's body is never answered."""
    heard = said(world.url, ONE % (world.path.encode(), token) + rest + HEALTH)
    assert statuses(heard) == [400]
    assert b"database" not in heard


@pytest.mark.parametrize(
    "data",
    [
        b"GET /health\r\n\r\n",
        b"GE\tT /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        b"A" * 100_000,
    ],
)
def test_what_is_no_http_is_refused(world: World, data: bytes) -> None:
    assert statuses(said(world.url, data)) == [400]
    assert statuses(said(world.url, HEALTH)) == [200]


def test_a_head_without_end_is_cut_off(world: World) -> None:
    """In pieces, as over a network; a few large headers do no harm."""
    pieces = [b"X: " + b"a" * 4000 + b"\r\n"] * (2 + wire.HEAD_BYTES // 4000)
    place = urlsplit(world.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as caller:
        heard = b""
        with suppress(ConnectionResetError, BrokenPipeError):
            for piece in (b"GET /health HTTP/1.1\r\nHost: x\r\n", *pieces):
                caller.sendall(piece)
        with suppress(ConnectionResetError):  # what was sent after the answer is not read
            while more := caller.recv(65_536):
                heard += more
    assert statuses(heard) == [400]


def test_no_other_protocol_is_spoken(world: World) -> None:
    ask = b"Connection: Upgrade, close\r\nUpgrade: %b\r\n"
    ask += b"Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
    for protocol in (b"websocket", b"h2c"):
        heard = said(world.url, b"GET /health HTTP/1.1\r\nHost: x\r\n" + ask % protocol + b"\r\n")
        assert statuses(heard) == [200]
    assert statuses(said(world.url, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + HEALTH))[0] == 404


@pytest.mark.parametrize("authorization", [b"", b"Authorization: Bearer x\r\n"])
def test_who_sends_a_part_in_vain_hears_why(world: World, authorization: bytes) -> None:
    """A whole part on the way when the token expires: no broken connection, but 401."""
    part = b"x" * (8 << 20)
    head = b"PUT %b/datasets/imaging/1/parts/1 HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n"
    heard = said(world.url, head % (world.path.encode(), authorization, len(part)) + part + HEALTH)
    assert statuses(heard) == [401, 200]


def test_who_waits_for_leave_to_send_is_refused_unsent(world: World, token: bytes) -> None:
    head = b"PUT %b/datasets/imaging/1/parts/1 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    rest = b"Authorization: Bearer %b\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n"
    assert statuses(said(world.url, head % world.path.encode() + rest % token)) == [404]


# Time, at a server of its own with shorter times; a busy machine may still stop for a second.
HEAD, STRANGER, SILENT = 2.0, 4.0, 2.0


LARGE = 16 << 20
ended = threading.Event()
"""A streamed answer is over."""


async def slow() -> AsyncIterator[bytes]:
    for _ in range(int(STRANGER * 1.5 / (SILENT / 8))):
        yield b"x"
        await asyncio.sleep(SILENT / 8)


async def large() -> AsyncIterator[bytes]:
    yield bytes(LARGE)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(1 << 20)


STREAMS = {"/slow": slow, "/large": large, "/endless": endless}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """
    Read the whole body, or with the path /refuse nothing of it, and say how long it was; or stream
    an answer.
    """
    if stream := STREAMS.get(scope["path"]):
        try:
            await StreamingResponse(stream())(scope, receive, send)
        finally:
            ended.set()
        return
    size, more, refuse = 0, True, scope["path"] == "/refuse"
    while more and not refuse:
        message = await receive()
        size += len(message["body"])
        more = message.get("more_body", False)
    status = 404 if refuse else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(wire, "HEAD_SECONDS", HEAD)
    monkeypatch.setattr(limits, "STRANGER_SECONDS", STRANGER)
    monkeypatch.setattr(limits, "SILENT_SECONDS", SILENT)
    app = limits.Outermost(echo, json_bytes=100_000, known=lambda headers: None)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=wire.Patient,
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=1,
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def test_nobody_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as url:
        body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc"
        raw = body.replace(b"POST", b"PUT")
        for data, expected in (
            (b"", []),
            (b"GET / HTT", []),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTT", [200]),
            (body, [408]),
            (raw, [408]),
            (raw.replace(b"/ ", b"/refuse "), [404]),
        ):
            # It is the server that ends it: `said` raises where nothing comes for a minute.
            assert statuses(said(url, data, 60)) == expected, data
        heard = said(url, raw, 60)
        assert b"too-slow" in heard
        assert statuses(said(url, HEALTH)) == [200]


def test_a_strangers_body_may_not_trickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes soon enough, the whole does not; a raw body may take its time."""
    with serving(monkeypatch) as url:

        def trickle(count: int) -> Iterator[bytes]:
            for _ in range(count):
                time.sleep(SILENT / 8)
                yield b"x"

        longer = int(STRANGER / (SILENT / 8)) + 2
        assert httpx.put(url, content=trickle(longer), timeout=60).text == str(longer)
        assert httpx.post(url, content=trickle(3), timeout=60).text == "3"
        with pytest.raises(httpx.HTTPError):
            httpx.post(url, content=trickle(3 * longer), timeout=60).raise_for_status()


def test_an_answer_may_take_longer_than_any_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow store and a slow line, each beyond both limits."""
    with serving(monkeypatch) as url:
        started = time.monotonic()
        assert set(httpx.get(f"{url}/slow", timeout=60).content) == {ord("x")}
        assert time.monotonic() - started > STRANGER
        came, started = 0, time.monotonic()
        with reading(url, b"/large") as caller:
            while data := caller.recv(65_536):
                came += len(data)
                time.sleep(0.02)
        assert time.monotonic() - started > max(STRANGER, SILENT)
        assert came > LARGE


def test_who_stops_reading_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer ends, which could go on for ever."""
    ended.clear()
    with serving(monkeypatch) as url, reading(url, b"/endless") as caller:
        assert caller.recv(10)
        assert ended.wait(PATIENCE * 60)


@contextmanager
def reading(url: str, path: bytes) -> Iterator[socket.socket]:
    """A connection that asked for a path, and of which the system holds little unread."""
    place = urlsplit(url)
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        caller.settimeout(60)
        caller.connect((place.hostname, place.port))
        caller.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
        yield caller
