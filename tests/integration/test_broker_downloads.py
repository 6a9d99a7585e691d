"""
Sealed objects fetched over a line that breaks: by parts, gone on with, and compared in the end with
what the broker announced.
"""

from __future__ import annotations

import os
import resource
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

from broker.store.engine import Database
from linkage.errors import PackageRefused, Unreachable
from linkage.messages import PART_BYTES, QUESTION_ANSWER, SealedItem, Token
from linkage.sealing import MOST_SEALED_BYTES, Context, Identity, seal, unseal
from sites import client, downloads
from sites.broker_answers import MOST_BYTES, at_most, client_of
from sites.client import BrokerClient
from tests.broker_world import AUDIENCE, Actor, World, make_world, packages, running
from tests.questions import question as asking

SIZE = 3 * PART_BYTES + 12_345
CUT = PART_BYTES * 3 // 2


class Line:
    """
    A line to the broker that is cut after `cut` bytes of each connection; then `away` connections
    find nobody.
    """

    def __init__(self, url: str, *, cut: int, away: int = 0) -> None:
        self._to = urlsplit(url)
        self._cut, self._away = cut, away
        self.came, self.cuts = 0, 0
        self._listens = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listens.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listens.shutdown(socket.SHUT_RDWR)
        self._listens.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listens.accept()
                if self.cuts and self._away:
                    self._away -= 1
                    caller.close()
                    continue
                threading.Thread(target=self._pass, args=(caller,), daemon=True).start()

    def _pass(self, caller: socket.socket) -> None:
        with caller, socket.create_connection((self._to.hostname, self._to.port)) as broker:
            threading.Thread(target=_copy, args=(caller, broker), daemon=True).start()
            left = self._cut
            while left and (data := broker.recv(min(left, 65_536))):
                caller.sendall(data)
                left -= len(data)
                self.came += len(data)
            self.cuts += not left
            for end in (caller, broker):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def _copy(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("downloads"))) as made:
        for package in packages(made, people=40, overlap=20).values():
            made.upload(package)
        done = made.run()
        assert done["state"] == "done", done["failure"]
        yield made


def context(world: World, subject: str) -> Context:
    return Context(world.study_id, "imaging", "enclave", QUESTION_ANSWER, (subject,))


@pytest.fixture(scope="module")
def sent(world: World) -> tuple[SealedItem, bytes]:
    """A large answer that waits for the enclave, and what it holds."""
    enclave = world.actor("enclave")
    asked = enclave.post(f"{world.path}/questions", asking(clinical={"a": 1})).raise_for_status()
    subject = asked.json()["job_id"]
    assert world.finish(f"{world.path}/jobs/{subject}")["state"] == "done"
    data = os.urandom(SIZE)
    sealed = seal(
        data,
        sender=world.identities["imaging"],
        recipient=world.signed.pin("enclave"),
        context=context(world, subject),
    )
    to = {"recipient": "enclave", "purpose": QUESTION_ANSWER, "subject": subject}
    answer = world.actor("imaging").put(f"{world.path}/outbox", sealed, **to).raise_for_status()
    return SealedItem.model_validate_json(answer.content), data


def enclave_at(world: World, url: str) -> BrokerClient:
    identity = world.identities["enclave"]
    return BrokerClient(url, f"{world.study_id}/enclave", identity, audience=AUDIENCE)


def fetched(world: World, line: Line, item: SealedItem) -> bytes:
    try:
        with enclave_at(world, line.url) as broker:
            return broker.fetch(world.study_id, item)
    finally:
        line.close()


def test_a_line_that_breaks_costs_a_part_and_not_the_whole(
    world: World, sent: tuple[SealedItem, bytes]
) -> None:
    """No connection lives long enough for all of it."""
    item, data = sent
    assert item.size > CUT
    line = Line(world.url, cut=CUT)
    sealed = fetched(world, line, item)
    opened = unseal(
        sealed,
        sender=world.signed.pin("imaging"),
        recipient=world.identities["enclave"],
        context=context(world, item.subject),
    )
    assert opened == data
    assert line.cuts >= 2
    assert line.came < item.size + (line.cuts + 1) * PART_BYTES


def test_a_line_that_is_away_for_a_while_is_waited_for(
    world: World, sent: tuple[SealedItem, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a single request is patient; but only once something came."""
    monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(downloads, "_WAITS_S", (0.1, 0.1))
    item, _ = sent
    line = Line(world.url, cut=CUT, away=2 * client._TRIES)
    assert len(fetched(world, line, item)) == item.size
    assert line._away == 0


def test_other_bytes_than_were_announced_are_no_answer(
    world: World, sent: tuple[SealedItem, bytes]
) -> None:
    """The broker verifies what it gives as a whole; of parts, whoever gets them all."""
    item, _ = sent
    database = Database(world.home.database_url())
    with database.read() as connection:
        wanted = "SELECT blob_id FROM item WHERE id = ?"
        blob_id = connection.exec_driver_sql(wanted, (item.item_id,)).scalar_one()
    database.close()
    (path,) = world.home.blobs.glob(f"*/{blob_id}")
    with path.open("r+b") as file:
        file.seek(PART_BYTES + 5)
        old = file.read(1)
        file.seek(PART_BYTES + 5)
        file.write(bytes([old[0] ^ 1]))
    try:
        with (
            enclave_at(world, world.url) as broker,
            pytest.raises(PackageRefused, match="is not what the broker announced"),
        ):
            broker.fetch(world.study_id, item)
    finally:
        with path.open("r+b") as file:
            file.seek(PART_BYTES + 5)
            file.write(old)


def part(enclave: Actor, path: str, asked: str) -> tuple[int, str, bytes]:
    answer = enclave.call("GET", path, headers={"Range": asked})
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.status_code, answer.headers.get("content-range", ""), answer.content


def test_parts_are_given_as_asked_and_else_the_whole(
    world: World, sent: tuple[SealedItem, bytes]
) -> None:
    item, _ = sent
    enclave, path, size = world.actor("enclave"), f"{world.path}/inbox/{sent[0].item_id}", item.size
    whole = enclave.get(path).raise_for_status()
    assert whole.headers["etag"] == f'"{item.digest}"'
    assert "content-range" not in whole.headers
    for asked, span in {
        "bytes=0-0": range(1),
        "bytes=0-9": range(10),
        f"bytes=5-{PART_BYTES + 4}": range(5, PART_BYTES + 5),
        f"bytes={size - 3}-{size - 1}": range(size - 3, size),
        f"bytes={size - 1}-{size + 99}": range(size - 1, size),
    }.items():
        told = f"bytes {span[0]}-{span[-1]}/{size}"
        assert part(enclave, path, asked) == (206, told, whole.content[span.start : span.stop])
    for asked in (
        f"bytes={size}-{size}",
        "bytes=9-8",
        "bytes=-5",
        "bytes=1-",
        "bytes=0-1,3-4",
        "lines=0-1",
        "",
    ):
        assert part(enclave, path, asked) == (200, "", whole.content), asked
    refused = world.actor("imaging").call("GET", path, headers={"Range": "bytes=0-9"})
    assert refused.status_code == 404


class Packed(BaseHTTPRequestHandler):
    """A broker, or what stands before it, that answers 2 GB of zeros in 2 MB."""

    protocol_version = "HTTP/1.1"
    zeros = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(Token(access_token="any", expires_in=900).to_json(), {})

    def do_GET(self) -> None:
        self._answer(self.zeros, {"content-encoding": "gzip"})

    def _answer(self, body: bytes, more: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**more, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def asked_of(kind: type[Packed]) -> Iterator[BrokerClient]:
    """Yield a site's client of such a broker."""
    served = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{served.server_port}"
    try:
        with BrokerClient(url, "a/enclave", Identity.generate("e"), audience=AUDIENCE) as broker:
            yield broker
    finally:
        served.shutdown()
        served.server_close()


def test_a_compressed_answer_is_not_unpacked() -> None:
    """Unpacked, it took 4 GB of the site's memory before its digest was compared."""
    packer, zeros = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(1 << 20)
    Packed.zeros = b"".join(packer.compress(zeros) for _ in range(2000)) + packer.flush()
    before = peak_bytes()
    with (
        asked_of(Packed) as broker,
        pytest.raises(Unreachable, match="compressed answer"),
    ):
        broker.fetch("a", announced(100))
    assert peak_bytes() - before < 200e6


class Endless(Packed):
    """A broker whose answers do not end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        zeros = bytes(1 << 20)
        with suppress(OSError):
            for _ in range(2000):
                self.wfile.write(zeros)
        self.close_connection = True


def test_an_answer_without_end_is_cut() -> None:
    """All 2 GB of it were read before anything looked at them."""
    before = peak_bytes()
    with asked_of(Endless) as broker:
        with pytest.raises(Unreachable, match="more than 256 MiB"):
            broker.study("a")
        with pytest.raises(Unreachable, match="more than 256 MiB"):
            broker.fetch("a", announced(100))
    assert peak_bytes() - before < 700e6


class Full(Packed):
    """A broker whose answer is as long as an answer may be; /more has one byte more."""

    def do_GET(self) -> None:
        self._answer(bytes(MOST_BYTES + (self.path == "/more")), {})


def test_an_answer_as_long_as_it_may_be_is_taken() -> None:
    with asked_of(Full) as broker, client_of(broker.url, 60) as http:
        assert len(http.get("/").content) == MOST_BYTES
        with pytest.raises(Unreachable, match="more than 256 MiB"):
            http.get("/more")
        assert len(http.get("/more", extensions=at_most(MOST_BYTES + 1)).content) > MOST_BYTES


def test_more_than_can_be_sealed_is_not_fetched() -> None:
    asked = Unreachable("it was asked for")

    def get(_: dict[str, str]) -> NoReturn:
        raise asked

    with pytest.raises(Unreachable, match="it was asked for"):
        downloads.fetched(announced(MOST_SEALED_BYTES), get)
    with pytest.raises(PackageRefused, match="more bytes than a sealed object"):
        downloads.fetched(announced(MOST_SEALED_BYTES + 1), get)


def announced(size: int) -> SealedItem:
    return SealedItem(
        item_id="item-1",
        purpose=QUESTION_ANSWER,
        subject="question-1",
        sender="imaging",
        recipient="enclave",
        size=size,
        digest="0" * 64,
    )


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
