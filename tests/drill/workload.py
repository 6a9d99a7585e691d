"""
What sites and admin do in the drill, over and over: upload a dataset version each, run, release.

Each caller insists: it repeats a request until it is acknowledged, as a site's client does, and
writes down what was acknowledged. Nothing here knows when a process is killed.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from linkage import messages
from linkage.messages import ReleaseRequest
from linkage.run_messages import RunRequest
from tests.broker_packages import Package, encoded, pack
from tests.broker_world import Actor, World

PEOPLE, PARTS = 100, 4
PATIENCE_SECONDS = 60.0
"""So long a caller insists; on a busy machine a process that was killed takes longer to start."""
_RUN_SECONDS = 600.0
_PAUSE_SECONDS = 0.05
_AGAIN = {401, 429, 502, 503}
"""Answers after which a client tries again, signing in anew after the first."""


class Refused(Exception):
    """An answer that no repetition mends."""


@dataclass(slots=True)
class Acknowledged:
    """What the broker has said that it has."""

    parts: set[tuple[str, int, int]] = field(default_factory=set)
    complete: set[tuple[str, int]] = field(default_factory=set)
    runs: dict[int, str] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    releases: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Workload:
    """
    phase: "upload", "run" or "release", or "" between rounds. asked: requests sent so far.
    rounds: ended so far.
    longest: seconds that any request took until it was acknowledged. patience: seconds after which
    a caller insists no longer.
    """

    world: World
    patience: float = PATIENCE_SECONDS
    told: Acknowledged = field(default_factory=Acknowledged)
    phase: str = ""
    asked: int = 0
    rounds: int = 0
    longest: float = 0.0
    fault: BaseException | None = None
    _actors: dict[str, Actor] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, first: int) -> None:
        """Begin to work in a thread, from round `first` on."""
        self._thread = threading.Thread(target=self._rounds, args=(first,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Let the round under way end. Raises what went wrong."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        if self.fault is not None:
            raise self.fault

    def round(self, number: int) -> None:
        """Upload every party's dataset version `number`, always the same people; link; release."""
        self.phase = "upload"
        for package in packages_of(self.world, number):
            self.upload(package)
        self.phase = "run"
        run_id = self.start_run(number)
        self.told.digests[number] = self.finished(f"runs/{run_id}")["result_digest"]
        self.phase = "release"
        self.release(number, run_id)
        self.phase = ""
        self.rounds += 1

    def upload(self, package: Package) -> None:
        """Upload one package, noting every acknowledgement."""
        who, number = package.manifest.uploader, package.manifest.dataset
        datasets = f"{self.world.path}/datasets"
        self.insist(who, "POST", datasets, message=package.manifest)
        for part, data in enumerate(package.parts, start=1):
            self.insist(who, "PUT", f"{datasets}/{who}/{number}/parts/{part}", content=data)
            self.told.parts.add((who, number, part))
        self.insist(who, "POST", f"{datasets}/{who}/{number}/complete")
        self.told.complete.add((who, number))

    def start_run(self, number: int) -> str:
        """Start a run over the newest versions, which is the same run if asked twice."""
        made = self.insist("admin", "POST", f"{self.world.path}/runs", message=RunRequest(seed=1))
        self.told.runs[number] = made["run_id"]
        return str(made["run_id"])

    def release(self, number: int, run_id: str) -> None:
        """Release a run to the enclave, once whatever happens."""
        made = self.insist(
            "admin",
            "POST",
            f"{self.world.path}/releases",
            message=ReleaseRequest(run_id=run_id),
            headers={"Idempotency-Key": f"release-{number}"},
        )
        self.told.releases[number] = made["job_id"]
        self.finished(f"jobs/{made['job_id']}")

    def finished(self, path: str) -> dict[str, Any]:
        """Wait until a run or job has ended. Raises Refused unless it is done."""
        until = time.monotonic() + max(_RUN_SECONDS, self.patience)
        while True:
            found = self.insist("admin", "GET", f"{self.world.path}/{path}")
            if found["state"] == "done":
                return found
            if found["state"] == "failed" or time.monotonic() > until:
                raise Refused(f"{path} is {found['state']}: {found['failure']}")
            time.sleep(_PAUSE_SECONDS)

    def insist(
        self,
        who: str,
        method: str,
        path: str,
        *,
        message: messages.Message | None = None,
        **options: Any,
    ) -> Any:
        """Send a request until it is acknowledged; return the answer's JSON."""
        actor = self._actors.setdefault(who, self.world.actor(who))
        if message is not None:
            options["content"] = message.model_dump_json()
            kind = {"Content-Type": "application/json"}
            options["headers"] = kind | options.get("headers", {})
        began = time.monotonic()
        while time.monotonic() < began + self.patience:
            self.asked += 1
            try:
                answer = actor.call(method, path, **options)
            except (httpx.TransportError, KeyError, ValueError):
                # Nobody answered, or the server died before the token was there.
                actor.token = ""
                time.sleep(_PAUSE_SECONDS)
                continue
            if answer.is_success:
                self.longest = max(self.longest, time.monotonic() - began)
                return answer.json() if answer.content else None
            if answer.status_code not in _AGAIN:
                raise Refused(f"{method} {path}: {answer.status_code} {answer.text}")
            if answer.status_code == 401:
                actor.token = ""
            time.sleep(_PAUSE_SECONDS)
        raise Refused(f"{method} {path}: no answer in {self.patience} s")

    def _rounds(self, number: int) -> None:
        try:
            while not self._stop.is_set():
                self.round(number)
                number += 1
        except BaseException as fault:
            self.fault = fault


def packages_of(world: World, number: int) -> list[Package]:
    """Return everybody's dataset version `number`: half of each party's people are the next's."""
    made = []
    for i, party in enumerate(world.signed.study.party):
        start = i * PEOPLE // 2
        records = encoded(world.signed, party.id, range(start, start + PEOPLE))
        sender = world.identities[party.id]
        made.append(pack(world.signed, sender, records, dataset=number, parts=PARTS))
    return made
