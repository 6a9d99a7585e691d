"""What releases have in the tables: read for all that a page shows at once, not one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.store import jobs, releases, runs
from broker.store.engine import Connection

Made = tuple[runs.RunRow | None, float | None, float | None]
"""A run, and the precision and recall that are estimated of it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """
    mark: of the study, `releases.mark`. gone, pins: by release, as `releases.affected_of` and
    `pins_of`. made: by run.
    """

    mark: str
    gone: Mapping[str, dict[str, tuple[int, int]]]
    pins: Mapping[str, dict[str, tuple[str, ...]]]
    made: Mapping[str, Made]

    @classmethod
    def of(
        cls, connection: Connection, rows: Sequence[jobs.JobRow], newest: Iterable[str]
    ) -> Facts:
        """Read what these releases of one study have. newest: those in whose place they may be."""
        ids = [row.id for row in rows]
        return cls(
            mark=releases.mark(connection, rows[0].study_id) if rows else "",
            gone=releases.affected_among(connection, {*ids, *newest}),
            pins=releases.pins_among(connection, ids),
            made={one: _made(connection, one) for one in {row.run_id for row in rows}},
        )


def _made(connection: Connection, run_id: str) -> Made:
    run = runs.find(connection, run_id)
    report = run.read_report() if run else {}
    return run, report.get("estimated_precision"), report.get("estimated_recall")
