"""
A broker that asks what it likes, for tests of how a site answers: real HTTP, real sealing.

    with AskingBroker(EVERYONE, "alpha") as broker:
        broker.ask(questions, run_id="run-1")

It speaks the addresses of second looks and nothing else, and keeps all that it hears.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import secrets
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from linkage.look_tables import (
    Answers,
    Questions,
    answers_from_arrow,
    partner_tag,
    questions_to_arrow,
)
from linkage.messages import BROKER, SECOND_LOOK, SECOND_LOOK_ANSWER, Token
from linkage.plain_arrow import read_stream
from linkage.run_messages import LookState
from linkage.sealing import Context, seal, unseal
from tests.studies import Cast

OTHER = bytes(range(16))
"""Pseudonym of a record at the other site."""


def questions_about(
    party: str, partner: str, records: Sequence[bytes], others: Sequence[bytes] = ()
) -> Questions:
    """Return one question about each of these records; others: the partner's, else OTHER."""
    nonces = [secrets.token_bytes(16) for _ in records]
    theirs = others or [OTHER] * len(records)
    tags = [partner_tag(nonce, one) for nonce, one in zip(nonces, theirs, strict=True)]
    return Questions(
        party, matrix(nonces), matrix(records), (partner,) * len(records), matrix(tags)
    )


def matrix(rows: Sequence[bytes]) -> np.ndarray:
    """Return rows of 16 bytes as uint8[N, 16]."""
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16).copy()


@dataclass
class Asked:
    """One run's questions. fails: how often the broker hangs up instead of taking the answer."""

    state: LookState
    sealed: bytes
    questions: Questions
    answers: list[bytes] = field(default_factory=list)
    fails: int = 0
    kills: int = 0


class AskingBroker:
    """
    Asks one uploader. heard: all bodies that came. victim: process to kill -9 with an answer in
    hand, once for each of `Asked.kills`.
    """

    def __init__(self, everyone: Cast, party: str) -> None:
        self.everyone, self.party = everyone, party
        self.runs: dict[str, Asked] = {}
        self.heard: list[bytes] = []
        self.victim = 0
        broker = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                broker.get(self)

            def do_POST(self) -> None:
                broker.heard.append(self.rfile.read(int(self.headers["content-length"])))
                token = Token(access_token="a" * 20, token_type="Bearer", expires_in=600)
                say(self, 200, token.model_dump_json().encode())

            def do_PUT(self) -> None:
                broker.put(self, self.rfile.read(int(self.headers["content-length"])))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def ask(self, questions: Questions, /, run_id: str = "run-1", **changes: object) -> Asked:
        """Seal questions for the party; changes: of what is announced."""
        signed = self.everyone.signed
        batch = questions_to_arrow(questions)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        details = (run_id, signed.study_hash)
        sealed = seal(
            bytes(sink.getvalue()),
            sender=self.everyone.identities[BROKER],
            recipient=signed.pin(self.party),
            context=Context(signed.study.study.id, BROKER, self.party, SECOND_LOOK, details),
        )
        announced = {
            "run_id": run_id,
            "uploader": self.party,
            "state": "asked",
            "questions": len(questions),
            "until": 2e9,
            "digest": hashlib.sha256(sealed).hexdigest(),
            "size": len(sealed),
            "study_hash": signed.study_hash,
            "dataset": 1,
            **changes,
        }
        asked = Asked(LookState.model_validate(announced), sealed, questions)
        self.runs[run_id] = asked
        return asked

    def opened(self, asked: Asked, sealed: bytes) -> Answers:
        """Open and read an answer, as the real broker does."""
        signed, study = self.everyone.signed, self.everyone.signed.study
        details = (asked.state.run_id, asked.state.digest)
        data = unseal(
            sealed,
            sender=signed.pin(self.party),
            recipient=self.everyone.identities[BROKER],
            context=Context(study.study.id, self.party, BROKER, SECOND_LOOK_ANSWER, details),
        )
        (batch,) = read_stream(data)[1]
        assert study.looks is not None
        return answers_from_arrow(batch, study, asked.questions, study.looks.fields)

    def get(self, request: http.server.BaseHTTPRequestHandler) -> None:
        last = request.path.rpartition("/")[2]
        if last == "second-looks":
            states = [one.state.model_dump(mode="json") for one in reversed(self.runs.values())]
            say(request, 200, json.dumps(states).encode())
        else:
            say(request, 200, self.runs[last].sealed)

    def put(self, request: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        asked = self.runs[request.path.split("/")[-2]]
        self.heard.append(body)
        asked.answers.append(body)
        if asked.kills:
            asked.kills -= 1
            os.kill(self.victim, signal.SIGKILL)
        if asked.fails or asked.kills:
            asked.fails -= 1
            request.close_connection = True
            return
        asked.state = asked.state.model_copy(update={"state": "accepted"})
        say(request, 201, asked.state.model_dump_json().encode())


def say(request: http.server.BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    """Answer with a body."""
    request.send_response(status)
    request.send_header("content-type", "application/json")
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
