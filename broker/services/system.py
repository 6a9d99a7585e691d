"""How the broker does, for its admin: figures of machine and queues, of no study or party."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from broker.blobs import Blobs
from broker.config import Home
from broker.services.oversight import Oversight, Probe
from broker.services.runs import SOFTWARE
from broker.store import audit, runs
from broker.store.engine import Database
from linkage.admin_messages import DiskSpace, RunningStage, SystemState, WorkerSeen
from linkage.audit_chain import AuditHead

_FORGOTTEN_AFTER = 30 * 86_400
"""A worker of another name is no worker that is missing."""
_HEADS_MISSED = 3
"""So many signed heads that did not come are no delay any more."""


@dataclass(frozen=True, slots=True)
class System:
    """What an admin asks about the broker itself. now: Unix seconds."""

    database: Database
    home: Home
    blobs: Blobs
    oversight: Oversight
    now: Callable[[], float] = time.time

    def state(self, probe: Probe) -> SystemState:
        """Return how the broker does. Raises Unreachable where the database does not answer."""
        found = self.oversight.readiness(self.home, self.blobs, probe)
        seen, now = self.oversight.load(), self.now()
        with self.database.read() as connection:
            beats = runs.beats(connection, since=now - _FORGOTTEN_AFTER)
            last, head = audit.last(connection), audit.last_head(connection)
        signed = AuditHead.model_validate_json(head.head) if head else None
        alive = set(self.oversight.alive_now())
        state = SystemState(
            status="ok",
            ails=(),
            software=SOFTWARE,
            now=int(now),
            database="sqlite" if self.database.is_sqlite else "postgresql",
            migrated=found.migrated,
            blobs=found.blobs,
            blob_store="bucket" if self.home.config.blobs.url else "directory",
            disks=tuple(self._disks()),
            queued=dict(seen.queued),
            running=tuple(
                RunningStage(stage=stage, runs=len(began), since=min(began))
                for stage, began in sorted(seen.stages.items())
            ),
            workers=tuple(
                WorkerSeen(name=name, seen_at=at, alive=name in alive) for name, at in beats
            ),
            audit_entries=last.number if last else 0,
            head_number=head.number if head else None,
            head_at=signed.at if signed else None,
        )
        ails = (*(text for text, well in found.reasons() if not well), *self._ails(state))
        return state.model_copy(update={"ails": ails, "status": "degraded" if ails else "ok"})

    def _disks(self) -> Iterator[DiskSpace]:
        for place, free in self.oversight.free_bytes(self.home).items():
            path = self.home.blobs if place == "blobs" else self.home.path
            yield DiskSpace(
                place=place,
                free=free,
                total=_total(path, free),
                kept_free=self.home.config.limits.reserve_bytes,
            )

    def _ails(self, state: SystemState) -> Iterator[str]:
        if not any(worker.alive for worker in state.workers):
            yield "no worker was heard of of late: start one, `linkage-broker worker`"
        every = self.home.config.worker.head_seconds
        since = state.head_at if state.head_at is not None else state.now
        if state.now - since > _HEADS_MISSED * every + 60:
            yield "the audit log's newest signed head is old: look at the worker's log"


def _total(path: object, free: int) -> int:
    try:
        return shutil.disk_usage(str(path)).total
    except OSError:
        return free
