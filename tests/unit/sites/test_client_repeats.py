"""A client repeats what was lost or refused for the moment, and its POSTs under one key."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from linkage.errors import Unreachable
from linkage.messages import DatasetState, Manifest, Part, Token
from linkage.sealing import Identity
from sites.client import BrokerClient

STATE = DatasetState(study_id="small-study", uploader="alpha", dataset=1, state="complete")
ALPHA = Identity.generate("alpha", kem="X25519")


class Flaky(ThreadingHTTPServer):
    """A server that does what `plan` says with each request: 503, "drop", or 200."""

    def __init__(self, plan: list[object]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan, self.keys, self.signed_in = plan, list[str](), 0


class _Handler(BaseHTTPRequestHandler):
    server: Flaky

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/token":
            self.server.signed_in += 1
            assert "Idempotency-Key" not in self.headers
            self._answer(200, Token(access_token="x", expires_in=900).model_dump_json())
            return
        self.server.keys.append(self.headers["Idempotency-Key"])
        step = self.server.plan.pop(0)
        if step == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self._answer(200 if step == 200 else 503, STATE.model_dump_json())

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def flaky(*plan: object) -> Iterator[Flaky]:
    with Flaky(list(plan)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def manifest() -> Manifest:
    return Manifest(
        study_id="small-study",
        study_hash="0" * 64,
        schema_hash="0" * 64,
        party="alpha",
        dataset=1,
        epoch=1,
        normalisation="2",
        key_check="0" * 32,
        software="1",
        records=5,
        groups=5,
        densities={},
        null_reasons={},
        collisions={},
        parts=(Part(number=1, size=1, records=5, digest="0" * 64),),
    )


def client(server: Flaky) -> BrokerClient:
    url = f"http://127.0.0.1:{server.server_port}"
    return BrokerClient(url, "small-study/alpha", ALPHA, audience="a")


def test_a_post_is_repeated_under_one_key_until_it_is_answered() -> None:
    with flaky(503, "drop", 200, 200) as server, client(server) as broker:
        assert broker.complete_dataset(manifest()) == STATE
        assert len(server.keys) == 3
        assert len(set(server.keys)) == 1
        assert len(server.keys[0]) == 32
        # The next request is another one.
        broker.complete_dataset(manifest())
        assert len(set(server.keys)) == 2
        assert server.signed_in == 1


def test_it_gives_up_after_a_bounded_number_of_tries() -> None:
    with flaky(*["drop"] * 6) as server, client(server) as broker:
        with pytest.raises(Unreachable, match="does not answer"):
            broker.complete_dataset(manifest())
        assert server.plan == []
