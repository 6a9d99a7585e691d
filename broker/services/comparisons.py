"""
Two runs side by side: what went into each, what came out, and the links that only one has.

Of COMPARE_RUNS: for admins only, as the reports are (broker.services.runs).
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.policy import Grant
from broker.run_compared import compared
from broker.services.runs import Runs, finished
from broker.store import links
from broker.store.engine import Database
from linkage.errors import Conflict
from linkage.run_messages import RunComparison


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

    def of(self, grant: Grant, first: str, second: str, *, links: bool = True) -> RunComparison:
        """
        Return both runs side by side. links: count those that only one has; of a million that takes
        a quarter of a second. Raises NotFound for a run of another study, Conflict for one that is
        not done, or the same twice.
        """
        self._sequences(grant, first, second)
        found = compared(self.runs.state(grant, first), self.runs.state(grant, second))
        if not links:
            return found
        changes = self.links(grant, first, second)
        return found.model_copy(update={"gained": changes.gained, "lost": changes.lost})

    def links(self, grant: Grant, first: str, second: str) -> LinkChanges:
        """Return how many links only one of two runs has. Raises as `of`."""
        one, other = self._sequences(grant, first, second)
        with self.database.read() as connection:
            gained, lost = links.changed(
                connection, grant.study.id, min(one, other), max(one, other)
            )
        return LinkChanges(gained, lost) if one < other else LinkChanges(lost, gained)

    def _sequences(self, grant: Grant, first: str, second: str) -> tuple[int, int]:
        if first == second:
            raise Conflict("a run is compared with another one", hint="choose two runs")
        with self.database.read() as connection:
            rows = [finished(connection, grant.study.id, one) for one in (first, second)]
        return rows[0].sequence or 0, rows[1].sequence or 0
