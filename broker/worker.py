"""
The worker process: finds what is queued, and hands it to DBOS under its own name.

The broker's database says what is to be done; a workflow has the id of what it is about, so
looking twice, or after a crash, starts nothing twice.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from broker import durable, logs, problems
from broker.config import Home
from broker.container import Broker
from broker.jobs import JobMaker
from broker.runs import RunMaker
from broker.store import jobs, runs
from linkage.errors import Conflict, LinkageError
from linkage.sealing import Identity

RUNS = "linkage-runs"
JOBS = "linkage-jobs"
_END_CHECK_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0
_log = structlog.get_logger("linkage.worker")


def work(home: Home, name: str) -> None:
    """
    Work until SIGTERM or SIGINT. Raises BrokerRefused on a database that is not migrated,
    KeyRefused without the broker's keys, Conflict if a worker of this name is running here.
    """
    logs.set_up()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _only_one(home, name):
        broker = Broker.at(home)
        identity = Identity.load(home.identity_file)
        run_maker, job_maker = RunMaker(broker, identity), JobMaker(broker, identity)
        durable.launch(home, name, {RUNS: run_maker.run, JOBS: job_maker.run})
        beating = threading.Thread(target=_beat, args=(broker, name, stop), daemon=True)
        beating.start()
        _log.info("worker started", worker=name)
        _look_for_work(broker, run_maker, job_maker, stop)
        durable.stop()
        _log.info("worker stopped", worker=name)
    # A step may still run in a thread of DBOS; it is repeated at the next start.
    os._exit(0)


def _look_for_work(
    broker: Broker, run_maker: RunMaker, job_maker: JobMaker, stop: threading.Event
) -> None:
    queued: set[str] = set()
    checked = swept = float("-inf")
    while not stop.wait(broker.home.config.worker.poll_seconds):
        try:
            with broker.database.read() as connection:
                todo = {RUNS: runs.unfinished(connection), JOBS: jobs.unfinished(connection)}
            for queue, ids in todo.items():
                for one in ids:
                    if one not in queued:
                        durable.enqueue(queue, one)
                        queued.add(one)
            if time.monotonic() - checked > _END_CHECK_SECONDS:
                checked = time.monotonic()
                _fail_the_ended(todo, run_maker, job_maker)
            if time.monotonic() - swept > _SWEEP_SECONDS:
                swept = time.monotonic()
                broker.sweep(older_than=_SWEEP_SECONDS)
        except LinkageError as error:
            _log.error("looking for work failed", code=error.code, message=error.message)
            stop.wait(1.0)
        except Exception as error:
            _log.error("looking for work failed", **problems.described(error))
            stop.wait(1.0)


def _fail_the_ended(todo: dict[str, list[str]], run_maker: RunMaker, job_maker: JobMaker) -> None:
    """A workflow that ended without a result must not leave its run or job waiting for ever."""
    makers: dict[str, Any] = {RUNS: run_maker, JOBS: job_maker}
    for queue, ids in todo.items():
        for one in ids:
            if durable.has_ended(one):
                makers[queue].give_up(one)


def _beat(broker: Broker, name: str, stop: threading.Event) -> None:
    while True:
        try:
            broker.oversight.beat(name)
        except LinkageError as error:
            _log.warning("heartbeat failed", code=error.code)
        except Exception as error:
            _log.error("heartbeat failed", **problems.described(error))
        if stop.wait(broker.home.config.worker.heartbeat_seconds):
            return


@contextmanager
def _only_one(home: Home, name: str) -> Iterator[None]:
    """Hold the lock of this worker's name; the system drops it when the process dies."""
    if not name.replace("-", "").isalnum():
        raise Conflict("this cannot be a worker's name", hint="use letters, digits and hyphens")
    path: Path = home.identity_file.parent / f"{name}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"a worker named {name!r} is running here", hint="stop it, or give another --name"
            ) from None
        yield
