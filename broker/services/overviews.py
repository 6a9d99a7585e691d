"""
What waits in a study, for the page that begins with it: each part for who may read the thing
itself, so every method takes the grant of that.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from broker.policy import Grant
from broker.registered import RegisteredStudy
from broker.services import releases, standing
from broker.services.agreements import utc_today
from broker.store import governance, jobs, overviews, question_pages, runs, studies
from broker.store.engine import Connection, Database
from linkage.admin_messages import DestructionOrdered

_MOST = 100
"""Questions that are looked at; whoever has more waiting knows it."""


@dataclass(frozen=True, slots=True)
class Life:
    """Where a study is in its life. since: Unix seconds, None where older software did not say."""

    state: str
    since: int | None
    before: str
    registered_at: int


@dataclass(frozen=True, slots=True)
class NewestRun:
    """The newest run. newer: a dataset version became complete after it was asked for."""

    run_id: str
    state: str
    newer: bool


@dataclass(frozen=True, slots=True)
class Overviews:
    """What waits in the studies."""

    database: Database

    def life(self, grant: Grant) -> Life:
        """Return where the study is in its life. Of READ_STUDY."""
        with self.database.read() as connection:
            row = studies.find_study(connection, grant.study.id)
        if row is None:
            return Life("destroyed", None, "", 0)
        return Life(row.state, row.state_since, row.state_before or "", row.registered_at)

    def newest_run(self, grant: Grant) -> NewestRun | None:
        """Return the study's newest run. Of READ_RUN."""
        study = grant.study
        with self.database.read() as connection:
            found = runs.page(connection, study.id, limit=1)
            last = overviews.newest_upload(connection, study.id, study.config.study.epoch)
        if not found:
            return None
        row = found[0]
        return NewestRun(row.id, row.state, last is not None and last > row.started_at)

    def consents(self, grant: Grant) -> dict[str, tuple[str, ...]]:
        """Return by waiting release the parties whose consent is missing. Of READ_RELEASE."""
        study, found = grant.study, {}
        with self.database.read() as connection:
            for row in overviews.of_state(connection, study.id, "release", releases.WAITING):
                said = jobs.approvals(connection, row.id)
                parties = (party.id for party in study.config.party)
                found[row.id] = tuple(one for one in parties if said.get(one) != "approve")
        return found

    def questions(self, grant: Grant, party: str) -> tuple[str, ...]:
        """Return the questions that wait for a party's decision. Of READ_QUESTION."""
        study = grant.study
        with self.database.read() as connection:
            rows = overviews.undecided(connection, study.id, party)[:_MOST]
            return tuple(_that_stand(connection, study, rows, today=utc_today()))

    def reviews(self, grant: Grant) -> tuple[str, ...]:
        """Return the runs whose pairs in doubt are reviewed now. Of READ_REVIEW."""
        with self.database.read() as connection:
            return tuple(overviews.open_reviews(connection, grant.study.id))

    def destruction(self, grant: Grant) -> DestructionOrdered | None:
        """Return the order of the study's destruction. Of READ_DESTRUCTION."""
        with self.database.read() as connection:
            row = governance.find_destruction(connection, grant.study.id)
        return _ordered(row) if row else None

    def destructions(self) -> list[DestructionOrdered]:
        """Return every order, newest first; for the broker's admin."""
        with self.database.read() as connection:
            return [_ordered(row) for row in governance.destructions(connection)]


def _ordered(row: governance.DestructionRow) -> DestructionOrdered:
    """Return the order of a destruction as a message."""
    return DestructionOrdered(
        study_id=row.study_id,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        finished_at=row.finished_at,
    )


def _that_stand(
    connection: Connection, study: RegisteredStudy, rows: Sequence[jobs.JobRow], *, today: dt.date
) -> Iterator[str]:
    """Yield which of these questions may still be answered; read for all of them at once."""
    ids = [row.id for row in rows]
    decided = question_pages.decisions(connection, ids)
    withdrawn = standing.withdrawn_of(connection, question_pages.deliveries(connection, ids))
    for row in rows:
        decisions = standing.decisions_in(decided.get(row.id, {}))
        stop = standing.stop_of(row, decisions, withdrawn.get(row.id, ""), today=today)
        if not (stop or standing.other_epoch(study, row)):
            yield row.id
