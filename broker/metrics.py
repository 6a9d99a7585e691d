"""
What a monitor may know, for Prometheus: how the broker does, never what it holds.

Labels are route templates, statuses, stages and kinds of steps: no study, no party, no id. Nothing
counts links, matches or persons, for such counts would let a party probe with guesses. It is served
on a port of its own, for scrapers only (`[metrics]`); docs/operations.md says what each is for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client import start_http_server as _listen
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from linkage.errors import LinkageError, Unreachable

if TYPE_CHECKING:
    from broker.container import Broker

REGISTRY = CollectorRegistry()
"""Of this process; not the library's own, which any import could add to."""

ProcessCollector(registry=REGISTRY)
REQUESTS = Counter(
    "linkage_requests", "Requests answered.", ("method", "route", "status"), registry=REGISTRY
)
REQUEST_SECONDS = Histogram(
    "linkage_request_seconds",
    "Time to answer, by route.",
    ("route",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 60),
    registry=REGISTRY,
)
UPLOADED = Counter("linkage_upload_bytes", "Bytes of bodies taken by PUT.", registry=REGISTRY)
FAILED_SIGN_INS = Counter(
    "linkage_failed_sign_ins", "Requests to sign in that were refused.", registry=REGISTRY
)
STEP_SECONDS = Histogram(
    "linkage_step_seconds",
    "Time of a worker's finished steps.",
    ("step",),
    buckets=(0.1, 1, 10, 60, 300, 1800, 7200, 43_200),
    registry=REGISTRY,
)
FAILED_STEPS = Counter(
    "linkage_failed_steps", "Steps of a worker that failed for good.", ("step",), registry=REGISTRY
)
HINDERED = Counter(
    "linkage_worker_hindered", "Times the worker could not do its rounds.", registry=REGISTRY
)
_METHODS = {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}
_REFUSED = frozenset({401, 403, 429})
_SIGN_INS = {
    **dict.fromkeys(
        (
            ("POST", "/v1/token"),
            ("POST", "/v1/session"),
            ("GET", "/v1/session/provider/back"),
            ("POST", "/v1/invitations/open"),
            ("POST", "/v1/invitations/accept"),
            ("POST", "/sign-in"),
        ),
        _REFUSED,
    ),
    # The portal's pages answer a code that opens nothing like any form that does not hold.
    **dict.fromkeys(
        (("POST", "/invitation"), ("POST", "/invitation/accept")), _REFUSED | frozenset({422})
    ),
}
"""Where somebody signs in, and the statuses that say that nobody did."""


def answered(method: str, route: str, status: int, seconds: float, size: int) -> None:
    """Count one request. route: its template. size: bytes of its body."""
    known = method if method in _METHODS else "other"
    REQUESTS.labels(known, route, str(status)).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)
    if known == "PUT" and 200 <= status < 300:
        UPLOADED.inc(size)
    if status in _SIGN_INS.get((known, route), ()):
        FAILED_SIGN_INS.inc()


def step_ended(name: str, seconds: float, *, failed: bool) -> None:
    """Count one step. name: its first word is kept, for what follows may be a party's name."""
    kind = name.partition(" ")[0]
    STEP_SECONDS.labels(kind).observe(seconds)
    if failed:
        FAILED_STEPS.labels(kind).inc()


class BrokerCollector(Collector):
    """What the database and the disk say at the moment of asking."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield what can be said; without the database that is little."""
        for place, free in self._broker.oversight.free_bytes(self._broker.home).items():
            yield _gauge("linkage_disk_free_bytes", "Free space.", free, place=place)
        try:
            seen = self._broker.oversight.load()
        except (LinkageError, Unreachable):
            yield _gauge("linkage_database_up", "1 where the database answers.", 0)
            return
        now = time.time()
        yield _gauge("linkage_database_up", "1 where the database answers.", 1)
        queues = GaugeMetricFamily("linkage_queue", "Waiting, by kind.", labels=("kind",))
        for kind, waiting in seen.queued.items():
            queues.add_metric((kind,), waiting)
        yield queues
        stages = GaugeMetricFamily("linkage_runs_in_stage", "Runs, by stage.", labels=("stage",))
        ages = GaugeMetricFamily(
            "linkage_run_stage_age_seconds", "Of the run longest in it.", labels=("stage",)
        )
        for stage, began in seen.stages.items():
            stages.add_metric((stage,), len(began))
            ages.add_metric((stage,), max(now - one for one in began))
        yield stages
        yield ages
        yield _gauge("linkage_workers", "Workers heard of of late.", seen.workers)
        if seen.beat is not None:
            age = max(0.0, now - seen.beat)
            yield _gauge("linkage_worker_heartbeat_age_seconds", "Of the newest.", age)
        if seen.head_at is not None:
            age = max(0.0, now - seen.head_at)
            yield _gauge("linkage_audit_head_age_seconds", "Of the newest signed head.", age)


def listen(broker: Broker, *, host: str, port: int) -> int:
    """
    Serve the metrics, in a thread, on a port of their own; return it. Raises Unreachable where the
    port is taken.
    """
    REGISTRY.register(BrokerCollector(broker))
    try:
        server, _ = _listen(port, addr=host, registry=REGISTRY)
    except OSError as fault:
        raise Unreachable(
            f"cannot listen on {host} port {port} for metrics ({fault.strerror})",
            hint="another program has it; choose another port in the table [metrics]",
        ) from None
    return int(server.server_port)


def _gauge(name: str, about: str, value: float, **labels: str) -> GaugeMetricFamily:
    made = GaugeMetricFamily(name, about, labels=tuple(labels))
    made.add_metric(tuple(labels.values()), value)
    return made
