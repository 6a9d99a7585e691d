"""Oversight: is the broker well, and what has it done?"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.blobs import Blobs
from broker.config import Home
from broker.store import audit, load, runs
from broker.store.engine import Database
from broker.store.load import Load
from linkage.audit_chain import AuditHead
from linkage.errors import BrokerRefused, LinkageError, Unreachable

_WORKER_SILENT_AFTER = 30.0
"""Seconds without a heartbeat after which the worker counts as gone; a long write delays one."""
_PROBED_SECONDS = 5.0
"""How long what a probe of the blobs found holds: anybody may ask whether the broker is ready."""


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """Are database and a worker there?"""

    database: bool
    worker: bool


@dataclass(frozen=True, slots=True)
class Readiness:
    """
    database: it answers. migrated: it has this version's tables. blobs: they can be written. disk:
    the reserve is there. worker: one was heard of.
    """

    database: bool
    migrated: bool
    blobs: bool
    disk: bool
    worker: bool

    @property
    def ready(self) -> bool:
        """Can callers be served? Without a worker they can: what they ask for waits."""
        return all(there for _, there in self.reasons())

    def reasons(self) -> Sequence[tuple[str, bool]]:
        """Return what can be missing, in words, and whether it is there."""
        return (
            ("the database does not answer", self.database),
            ("the database is not that of this version", self.migrated or not self.database),
            ("packages cannot be stored", self.blobs),
            ("the disk is nearly full", self.disk),
        )


@dataclass(slots=True)
class Probe:
    """When the blobs were last tried, by the monotonic clock, and whether that went well."""

    at: float = float("-inf")
    well: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a monitor may know; see broker.store.load.Load. head_at: of the newest signed head."""

    queued: Mapping[str, int]
    stages: Mapping[str, list[float]]
    workers: int
    beat: float | None
    head_at: float | None


@dataclass(frozen=True, slots=True)
class Oversight:
    """What an admin or a monitor asks."""

    database: Database

    def vital_signs(self) -> VitalSigns:
        """Return what is reachable; never raises for what is not."""
        try:
            alive = self.alive_now()
        except Unreachable:
            return VitalSigns(database=False, worker=False)
        return VitalSigns(database=True, worker=bool(alive))

    def readiness(self, home: Home, blobs: Blobs, probe: Probe) -> Readiness:
        """Return whether callers can be served; never raises for what is out of reach."""
        signs = self.vital_signs()
        migrated = False
        if signs.database:
            try:
                self.database.require_migrated()
                migrated = True
            except (BrokerRefused, Unreachable):
                pass
        if time.monotonic() - probe.at > _PROBED_SECONDS:
            probe.well, probe.at = _are_usable(blobs), time.monotonic()
        free = self.free_bytes(home).values()
        return Readiness(
            database=signs.database,
            migrated=migrated,
            blobs=probe.well,
            disk=bool(free) and min(free) >= home.config.limits.reserve_bytes,
            worker=signs.worker,
        )

    def free_bytes(self, home: Home) -> dict[str, int]:
        """Return the free bytes of the disks that this broker writes to, by what lies there."""
        places = {"blobs": home.blobs}
        url = home.database_url()
        if url.get_backend_name() == "sqlite" and url.database:
            places["database"] = Path(url.database).parent
        found = {}
        for name, place in places.items():
            try:
                found[name] = shutil.disk_usage(place).free
            except OSError:
                found[name] = 0
        return found

    def load(self) -> Seen:
        """Return how much waits and how old what goes on is. Raises Unreachable."""
        now = time.time()
        with self.database.read() as connection:
            found: Load = load.now(
                connection, since=now - _WORKER_SILENT_AFTER, until=now + _WORKER_SILENT_AFTER
            )
            head = audit.last_head(connection)
        at = float(AuditHead.model_validate_json(head.head).at) if head else None
        return Seen(found.queued, found.stages, found.workers, found.beat, at)

    def beat(self, worker: str) -> None:
        """Note that a worker lives. No audit entry: it changes nothing for anybody."""
        with self.database.change() as connection:
            runs.beat(connection, worker, time.time())

    def alive(self, seconds: float) -> list[str]:
        """
        Return the workers that were seen within the last `seconds`. One that was seen in the
        future, by a clock that was put back since, writes a new time at once if it lives.
        """
        now = time.time()
        with self.database.read() as connection:
            return runs.alive_since(connection, now - seconds, until=now + seconds)

    def alive_now(self) -> list[str]:
        """Return the workers that were heard of of late."""
        return self.alive(_WORKER_SILENT_AFTER)

    def audit_page(self, *, after: int, limit: int) -> list[audit.AuditRow]:
        """Return at most `limit` audit entries after number `after`, oldest first."""
        with self.database.read() as connection:
            return audit.page(connection, after=after, limit=limit)


def _are_usable(blobs: Blobs) -> bool:
    try:
        blobs.store.require_usable()
        with blobs.receiving(bounded=False) as trial:
            trial.write(b"ready?", cap=16)
            trial.reader().close()
    except (LinkageError, OSError):
        return False
    return True
