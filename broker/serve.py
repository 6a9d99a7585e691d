"""The server process: uvicorn over `create_app`, on a socket that is bound first."""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path

import uvicorn

from broker import logs, metrics
from broker.app import create_app
from broker.config import Home
from broker.container import Broker
from broker.wire import HEAD_BYTES, Patient
from linkage.errors import Unreachable


class _Announcing(uvicorn.Server):
    """Writes the bound URL to a file as soon as requests are answered."""

    def __init__(self, config: uvicorn.Config, *, url: str, ready_file: Path | None) -> None:
        super().__init__(config)
        self._url, self._ready_file = url, ready_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready_file:
            # Renamed into place, so that a reader never sees half a URL.
            half = self._ready_file.with_name(self._ready_file.name + ".half")
            half.write_text(self._url + "\n")
            os.replace(half, self._ready_file)


def serve(home: Home, *, port: int | None = None, ready_file: Path | None = None) -> None:
    """
    Serve until stopped. port: 0 takes any free one. ready_file: gets the bound URL.

    Raises BrokerRefused on a database that is not migrated, Unreachable where the port is taken or
    packages cannot be stored.
    """
    logs.set_up(home.config.logs.level)
    broker = Broker.at(home)
    broker.blobs.store.require_usable()
    server = home.config.server
    bound = _bind(server.host, server.port if port is None else port)
    scheme = "https" if server.tls_certificate else "http"
    host = f"[{server.host}]" if ":" in server.host else server.host
    config = uvicorn.Config(
        create_app(broker),
        log_config=None,
        access_log=False,
        server_header=False,
        # Whose word about the caller's address is believed; without a proxy, nobody's.
        proxy_headers=server.behind_tls_proxy,
        forwarded_allow_ips=list(server.proxy_addresses),
        timeout_keep_alive=30,
        http=Patient,
        ws="none",
        h11_max_incomplete_event_size=HEAD_BYTES,
        ssl_certfile=str(home.path / server.tls_certificate) if server.tls_certificate else None,
        ssl_keyfile=str(home.path / server.tls_key) if server.tls_key else None,
    )
    watched = home.config.metrics
    if watched.server_port:
        metrics.listen(broker, host=watched.host, port=watched.server_port)
    url = f"{scheme}://{host}:{bound.getsockname()[1]}"
    _settle()
    _Announcing(config, url=url, ready_file=ready_file).run(sockets=[bound])


def _settle() -> None:
    """
    Take what is there for the process's whole life out of the garbage collector's sight. A full
    collection looks at all of it, a quarter of a million objects, and nobody is answered meanwhile:
    70 ms on an idle machine, 200 ms beside a worker that links.
    """
    gc.collect()
    gc.freeze()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, or asyncio leaves Nagle's algorithm on: every answer then waits for the reader's
    # delayed acknowledgement, 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as fault:
        bound.close()
        raise Unreachable(
            f"cannot listen on {host} port {port} ({fault.strerror})",
            hint="another program has it; choose another port in config.toml",
        ) from None
    return bound
