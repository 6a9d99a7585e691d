"""
DBOS, set up as this broker uses it: JSON only, quiet, one fixed identity a worker.

A worker that is killed and started again under its name takes up its workflows where they
stopped; one that stays away loses them to the others (`take_over`). Nothing but JSON is ever
read back from the workflow database: DBOS would unpickle a row that says it is a pickle, and a
pickle runs code, so its unpickling is switched off.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn

import structlog
from dbos import DBOS, DBOSConfig
from dbos._serialization import DBOSPortableJSON, DefaultSerializer
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from broker import metrics, problems
from broker.config import Home
from broker.faults import failure_of
from linkage.errors import PackageRefused, Unreachable

APPLICATION = "commons-linkage-broker"
WORKFLOW_VERSION = "4"
"""Raise it when a change of broker.runs or broker.jobs would misread a half-finished workflow."""

SCHEMA = "dbos"
_MOST_ATTEMPTS = 50
_DROPPED_SECONDS = 10.0
_ENDED = {"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}
_FIRST_WAIT_SECONDS, _LAST_WAIT_SECONDS = 0.5, 16.0
_RESULT_POLL_SECONDS = 0.05
_log = logging.getLogger("dbos")
_ours = structlog.get_logger("linkage.worker")


@dataclass(frozen=True, slots=True)
class Queue:
    """
    A queue of one kind of workflow. function: takes the id of its subject, and what else was
    queued with it. at_once: how many of them a worker runs at a time.
    """

    name: str
    function: Callable[..., Any]
    at_once: int = 1


class Life(Enum):
    """How a workflow is: never queued, going on, ended, or of another version of the software."""

    UNKNOWN = "unknown"
    LIVE = "live"
    ENDED = "ended"
    OUTDATED = "outdated"


class StepFailed(Exception):
    """A step ended in failure for good. failure: cause and remedy."""

    def __init__(self, failure: str) -> None:
        self.failure = failure
        super().__init__(failure)


def migrate_workflows(home: Home) -> None:
    """Make or update DBOS's own tables. Idempotent."""
    migrate_workflows_at(home.workflow_url())


def migrate_workflows_at(url: URL) -> None:
    """Make or update DBOS's own tables in this database. Idempotent."""
    _quiet()
    DBOS.migrate(url.render_as_string(hide_password=False), schema=SCHEMA)


def launch(home: Home, worker: str, queues: Sequence[Queue]) -> None:
    """
    Start DBOS under the worker's name, serving these queues. Raises Unreachable where its
    database does not answer.
    """
    _quiet()
    _refuse_pickles()
    poll = home.config.worker.poll_seconds
    config: DBOSConfig = {
        "name": APPLICATION,
        "system_database_url": _url(home),
        "dbos_system_schema": SCHEMA,
        "executor_id": worker,
        "application_version": WORKFLOW_VERSION,
        "serializer": DBOSPortableJSON,
        "run_migrations": False,
        "enable_otlp": False,
        "log_level": "ERROR",
        "notification_listener_polling_interval_sec": poll,
    }
    DBOS(config=config)
    for queue in queues:
        _register(queue)
    try:
        DBOS.launch()
        for queue in queues:
            DBOS.register_queue(
                queue.name,
                worker_concurrency=queue.at_once,
                polling_interval_sec=poll,
                on_conflict="always_update",
            )
    except DBAPIError as fault:
        raise Unreachable(
            f"the workflow database does not answer ({type(fault.orig).__name__})",
            hint="start the worker again soon; look at the database and its disk",
        ) from None


def enqueue(queue: str, subject: str) -> None:
    """Queue the workflow about `subject`; if there is one already, nothing happens."""
    _enqueue(queue, subject, subject)


def go_on(queue: str, subject: str, part: str) -> str:
    """
    Queue the workflow of a later part of `subject`, which its function gets as a second argument;
    return that workflow's own name. If there is one already, nothing happens.
    """
    name = part_of(subject, part)
    _enqueue(queue, name, subject, part)
    return name


def part_of(subject: str, part: str) -> str:
    """Return the name of the workflow of a later part of `subject`."""
    return f"{subject}-{part}"


def all_of(queue: str, subject: str, count: int, *, first: int = 0) -> None:
    """
    From within a workflow: queue `count` workflows, numbered from `first`, and wait for all of
    them.

    Any worker may run them. Raises StepFailed for the first that failed.
    """
    handles = [_enqueue(queue, f"{subject}-{n}", subject, n) for n in range(first, first + count)]
    ended = [handle.get_result(polling_interval_sec=_RESULT_POLL_SECONDS) for handle in handles]
    for one in ended:
        if one["failure"]:
            raise StepFailed(one["failure"])


def cancel(*subjects: str) -> None:
    """Stop the workflows about these, and all that they queued, at their next step."""
    DBOS.cancel_workflows(list(subjects), cancel_children=True)


def life_of(subject: str) -> Life:
    """Return how the workflow about `subject` is."""
    status = DBOS.get_workflow_status(subject)
    if status is None:
        return Life.UNKNOWN
    if status.status in _ENDED:
        return Life.ENDED
    return Life.LIVE if status.app_version == WORKFLOW_VERSION else Life.OUTDATED


def is_outdated(subject: str) -> bool:
    """Is the workflow about `subject`, ended or not, of another version of the software?"""
    status = DBOS.get_workflow_status(subject)
    return status is not None and status.app_version != WORKFLOW_VERSION


def take_over(alive: Collection[str], worker: str) -> list[str]:
    """
    Queue again what workers that are not `alive` were running, and what this one should be running
    and is not; return those workers' names.

    The latter is left by a database or disk that fails in the moment in which work is handed out:
    it is written down as this worker's, and nobody does it.
    """
    running = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
    left: Mapping[str, str] = {
        one.workflow_id: one.executor_id
        for one in running
        if one.executor_id and one.executor_id not in alive
    }
    mine = {one.workflow_id for one in running if one.executor_id == worker}
    dropped = _dropped.found(mine)
    if left or dropped:
        DBOS.resume_workflows([*left, *dropped])
    return sorted({*left.values(), *([worker] if dropped else [])})


def step(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """
    Run a step inside a workflow: its result, JSON, is kept and never made twice.

    A database that is out of reach is tried again for about half a minute. Raises StepFailed for
    whatever else goes wrong, also when the workflow is replayed.
    """
    began = time.monotonic()
    ended: dict[str, Any] = DBOS.run_step({"name": name}, _guarded, function, args)
    metrics.step_ended(name, time.monotonic() - began, failed="failure" in ended)
    if "failure" in ended:
        raise StepFailed(ended["failure"])
    return ended["result"]


def stop() -> None:
    """Stop taking work. What is unfinished is taken up at the next start."""
    DBOS.destroy(workflow_completion_timeout_sec=0)


class _Dropped:
    """Workflows that are written down as this process's, and that it is not running."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def running(self, workflow: str) -> Iterator[None]:
        with self._lock:
            self._running.add(workflow)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(workflow)

    def found(self, mine: Collection[str]) -> list[str]:
        """Return those of `mine` that did not run whenever this was asked in the last seconds."""
        now = time.monotonic()
        with self._lock:
            idle = [one for one in mine if one not in self._running]
        # Between being handed out and beginning, and between ending and being noted, one is idle.
        self._since = {one: self._since.get(one, now) for one in idle}
        found = [one for one, since in self._since.items() if now - since > _DROPPED_SECONDS]
        for one in found:
            del self._since[one]
        return found


_dropped = _Dropped()


def _register(queue: Queue) -> None:
    @DBOS.workflow(name=queue.name, max_recovery_attempts=_MOST_ATTEMPTS)
    def workflow(*args: Any) -> dict[str, str]:  # DBOS marks the function, which a method forbids
        try:
            with _dropped.running(str(DBOS.workflow_id)):
                queue.function(*args)
        except StepFailed as failed:
            return {"failure": failed.failure}
        return {"failure": ""}


def _enqueue(queue: str, workflow_id: str, *args: Any) -> Any:
    return DBOS.enqueue_workflow_with_options(
        {
            "queue_name": queue,
            "workflow_name": queue,
            "workflow_id": workflow_id,
            "app_version": WORKFLOW_VERSION,
        },
        *args,
    )


def _guarded(function: Callable[..., Any], args: tuple[Any, ...]) -> dict[str, Any]:
    """Return result or failure: an exception would leave its text in the workflow database."""
    wait = _FIRST_WAIT_SECONDS
    while True:
        try:
            return {"result": function(*args)}
        except Unreachable as error:
            if wait > _LAST_WAIT_SECONDS:
                return {"failure": failure_of(error)}
            time.sleep(wait)
            wait *= 2
        except Exception as error:
            return {"failure": failure_of(error)}


def _url(home: Home) -> str:
    return home.workflow_url().render_as_string(hide_password=False)


class _Described(logging.Handler):
    """Logs what DBOS has to say as we log, without the values that its texts may hold."""

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        place = {"places": [f"{record.pathname}:{record.lineno}"]}
        told = problems.described(cause) if cause else place
        _ours.warning("the workflow engine complains", **told)


def _quiet() -> None:
    # DBOS would print to the console by itself, addresses of its own service among it.
    _log.setLevel(logging.ERROR)
    _log.handlers[:] = [_Described()]
    _log.propagate = False


def _refuse_pickles() -> None:
    def refuse(_self: object, _data: str) -> NoReturn:
        raise PackageRefused(
            "the workflow database holds a pickle",
            hint="it was tampered with: restore it from your backup",
        )

    DefaultSerializer.deserialize = refuse  # type: ignore[method-assign,assignment]
