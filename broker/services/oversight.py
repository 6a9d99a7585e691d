"""Oversight: is the broker well, and what has it done?"""

from __future__ import annotations

import time
from dataclasses import dataclass

from broker.store import audit, runs
from broker.store.engine import Database
from linkage.errors import Unreachable

_WORKER_SILENT_AFTER = 30.0
"""Seconds without a heartbeat after which the worker counts as gone; a long write delays one."""


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """Are database and a worker there?"""

    database: bool
    worker: bool


@dataclass(frozen=True, slots=True)
class Oversight:
    """What an admin or a monitor asks."""

    database: Database

    def vital_signs(self) -> VitalSigns:
        """Return what is reachable; never raises for what is not."""
        try:
            with self.database.read() as connection:
                seen = runs.last_beat(connection)
        except Unreachable:
            return VitalSigns(database=False, worker=False)
        alive = seen is not None and time.time() - seen < _WORKER_SILENT_AFTER
        return VitalSigns(database=True, worker=alive)

    def beat(self, worker: str) -> None:
        """Note that a worker lives. No audit entry: it changes nothing for anybody."""
        with self.database.change() as connection:
            runs.beat(connection, worker, time.time())

    def alive(self, seconds: float) -> list[str]:
        """Return the workers that were seen within the last `seconds`."""
        with self.database.read() as connection:
            return runs.alive_since(connection, time.time() - seconds)

    def audit_page(self, *, after: int, limit: int) -> list[audit.AuditRow]:
        """Return at most `limit` audit entries after number `after`, oldest first."""
        with self.database.read() as connection:
            return audit.page(connection, after=after, limit=limit)
