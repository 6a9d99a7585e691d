"""A real broker for tests: its folder, its processes, callers with keys, packages to upload."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from joserfc import jwt
from joserfc.jwk import OKPKey

from broker.config import Home, create_home
from broker.durable import migrate_workflows
from broker.services.admins import Admins
from broker.store.engine import Database
from linkage import messages
from linkage.messages import BROKER, CUSTODIAN, DATASET_PART, Manifest, Part
from linkage.records import EncodedRecords, FixedColumn, to_arrow
from linkage.sealing import Context, Identity, PublicIdentity, seal
from linkage.signed_study import SignedStudy, sign_study
from linkage.study import parse_study

HTTP = httpx.Client(timeout=60)
AUDIENCE = "commons-linkage-broker"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
PROGRAM = str(Path(sys.executable).with_name("linkage-broker"))

STUDY = """\
[study]
id = "{id}"
title = "A small study"
purpose = "To test with"

[[party]]
id = "imaging"
kind = "imaging"
fields = ["first_name", "last_name", "date_of_birth", "sex"]

[[party]]
id = "enclave"
kind = "enclave"
fields = ["first_name", "last_name", "date_of_birth", "sex", "zip"]

[[party]]
id = "claims"
fields = ["first_name", "last_name", "date_of_birth", "sex", "zip"]

[[clk]]
id = "name-dob-sex"
length = 1024
fields = [
    {{ field = "first_name" }},
    {{ field = "last_name" }},
    {{ field = "date_of_birth", bits = 140 }},
    {{ field = "sex", bits = 40 }},
]

[[match_key]]
id = "first-last-dob"
fields = ["first_name", "last_name", "date_of_birth"]

[[match_key]]
id = "sound-dob"
fields = ["first_name:initial", "last_name:sound", "date_of_birth"]
"""


@dataclass(slots=True)
class Package:
    """What a party uploads: a manifest and its sealed parts, by number from 1."""

    manifest: Manifest
    parts: list[bytes]


@dataclass(slots=True)
class Actor:
    """Someone who calls: subject as in the token request, and its keys."""

    url: Callable[[], str]
    subject: str
    identity: Identity
    token: str = ""

    def assertion(self, **changed: Any) -> str:
        """Return a signed assertion; `changed` replaces or, with None, drops claims."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.subject,
            "sub": self.subject,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 120,
            "jti": str(uuid.uuid4()),
        } | changed
        claims = {name: value for name, value in claims.items() if value is not None}
        key = OKPKey.import_key(self.identity.signing_pem())
        return jwt.encode({"alg": "Ed25519"}, claims, key, algorithms=["Ed25519"])

    def sign_in(self, assertion: str | None = None) -> httpx.Response:
        """Ask for a token."""
        body = {"grant_type": GRANT, "assertion": assertion or self.assertion()}
        return HTTP.post(f"{self.url()}/v1/token", json=body)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request with a token, signing in first where needed."""
        if not self.token:
            self.token = self.sign_in().json()["access_token"]
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        return HTTP.request(method, f"{self.url()}{path}", headers=headers, **options)

    def post(
        self, path: str, body: messages.Message | None = None, **params: Any
    ) -> httpx.Response:
        """POST a message."""
        content = body.model_dump_json() if body is not None else None
        kind = {"Content-Type": "application/json"}
        return self.call("POST", path, content=content, params=params, headers=kind)

    def get(self, path: str, **params: Any) -> httpx.Response:
        """GET."""
        return self.call("GET", path, params=params)

    def put(self, path: str, data: bytes, **params: Any) -> httpx.Response:
        """PUT a raw body."""
        return self.call("PUT", path, content=data, params=params)


@dataclass(slots=True)
class World:
    """A broker's folder with one study, and everyone's keys."""

    home: Home
    signed: SignedStudy
    identities: dict[str, Identity]
    admin: Identity
    url: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def study_id(self) -> str:
        return self.signed.study.study.id

    @property
    def path(self) -> str:
        return f"/v1/studies/{self.study_id}"

    def actor(self, name: str) -> Actor:
        """Return a caller: "admin" or a party."""
        if name == "admin":
            return Actor(lambda: self.url, "admin/tester", self.admin)
        return Actor(lambda: self.url, f"{self.study_id}/{name}", self.identities[name])

    def upload(self, package: Package) -> httpx.Response:
        """Upload a package as its party; return the answer to `complete`."""
        party = self.actor(package.manifest.party)
        party.post(f"{self.path}/datasets", package.manifest).raise_for_status()
        at = f"{self.path}/datasets/{package.manifest.party}/{package.manifest.dataset}"
        for number, data in enumerate(package.parts, start=1):
            party.put(f"{at}/parts/{number}", data).raise_for_status()
        return party.post(f"{at}/complete").raise_for_status()

    def spawn(
        self, *arguments: str, log: str, largest_file: int | None = None
    ) -> subprocess.Popen[bytes]:
        """
        Start `linkage-broker` with these arguments; its output goes to a file. largest_file: no
        file may grow beyond so many bytes, as if the disk were full.
        """
        limit = ["prlimit", f"--fsize={largest_file}"] if largest_file else []
        command = [*limit, PROGRAM, *arguments, "--home", str(self.home.path)]
        # A log is a file too, and must not be what grows too large.
        to = Path(os.devnull) if largest_file else self.home.path / f"{log}.log"
        with to.open("ab") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        self.processes.append(process)
        return process

    def serve(self, **how: int) -> subprocess.Popen[bytes]:
        """Start the server and wait until it answers."""
        ready = self.home.path / "ready"
        ready.unlink(missing_ok=True)
        process = self.spawn("serve", "--port", "0", "--ready-file", str(ready), log="serve", **how)
        wait_for(lambda: ready.exists() or process.poll() is not None, 30)
        self.url = ready.read_text().strip()
        return process

    def work(self, name: str = "worker-1", **how: int) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self.spawn("worker", "--name", name, log=name, **how)

    def stop(self) -> None:
        """End every process that this world started."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def finish(self, path: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until the run, job or question at `path` has ended; return it."""
        admin = self.actor("admin")
        found: dict[str, Any] = {}

        def ended() -> bool:
            assert all(p.poll() is None for p in self.processes[-2:]), "a process has ended"
            found.update(admin.get(path).raise_for_status().json())
            return found["state"] in ("done", "failed")

        wait_for(ended, seconds)
        return found

    def run(self, **request: Any) -> dict[str, Any]:
        """Start a run and wait for it."""
        body = messages.RunRequest(**request)
        started = self.actor("admin").post(f"{self.path}/runs", body).raise_for_status().json()
        return self.finish(f"{self.path}/runs/{started['run_id']}")


def make_world(
    folder: Path, *, study_id: str = "small-study", rehearsal: bool = True, url: str | None = None
) -> World:
    """Make a broker's folder with an admin and everyone's keys; nothing is started."""
    url_file = None
    if url:
        url_file = folder / "database-url"
        url_file.write_text(url)
    path = folder / "broker"
    home = create_home(path, allow_rehearsal=True, database_url_file=url_file, port=0)
    database = Database(home.database_url())
    database.migrate()
    migrate_workflows(home)
    admin = Identity.generate("tester", kem="X25519")
    Admins(database).add("tester", admin.public().model_dump_json().encode())
    database.close()
    signed, identities = sign_for(home.public(), study_id, rehearsal=rehearsal)
    return World(home, signed, identities, admin)


def sign_for(
    broker: PublicIdentity, study_id: str, *, rehearsal: bool = True, text: str = STUDY
) -> tuple[SignedStudy, dict[str, Identity]]:
    """Sign a study whose broker is `broker`; return it and everyone else's keys."""
    toml = text.format(id=study_id)
    names = [CUSTODIAN, *(party.id for party in parse_study(toml).party)]
    identities = {name: Identity.generate(name, kem="X25519") for name in names}
    pins = {name: identities[name].public() for name in names if name != CUSTODIAN}
    signed = sign_study(
        toml,
        pins | {BROKER: broker},
        schema_hash=hashlib.sha256(toml.encode()).hexdigest(),
        key_check="ab" * 16,
        custodian=identities[CUSTODIAN],
        rehearsal=rehearsal,
    )
    return signed, identities


def encoded(
    signed: SignedStudy, party: str, people: Sequence[int], *, seed: int = 1
) -> EncodedRecords:
    """
    Return made-up encodings of people, who are numbers: the same person's CLKs at two parties
    agree on most bits, and most of its match keys are equal.
    """
    study = signed.study
    noise = np.random.default_rng([seed, sum(party.encode())])
    n = len(people)

    def text(*words: object) -> bytes:
        return hashlib.sha256("/".join(map(str, words)).encode()).digest()[:16]

    names = [text("pseudonym", study.study.id, party, p) for p in people]
    order = sorted(range(n), key=lambda i: names[i])
    clks, keys = {}, {}
    for clk in study.clks_of(study.party_named(party)):
        bits = np.stack(
            [np.random.default_rng([7, people[i]]).random(clk.length) < 0.4 for i in order]
        )
        flipped = bits ^ (noise.random(bits.shape) < 0.1)
        clks[clk.id] = FixedColumn(np.packbits(flipped, axis=1), np.ones(n, dtype=bool))
    for rule in study.rules_of(study.party_named(party)):
        made = b"".join(text("key", rule.id, people[i]) for i in order)
        there = noise.random(n) < 0.8
        values = np.frombuffer(made, np.uint8).reshape(n, 16) * there[:, None]
        keys[rule.id] = FixedColumn(values.astype(np.uint8), there)
    pseudonyms = np.frombuffer(b"".join(names[i] for i in order), np.uint8).reshape(n, 16)
    return EncodedRecords(pseudonyms.copy(), np.arange(n, dtype=np.uint32), clks, keys)


def pack(
    signed: SignedStudy,
    sender: Identity,
    rows: EncodedRecords,
    *,
    dataset: int = 1,
    parts: int = 2,
    **changed: Any,
) -> Package:
    """Seal and sign records as a site does; `changed` replaces fields of the manifest."""
    study, party = signed.study, sender.name
    batch = to_arrow(rows, study)
    cuts = np.linspace(0, batch.num_rows, parts + 1).astype(int)
    sealed, listed = [], []
    for number in range(1, parts + 1):
        piece = batch.slice(cuts[number - 1], cuts[number] - cuts[number - 1])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, piece.schema) as writer:
            writer.write_batch(piece)
        details = (str(dataset), str(number), str(parts))
        context = Context(study.study.id, party, BROKER, DATASET_PART, details)
        data = seal(
            bytes(sink.getvalue()), sender=sender, recipient=signed.pin(BROKER), context=context
        )
        sealed.append(data)
        digest = hashlib.sha256(data).hexdigest()
        listed.append(Part(number=number, size=len(data), records=piece.num_rows, digest=digest))
    who = study.party_named(party)
    fields: dict[str, Any] = {
        "study_id": study.study.id,
        "study_hash": signed.study_hash,
        "schema_hash": signed.schema_hash,
        "party": party,
        "dataset": dataset,
        "epoch": 1,
        "normalisation": "1",
        "key_check": signed.key_check,
        "software": "test",
        "records": len(rows),
        "groups": len(np.unique(rows.groups)),
        "densities": {clk.id: 0.32 for clk in study.clks_of(who)},
        "null_reasons": {},
        "collisions": {rule.id: 0 for rule in study.rules_of(who)},
        "parts": tuple(listed),
    } | changed
    return Package(Manifest(**fields).sign(sender), sealed)


def packages(world: World, *, people: int = 120, overlap: int = 60) -> dict[str, Package]:
    """Return a package of every party; two neighbours share `overlap` people."""
    made = {}
    for i, party in enumerate(world.signed.study.party):
        start = i * (people - overlap)
        records = encoded(world.signed, party.id, range(start, start + people))
        made[party.id] = pack(world.signed, world.identities[party.id], records)
    return made


@contextmanager
def running(world: World, *, worker: bool = True) -> Iterator[World]:
    """Serve, register the study, and work, for the time of the context."""
    try:
        world.serve()
        if worker:
            world.work()
        world.actor("admin").post("/v1/studies", world.signed).raise_for_status()
        yield world
    finally:
        world.stop()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until `condition`. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s in vain")
        time.sleep(0.05)


def problem(response: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and detail of a problem document."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    told = response.json()
    assert told["status"] == response.status_code
    return response.status_code, told["code"], told["detail"]


def crash(process: subprocess.Popen[bytes]) -> None:
    """kill -9, and wait for it."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())
