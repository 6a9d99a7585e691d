"""
DBOS, set up as this broker uses it: JSON only, quiet, one fixed identity a worker.

A worker that is killed and started again under its name takes up its workflows where they
stopped. Nothing but JSON is ever read back from the workflow database: DBOS would unpickle a
row that says it is a pickle, and a pickle runs code, so its unpickling is switched off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn

from dbos import DBOS, DBOSConfig
from dbos._serialization import DBOSPortableJSON, DefaultSerializer

from broker.config import Home
from broker.faults import failure_of
from linkage.errors import PackageRefused, Unreachable

APPLICATION = "commons-linkage-broker"
WORKFLOW_VERSION = "1"
"""Raise it when a change of broker.runs or broker.jobs would misread a half-finished workflow."""

SCHEMA = "dbos"
_FINISHED = {"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}
_FIRST_WAIT_SECONDS, _LAST_WAIT_SECONDS = 0.5, 16.0
_log = logging.getLogger("dbos")


def migrate_workflows(home: Home) -> None:
    """Make or update DBOS's own tables. Idempotent."""
    _quiet()
    DBOS.migrate(_url(home), schema=SCHEMA)


def launch(home: Home, worker: str, workflows: dict[str, Callable[[str], None]]) -> None:
    """
    Start DBOS under the worker's name. workflows: by queue; each takes the id of its subject.

    A queue runs one workflow at a time: a run uses every core by itself.
    """
    _quiet()
    _refuse_pickles()
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
        "notification_listener_polling_interval_sec": home.config.worker.poll_seconds,
    }
    DBOS(config=config)
    registered = {
        queue: DBOS.workflow(name=queue)(_as_function(made)) for queue, made in workflows.items()
    }
    DBOS.launch()
    for queue in registered:
        DBOS.register_queue(
            queue,
            worker_concurrency=1,
            polling_interval_sec=home.config.worker.poll_seconds,
            on_conflict="always_update",
        )


def _as_function(workflow: Callable[[str], None]) -> Callable[[str], None]:
    """Return a plain function: DBOS marks what it registers, and a bound method takes no mark."""

    def run(subject: str) -> None:
        workflow(subject)

    return run


def _register(queue: str, function: Callable[[str], None]) -> None:
    @DBOS.workflow(name=queue)
    def workflow(subject: str) -> None:  # DBOS marks the function, which a method forbids
        function(subject)


def enqueue(queue: str, subject: str) -> None:
    """Queue the workflow about `subject`; if there is one already, nothing happens."""
    DBOS.enqueue_workflow_with_options(
        {"queue_name": queue, "workflow_name": queue, "workflow_id": subject}, subject
    )


def has_ended(subject: str) -> bool:
    """Has the workflow about `subject` ended, in whatever way?"""
    status = DBOS.get_workflow_status(subject)
    return status is not None and status.status in _FINISHED


class StepFailed(Exception):
    """A step ended in failure for good. failure: cause and remedy."""

    def __init__(self, failure: str) -> None:
        self.failure = failure
        super().__init__(failure)


def step(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """
    Run a step inside a workflow: its result, JSON, is kept and never made twice.

    A database that is out of reach is tried again for about half a minute. Raises StepFailed for
    whatever else goes wrong, also when the workflow is replayed.
    """
    ended: dict[str, Any] = DBOS.run_step({"name": name}, _guarded, function, args)
    if "failure" in ended:
        raise StepFailed(ended["failure"])
    return ended["result"]


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


def stop() -> None:
    """Stop taking work. What is unfinished is taken up at the next start."""
    DBOS.destroy(workflow_completion_timeout_sec=0)


def _url(home: Home) -> str:
    return home.workflow_url().render_as_string(hide_password=False)


def _quiet() -> None:
    # DBOS prints to the console by itself, addresses of its own service among it.
    _log.setLevel(logging.ERROR)


def _refuse_pickles() -> None:
    def refuse(_self: object, _data: str) -> NoReturn:
        raise PackageRefused(
            "the workflow database holds a pickle",
            hint="it was tampered with: restore it from your backup",
        )

    DefaultSerializer.deserialize = refuse  # type: ignore[method-assign,assignment]
