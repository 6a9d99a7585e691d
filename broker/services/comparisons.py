"""
Two runs side by side: what went into each, what came out, and the links that only one has.

For admins only, as the reports are (broker.services.runs).
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.policy import Grant
from broker.services.runs import Runs, finished
from broker.store import links
from broker.store.engine import Database
from linkage.errors import Conflict
from linkage.run_messages import RunState


@dataclass(frozen=True, slots=True)
class LinkChanges:
    """gained: links that only the second run has. lost: those that only the first has."""

    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class Comparisons:
    """What differs between two runs of a study that are done."""

    database: Database
    runs: Runs

    def of(self, grant: Grant, first: str, second: str) -> tuple[RunState, RunState]:
        """
        Return both runs with their reports. Raises NotAllowed for all but admins, NotFound for a
        run of another study, Conflict for one that is not done, or the same twice.
        """
        self._sequences(grant, first, second)
        return self.runs.state(grant, first), self.runs.state(grant, second)

    def links(self, grant: Grant, first: str, second: str) -> LinkChanges:
        """Return how many links only one of two runs has. Raises as `of`."""
        one, other = self._sequences(grant, first, second)
        with self.database.read() as connection:
            gained, lost = links.changed(
                connection, grant.study.id, min(one, other), max(one, other)
            )
        return LinkChanges(gained, lost) if one < other else LinkChanges(lost, gained)

    def _sequences(self, grant: Grant, first: str, second: str) -> tuple[int, int]:
        grant.require_admin()
        if first == second:
            raise Conflict("a run is compared with another one", hint="choose two runs")
        with self.database.read() as connection:
            rows = [finished(connection, grant.study.id, one) for one in (first, second)]
        return rows[0].sequence or 0, rows[1].sequence or 0
