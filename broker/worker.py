"""
The worker process: finds what is queued, and hands it to DBOS under its own name.

The broker's database says what is to be done; a workflow has the id of what it is about, so
looking twice, or after a crash, starts nothing twice.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from broker import durable, logs, metrics, problems
from broker.audit_heads import HeadSigner
from broker.config import Home
from broker.container import Broker
from broker.decided_again import forget_old
from broker.durable import Life, Queue, part_of
from broker.governor import Governor
from broker.jobs import JOBS, JobMaker
from broker.keys import key_holder_of
from broker.look_answers import AnswerReader
from broker.quarantine import UploadChecker
from broker.reviewing import ReviewTender
from broker.runs import RUNS, TASKS, RunMaker
from broker.second_look import PART
from broker.store import jobs, runs, second_looks
from linkage.errors import Conflict, LinkageError
from linkage.sealing import KeyHolder

_CHECK_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0
_NICE = 3
"""Where processors are short, those who ask the server come first; more would starve a run."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ENDED = "the worker gave up after many attempts"
_OUTDATED = "the software was changed in the middle of it"
_log = structlog.get_logger("linkage.worker")


def work(home: Home, name: str) -> None:
    """
    Work until SIGTERM or SIGINT. Raises BrokerRefused on a database that is not migrated,
    KeyRefused without the broker's keys, Conflict if a worker of this name is running here.
    """
    logs.set_up(home.config.logs.level)
    os.nice(_NICE)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _only_one(home, name):
        broker = Broker.at(home)
        broker.blobs.store.require_usable()
        watched = home.config.metrics
        if watched.worker_port:
            metrics.listen(broker, host=watched.host, port=watched.worker_port)
        Worker(broker, key_holder_of(home), name).run(stop)
    # A step may still run in a thread of DBOS; it is repeated at the next start.
    os._exit(0)


@dataclass(frozen=True, slots=True)
class Looked:
    """Runs with a second look: those that wait for answers, and those that went on."""

    waiting: list[str]
    over: list[str]


class Worker:
    """One worker of this broker, under a name of its own."""

    def __init__(self, broker: Broker, identity: KeyHolder, name: str) -> None:
        self._broker, self._name = broker, name
        self._settings = broker.home.config.worker
        self._runs, self._jobs = RunMaker(broker, identity), JobMaker(broker, identity)
        self._answers = AnswerReader(broker, identity)
        self._governor = Governor(broker, identity)
        self._reviews = ReviewTender(broker, identity)
        self._checker = UploadChecker(broker, identity)
        self._heads = HeadSigner(broker.database, identity, every=self._settings.head_seconds)
        self._queued: set[str] = set()
        self._stopped: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        cores = self._settings.cores or os.cpu_count() or 1
        queues = [
            Queue(RUNS, self._runs.run),
            # Tasks leave the interpreter's lock alone while they compare.
            Queue(TASKS, self._runs.run_task, at_once=cores),
            Queue(JOBS, self._jobs.run),
        ]
        durable.launch(self._broker.home, self._name, queues)
        threading.Thread(target=self._beat, args=(stop,), daemon=True).start()
        # Opening a large upload takes minutes, in which everything else goes on.
        threading.Thread(target=self._check_uploads, args=(stop,), daemon=True).start()
        _log.info("worker started", worker=self._name)
        checked = signed = swept = governed = float("-inf")
        while not stop.wait(self._settings.poll_seconds):
            now = time.monotonic()
            if not self._survive(self._look_for_work):
                stop.wait(_CHECK_SECONDS)
            if now - checked > _CHECK_SECONDS and self._survive(self._look_after):
                checked = now
            if now - governed > _CHECK_SECONDS:
                self._survive(self._governor.tend)
                governed = now
            if now - signed > _CHECK_SECONDS:
                self._survive(self._sign_heads)
                signed = now
            if now - swept > _SWEEP_SECONDS and self._survive(self._sweep):
                swept = now
        durable.stop()
        _log.info("worker stopped", worker=self._name)

    def _look_for_work(self) -> None:
        for queue, ids in self._unfinished().items():
            for one in ids:
                if one not in self._queued:
                    durable.enqueue(queue, one)
                    self._queued.add(one)
        self._answers.tend()
        self._reviews.tend()
        for one in self._looked().over:
            if part_of(one, PART) in self._queued:
                continue
            if durable.is_outdated(one):
                self._runs.give_up(one, _OUTDATED)
            else:
                self._queued.add(durable.go_on(RUNS, one, PART))

    def _look_after(self) -> None:
        """Nothing may wait for ever: not for a workflow that ended, nor for a dead worker's."""
        unfinished = self._unfinished()
        self._runs.end_what_is_over()
        # A run that waits for answers has no workflow, and needs nothing in memory.
        waiting = self._looked().waiting
        self._runs.forget_all_but([one for one in unfinished[RUNS] if one not in waiting])
        for one in unfinished[RUNS]:
            self._look_after_run(one)
        for one in unfinished[JOBS]:
            if cause := _gave_up(durable.life_of(one)):
                self._jobs.give_up(one, cause)
        self._jobs.tend()
        self._stop_cancelled()
        alive = {self._name, *self._broker.oversight.alive(self._settings.take_over_seconds)}
        for dead in durable.take_over(alive, self._name):
            _log.warning("took over work", worker=dead)

    def _stop_cancelled(self) -> None:
        """Cancelled runs do nothing more by themselves (broker.runs); this empties the queues."""
        with self._broker.database.read() as connection:
            found = runs.cancelled_since(connection, int(time.time() - _SWEEP_SECONDS))
        for one in found:
            if one not in self._stopped:
                durable.cancel(one, part_of(one, PART))
                self._stopped.add(one)

    def _look_after_run(self, run_id: str) -> None:
        before = self._looked()
        if run_id in before.waiting:
            if durable.is_outdated(run_id):
                self._runs.give_up(run_id, _OUTDATED)
            return
        over = run_id in before.over
        cause = _gave_up(durable.life_of(part_of(run_id, PART) if over else run_id))
        # A workflow that ended may have ended to wait, since we looked.
        now = self._looked()
        if cause and (run_id in now.waiting, run_id in now.over) == (False, over):
            self._runs.give_up(run_id, cause)

    def _unfinished(self) -> dict[str, list[str]]:
        with self._broker.database.read() as connection:
            return {RUNS: runs.unfinished(connection), JOBS: jobs.unfinished(connection)}

    def _looked(self) -> Looked:
        with self._broker.database.read() as connection:
            return Looked(second_looks.waiting(connection), second_looks.went_on(connection))

    def _sign_heads(self) -> None:
        self._heads.tend()
        self._broker.audit_log.catch_up()

    def _sweep(self) -> None:
        forget_old(self._broker)
        self._broker.sweep(older_than=_SWEEP_SECONDS)

    def _check_uploads(self, stop: threading.Event) -> None:
        while not stop.wait(_CHECK_SECONDS):
            while not stop.is_set() and self._survive_checking():
                pass

    def _survive_checking(self) -> bool:
        """Open one upload; say whether there was one."""
        found = [False]

        def check() -> None:
            found[0] = self._checker.tend()

        return self._survive(check) and found[0]

    def _beat(self, stop: threading.Event) -> None:
        while True:
            self._survive(lambda: self._broker.oversight.beat(self._name))
            if stop.wait(self._settings.heartbeat_seconds):
                return

    def _survive(self, do: Callable[[], None]) -> bool:
        """Do something that must not end the worker; say whether it succeeded."""
        try:
            do()
        except LinkageError as error:
            metrics.HINDERED.inc()
            _log.error("worker is hindered", code=error.code, message=error.message)
            return False
        except Exception as error:
            metrics.HINDERED.inc()
            _log.error("worker is hindered", **problems.described(error))
            return False
        return True


def _gave_up(life: Life) -> str:
    """Return why a workflow will give no result any more, "" where it may."""
    return {Life.ENDED: _ENDED, Life.OUTDATED: _OUTDATED}.get(life, "")


@contextmanager
def _only_one(home: Home, name: str) -> Iterator[None]:
    """Hold the lock of this worker's name; the system drops it when the process dies."""
    if not _NAME.fullmatch(name):
        raise Conflict(
            "this cannot be a worker's name", hint="use small letters, digits and hyphens"
        )
    path: Path = home.identity_file.parent / f"{name}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"a worker named {name!r} is running here", hint="stop it, or give another --name"
            ) from None
        yield
