"""A real broker for tests: its folder, its processes, callers with keys, packages to upload."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import OKPKey
from sqlalchemy import text

from broker.config import Home, create_home
from broker.durable import migrate_workflows
from broker.services.admins import Admins
from broker.store.engine import Database
from linkage import messages
from linkage.governance import Confirmation, Withdrawal
from linkage.messages import BROKER, CUSTODIAN
from linkage.run_messages import RunRequest
from linkage.schema import schema_hash
from linkage.sealing import Identity, PublicIdentity
from linkage.signed_study import SignedStudy, sign_study
from linkage.study import parse_study
from tests.broker_packages import Package, encoded, pack
from tests.studies import certified

PATIENCE = 4
HTTP = httpx.Client(timeout=60 * PATIENCE)
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
records = 100_000
fields = ["first_name", "last_name", "date_of_birth", "sex"]

[[party]]
id = "enclave"
kind = "enclave"
records = 100_000
fields = ["first_name", "last_name", "date_of_birth", "sex", "zip"]

[[party]]
id = "claims"
records = 100_000
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
class Actor:
    """Someone who calls: subject as in the token request, and its keys."""

    url: Callable[[], str]
    subject: str
    identity: Identity
    token: str = ""

    @property
    def name(self) -> str:
        """Its name in the study, or as an admin."""
        return self.subject.partition("/")[2]

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
        content = body.to_json() if body is not None else None
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
        """Return a caller: "admin", a party or a contributor."""
        if name == "admin":
            return Actor(lambda: self.url, "admin/tester", self.admin)
        return Actor(lambda: self.url, f"{self.study_id}/{name}", self.identities[name])

    def confirm(self, *parties: str) -> httpx.Response:
        """Confirm the signed study as these parties, by default as all; return the last answer."""
        answer = self.actor("admin").get(f"{self.path}/confirmations").raise_for_status()
        for party in parties or [one.id for one in self.signed.study.party]:
            said = Confirmation(
                study_id=self.study_id,
                epoch=self.signed.study.study.epoch,
                study_hash=self.signed.study_hash,
                party=party,
            ).sign(self.identities[party])
            answer = self.actor(party).post(f"{self.path}/confirmations", said).raise_for_status()
        return answer

    def withdraw(self, uploader: str, newest: int = 1_000_000) -> httpx.Response:
        """Take back an uploader's dataset versions up to this one, signed."""
        said = Withdrawal(study_id=self.study_id, uploader=uploader, newest=newest)
        signed = said.sign(self.identities[uploader])
        return self.actor(uploader).post(f"{self.path}/datasets/{uploader}/withdraw", signed)

    def upload(self, package: Package) -> httpx.Response:
        """Upload a package as its uploader; return the answer to `complete`."""
        uploader = self.actor(package.manifest.uploader)
        uploader.post(f"{self.path}/datasets", package.manifest).raise_for_status()
        at = f"{self.path}/datasets/{uploader.name}/{package.manifest.dataset}"
        for number, data in enumerate(package.parts, start=1):
            uploader.put(f"{at}/parts/{number}", data).raise_for_status()
        return uploader.post(f"{at}/complete").raise_for_status()

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
        body = RunRequest(**request)
        started = self.actor("admin").post(f"{self.path}/runs", body).raise_for_status().json()
        return self.finish(f"{self.path}/runs/{started['run_id']}")


def make_world(
    folder: Path,
    *,
    study_id: str = "small-study",
    rehearsal: bool = True,
    url: str | None = None,
    text: str = STUDY,
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
    signed, identities = sign_for(home.public(), study_id, rehearsal=rehearsal, text=text)
    return World(home, signed, identities, admin)


def sign_for(
    broker: PublicIdentity,
    study_id: str,
    *,
    rehearsal: bool = True,
    text: str = STUDY,
    identities: dict[str, Identity] | None = None,
) -> tuple[SignedStudy, dict[str, Identity]]:
    """
    Sign a study whose broker is `broker`; return it and everyone else's keys. identities: keys
    that are there already.
    """
    toml = text.format(id=study_id)
    study = parse_study(toml)
    names = [CUSTODIAN, *study.actors]
    known = identities or {}
    identities = {name: known.get(name) or Identity.generate(name, kem="X25519") for name in names}
    pins = {name: identities[name].public() for name in names if name != CUSTODIAN}
    signed = sign_study(
        toml,
        pins | {BROKER: broker},
        schema_hash=schema_hash(study),
        key_check="ab" * 16,
        custodian=identities[CUSTODIAN],
        certificate=None if rehearsal else certified(study),
        rehearsal=rehearsal,
    )
    return signed, identities


def packages(
    world: World, *, people: int = 120, overlap: int = 60, dataset: int = 1
) -> dict[str, Package]:
    """Return a package of every uploader; two neighbours share `overlap` people."""
    made = {}
    for i, uploader in enumerate(world.signed.study.uploaders):
        start = i * (people - overlap)
        records = encoded(world.signed, uploader, range(start, start + people))
        made[uploader] = pack(world.signed, world.identities[uploader], records, dataset=dataset)
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


def opened(world: World, uploader: str, number: int = 1) -> dict[str, Any]:
    """Wait until the worker has opened a dataset version; return its state."""
    database = Database(world.home.database_url())
    mine = {"s": world.study_id, "u": uploader, "n": number}
    wanted = text(
        "SELECT checked_at FROM dataset WHERE study_id = :s AND uploader = :u AND number = :n"
    )

    def checked() -> bool:
        with database.read() as connection:
            return connection.execute(wanted, mine).scalar() is not None

    wait_for(checked, 60)
    database.close()
    at = f"{world.path}/datasets/{uploader}/{number}"
    found: dict[str, Any] = world.actor(uploader).get(at).raise_for_status().json()
    return found


def lose_blobs(world: World, uploader: str) -> None:
    """
    Delete what an uploader has sent from the store, as a failing disk would. The worker has opened
    it before: else it might put it into quarantine instead.
    """
    opened(world, uploader)
    database = Database(world.home.database_url())
    named = text("SELECT blob_id FROM part WHERE study_id = :s AND uploader = :u")
    with database.read() as connection:
        lost = connection.execute(named, {"s": world.study_id, "u": uploader}).scalars().all()
    database.close()
    for blob_id in lost:
        for path in world.home.blobs.glob(f"*/{blob_id}"):
            path.unlink()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """
    Wait until `condition`; seconds: what is plenty on a quiet machine. Raises TimeoutError after
    PATIENCE times as long: no test is about how quick a busy machine is.
    """
    deadline = time.monotonic() + PATIENCE * seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE * seconds} s in vain")
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
