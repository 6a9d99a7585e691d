"""
Two sites with real folders beside a real broker that holds their linked study, and a wire to them.

    with running(make_world(folder)) as world:
        sites = Sites(world, folder, imaging=range(40), enclave=range(20, 60))
        question = sites.ask(imaging={...}, clinical={...})
        sites.agent("imaging", "--once")          a process of its own

People are numbers: subject "case-7" and person 7 are one. What a site says and hears passes a
`Wire`, which keeps it and can kill the process that speaks.
"""

from __future__ import annotations

import csv
import http.server
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from linkage.messages import CUSTODIAN
from sites.agent import Agent, Event
from sites.agent_pace import Stop
from sites.cohort.sample import SamplePerson, write_sample
from sites.session import Session, session_of
from sites.vault import Vault
from tests.broker_packages import encoded, pack
from tests.broker_world import STUDY, World, sign_for
from tests.programs import program
from tests.questions import question
from tests.studies import save_map

CONDITION = 1_999_483_647
"""A concept that is nowhere else, as a canary: persons with an even number have it."""

SERIES_TEXT = "CANARYSERIES"
"""Begins the series description of every subject, followed by its number in six figures."""

TWO_PARTIES = re.sub(r'\[\[party\]\]\nid = "claims"\n.*?\n\n', "", STUDY, flags=re.DOTALL)

Kill = Callable[[str, str], str]


@dataclass(slots=True)
class Exchange:
    """One request and what came back. head, body: of the request; heard: of the answer."""

    method: str
    target: str
    head: bytes
    body: bytes
    status: int = 0
    heard_head: bytes = b""
    heard: bytes = b""

    @property
    def everything(self) -> bytes:
        """All bytes, one after another."""
        line = f"{self.method} {self.target}\n".encode()
        return b"\n".join((line, self.head, self.body, self.heard_head, self.heard))


@dataclass(slots=True)
class Wire:
    """
    A proxy before the broker that keeps all that passes.

    kill: given method and target, "" or when to kill -9 `victim`: "before" the request goes on, or
    "after" the broker answered, unheard.
    """

    url: str
    to: Callable[[], str]
    server: http.server.ThreadingHTTPServer
    exchanges: list[Exchange] = field(default_factory=list)
    kill: Kill = lambda method, target: ""
    victim: subprocess.Popen[bytes] | None = None
    kills: int = 0

    @classmethod
    def before(cls, to: Callable[[], str]) -> Wire:
        """Return a wire to the broker that listens at `to()`; `close` ends it."""

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                wire.pass_on(self)

            def do_POST(self) -> None:
                wire.pass_on(self)

            def do_PUT(self) -> None:
                wire.pass_on(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        wire = cls(f"http://127.0.0.1:{server.server_address[1]}", to, server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return wire

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()

    def pass_on(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Pass a request to the broker and its answer back, or kill who asks."""
        length = int(request.headers.get("content-length") or 0)
        one = Exchange(
            request.command, request.path, bytes(request.headers), request.rfile.read(length)
        )
        self.exchanges.append(one)
        when = self.kill(one.method, one.target)
        if when == "before":
            self._kill(request)
            return
        kept = ("authorization", "content-type", "idempotency-key")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        answer = httpx.request(
            one.method, self.to() + one.target, content=one.body, headers=headers, timeout=60
        )
        one.status, one.heard = answer.status_code, answer.content
        one.heard_head = b"\n".join(b"%b: %b" % pair for pair in answer.headers.raw)
        if when == "after":
            self._kill(request)
            return
        request.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name not in ("transfer-encoding", "connection", "date", "server", "content-length"):
                request.send_header(name, value)
        request.send_header("content-length", str(len(one.heard)))
        request.end_headers()
        request.wfile.write(one.heard)

    def _kill(self, request: http.server.BaseHTTPRequestHandler) -> None:
        assert self.victim is not None
        os.kill(self.victim.pid, signal.SIGKILL)
        self.victim.wait()
        self.kills += 1
        request.close_connection = True

    def puts(self, purpose: str) -> list[Exchange]:
        """Return what was sent for another party with this purpose."""
        return [e for e in self.exchanges if e.method == "PUT" and f"purpose={purpose}" in e.target]


class Sites:
    """The imaging commons and the enclave, linked; each with a folder and a wire of its own."""

    def __init__(
        self,
        world: World,
        folder: Path,
        *,
        imaging: Sequence[int],
        enclave: Sequence[int],
        text: str = TWO_PARTIES,
    ) -> None:
        self.world, self.folder = world, folder
        # A rehearsal's study no site takes: this one is signed as a real one is.
        world.signed, world.identities = sign_for(
            world.home.public(),
            folder.name,
            rehearsal=False,
            text=text,
            identities=world.identities,
        )
        self.custodian = world.signed.pin(CUSTODIAN).fingerprint
        admin = world.actor("admin")
        admin.post(
            "/v1/studies", world.signed, custodian_fingerprint=self.custodian
        ).raise_for_status()
        world.confirm()
        held = {"imaging": list(imaging), "enclave": list(enclave)}
        self.wires = {party: Wire.before(lambda: world.url) for party in ("imaging", "enclave")}
        for party, people in held.items():
            self._make(party, people)
        write_data(folder, imaging=held["imaging"], enclave=held["enclave"])
        self.run = world.run()
        assert self.run["state"] == "done", self.run["failure"]

    def _make(self, party: str, people: list[int]) -> None:
        """Upload made-up encodings of a party's people, and keep their map as tokenizing does."""
        world, vault = self.world, Vault(self.folder / party / "private")
        records = encoded(world.signed, party, people)
        world.upload(pack(world.signed, world.identities[party], records))
        vault.folder.mkdir(parents=True, mode=0o700)
        world.identities[party].save(vault.identity_file)
        vault.signed_study_file.write_text(world.signed.model_dump_json())
        vault.package(1).mkdir(parents=True)
        of = {
            encoded(world.signed, party, [p]).pseudonyms.tobytes(): (
                f"case-{p}" if party == "imaging" else str(p)
            )
            for p in people
        }
        save_map(vault, 1, records.pseudonyms, [of[p.tobytes()] for p in records.pseudonyms])
        self.write_site(party)

    def write_site(self, party: str, agent: str = "", more: str = "") -> None:
        """Write the site file; agent: lines of [agent]; more: of [imaging] or [omop], and after."""
        data = (
            f'[imaging]\nfile = "{self.folder}/imaging_series.parquet"\ndate_frame = "shifted"\n'
            if party == "imaging"
            else f'[omop]\npath = "{self.folder}/omop"\n'
        )
        self.site_file(party).write_text(
            f'party = "{party}"\n[broker]\nurl = "{self.wires[party].url}"\n'
            f'custodian = "{self.custodian}"\n{data}{more}\n[agent]\nevery = 5\n{agent}\n'
        )

    def site_file(self, party: str) -> Path:
        return self.folder / party / "site.toml"

    def session(self, party: str) -> Session:
        """Return a site's session, in this process."""
        return session_of(self.site_file(party))

    def ask(self, **asked: Any) -> str:
        """Ask a question as the admin, past the wires; return its ID once it is prepared."""
        body = question(self.run["run_id"], **asked)
        path = f"{self.world.path}/questions"
        job = self.world.actor("admin").post(path, body).raise_for_status().json()
        done = self.world.finish(f"{self.world.path}/jobs/{job['job_id']}")
        assert done["state"] == "done", done
        return str(job["job_id"])

    def deliver(self, question_id: str) -> str:
        """Order the delivery of an approved question; return its ID once it is prepared."""
        path = f"{self.world.path}/questions/{question_id}/delivery"
        job = self.world.actor("enclave").post(path).raise_for_status().json()
        done = self.world.finish(f"{self.world.path}/jobs/{job['job_id']}")
        assert done["state"] == "done", done
        return str(job["job_id"])

    def start(self, party: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a site's agent as a process; its output goes to a file."""
        log = self.folder / party / "agent.log"
        command = [program("linkage-site"), "agent", "--site", str(self.site_file(party)), *words]
        with log.open("ab") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        self.world.processes.append(process)
        self.wires[party].victim = process
        return process

    def agent(self, party: str, *words: str) -> int:
        """Run a site's agent to its end; return its exit code."""
        process = self.start(party, *(words or ("--once", "--json")))
        code = process.wait(120)
        self.world.processes.remove(process)
        return code

    def look(self, party: str) -> list[Event]:
        """Let a site's agent look once in this process; return what it says."""
        return Agent(self.site_file(party), lambda event: None).once(Stop())

    def log(self, party: str) -> str:
        """Return what a site's agents printed so far."""
        return (self.folder / party / "agent.log").read_text()

    def close(self) -> None:
        """End the wires."""
        for wire in self.wires.values():
            wire.close()


def write_data(folder: Path, *, imaging: list[int], enclave: list[int]) -> None:
    """Write `folder/imaging_series.parquet` and `folder/omop`: see CONDITION and SERIES_TEXT."""
    write_sample(
        folder / "made",
        imaging=[],
        enclave=[SamplePerson(str(p), "f" if p % 4 else "m", 1950) for p in enclave],
    )
    (folder / "made" / "omop").rename(folder / "omop")
    table = folder / "omop" / "condition_occurrence.csv"
    with table.open("a", newline="") as file:
        rows = [
            (900_000 + p, p, CONDITION, "2018-05-01", 32817, "", 0, f"CANARYCODE{p}.")
            for p in enclave
            if p % 2 == 0
        ]
        csv.writer(file, lineterminator="\n").writerows(rows)
    series = [
        {
            "PatientID": f"case-{p}",
            "StudyInstanceUID": f"2.25.10{p:06}",
            "SeriesInstanceUID": f"2.25.20{p:06}",
            "collection_id": "made",
            "Modality": "CT" if p % 3 else "MR",
            "BodyPartExamined": "CHEST",
            "Manufacturer": "CANARYMAKER",
            "SeriesDescription": f"{SERIES_TEXT}{p:06}.",
            "StudyDate": "1900-03-01",
            "series_size_MB": 1.0,
            "series_aws_url": f"s3://made/{p:06}/*",
        }
        for p in imaging
    ]
    pq.write_table(pa.Table.from_pylist(series), folder / "imaging_series.parquet")


def numbers_in(data: bytes, text: str) -> set[int]:
    """Return the numbers of six figures that follow `text` in these bytes, up to a full stop."""
    return {int(n) for n in re.findall(text.encode() + rb"(\d{6})\.", data)}
