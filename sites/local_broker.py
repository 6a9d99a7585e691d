"""
A broker of one's own for a rehearsal: the real `linkage-broker`, as processes on loopback.

Never imported, only started: what a rehearsal passes is what a real linkage passes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from linkage.errors import LinkageError, Unreachable
from linkage.sealing import Identity, PublicIdentity
from sites.custody import read_public

ADMIN = "rehearsal"
_START_S = 60.0
_STOP_S = 10.0


class LocalBroker:
    """
    `linkage-broker serve` and `worker` in the folder `home`, stopped on leaving the context.

    url: where it listens. admin: identity of its one admin, subject "admin/rehearsal".
    """

    def __init__(self, home: Path, *, database_url_file: Path | None = None) -> None:
        self.home = home
        self.url = ""
        self.admin = Identity.generate(ADMIN)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: list[IO[bytes]] = []
        command = ["init", str(home), "--allow-rehearsal"]
        if database_url_file:
            command += ["--database-url-file", str(database_url_file)]
        self._run(*command)
        public = home / "admin.public.json"
        public.write_bytes(self.admin.public().model_dump_json().encode())
        self._run("admin", "add", ADMIN, "--public-key", str(public), "--home", str(home))

    @property
    def public(self) -> PublicIdentity:
        """The broker's public identity, to be pinned."""
        return read_public(self.home / "public.json")

    def __enter__(self) -> Self:
        ready = self.home / "ready"
        ready.unlink(missing_ok=True)
        self._start("serve", "--port", "0", "--ready-file", str(ready))
        self._start("worker")
        deadline = time.monotonic() + _START_S
        while not ready.exists() or not (url := ready.read_text().strip()):
            self.check()
            if time.monotonic() > deadline:
                raise Unreachable("the rehearsal's broker did not start", hint=self._hint())
            time.sleep(0.05)
        self.url = url
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self._logs:
            log.close()

    def check(self) -> None:
        """Raises Unreachable if one of the processes has ended."""
        if any(process.poll() is not None for process in self._processes):
            raise Unreachable("the rehearsal's broker ended by itself", hint=self._hint())

    def _start(self, command: str, *arguments: str) -> None:
        log = (self.home / f"{command}.log").open("wb")
        self._logs.append(log)
        self._processes.append(
            subprocess.Popen(
                [_program(), command, "--home", str(self.home), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        )

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([_program(), *arguments], capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise LinkageError(f"linkage-broker {arguments[0]} failed: {said}")

    def _hint(self) -> str:
        return f"its logs are {self.home / 'serve.log'} and {self.home / 'worker.log'}"


def _program() -> str:
    beside = Path(sys.executable).with_name("linkage-broker")
    found = str(beside) if beside.exists() else shutil.which("linkage-broker")
    if not found:
        raise LinkageError(
            "linkage-broker is not installed here", hint="install the extra: commons-linkage[demo]"
        )
    return found
