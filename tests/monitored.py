"""A broker whose server and worker serve metrics, with a finished run and a failed sign-in."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from linkage.sealing import Identity
from tests.broker_world import World, make_world, packages, running
from tests.isolated import CHECKOUT

ALERTS_FILE = CHECKOUT / "configs" / "prometheus" / "alerts.yml"
ALERTS = yaml.safe_load(ALERTS_FILE.read_text())
DASHBOARD: dict[str, Any] = json.loads((CHECKOUT / "configs/grafana/broker.json").read_text())


@dataclass(frozen=True, slots=True)
class Monitored:
    """ports: of the metrics, by process: "server", "worker"."""

    world: World
    ports: dict[str, int]


@contextmanager
def monitored(folder: Path) -> Iterator[Monitored]:
    """Yield it while it runs."""
    made = make_world(folder)
    ports = {name: free_port() for name in ("server", "worker")}
    config = made.home.path / "config.toml"
    config.write_text(
        f"{config.read_text()}\n[metrics]\nserver_port = {ports['server']}\n"
        f"worker_port = {ports['worker']}\n[logs]\nlevel = 'warning'\n"
    )
    with running(made):
        for package in packages(made).values():
            made.upload(package)
        done = made.run()
        assert done["state"] == "done", done["failure"]
        stranger = made.actor("imaging")
        stranger.identity = Identity.generate("imaging", kem="X25519")
        assert stranger.sign_in().status_code == 401
        yield Monitored(made, ports)


def free_port() -> int:
    """Return a port of this machine that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
