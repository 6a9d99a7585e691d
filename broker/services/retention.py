"""
Retention: what is deleted by itself, and when.

Each clock is a rule in days, of the broker's config.toml or the signed study file; where both have
one the shorter counts. The audit log, the signed studies and the results of runs have no clock:
they stay until the study is destroyed (broker.destruction).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from broker import audit
from broker.blobs import Blobs
from broker.config import Home
from broker.registered import RegisteredStudy
from broker.store import retention, studies
from broker.store.engine import Connection, Database
from linkage.admin_messages import RetentionClock
from linkage.participation import RetentionRules

DAY = 86_400
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Clock:
    """
    One kind of thing: the rule's name, what has it, how it is forgotten. blobs: it is in some.
    """

    rule: str
    find: Callable[[Connection], list[retention.Found]]
    drop: Callable[[Connection, str, str], list[str]]
    blobs: bool = True


CLOCKS = (
    Clock("packages_days", retention.packages_of_closed, retention.drop_package),
    Clock("old_epochs_days", retention.packages_of_old_epochs, retention.drop_package),
    Clock("intermediates_days", retention.intermediates, retention.drop_intermediates),
    Clock("inbox_days", retention.inbox, retention.drop_item),
    Clock("inbox_days", retention.proposed, retention.drop_proposal, blobs=False),
)


@dataclass(frozen=True, slots=True)
class Due:
    """Something that a rule will delete. at: Unix seconds, from which on."""

    study_id: str
    rule: str
    subject: str
    at: int
    blobs: int


@dataclass(frozen=True, slots=True)
class Retention:
    """The clocks of this broker. now: Unix seconds."""

    database: Database
    blobs: Blobs
    home: Home
    now: Callable[[], float] = time.time

    def due(self) -> list[Due]:
        """Return everything that a clock runs on, soonest first; deletes nothing."""
        found: list[Due] = []
        with self.database.read() as connection:
            rules = {row.id: self._rules(row) for row in studies.all_studies(connection)}
            for clock in CLOCKS:
                for one in clock.find(connection):
                    days = getattr(rules[one.study_id], clock.rule)
                    if days is not None:
                        at = one.since + days * DAY
                        due = Due(one.study_id, clock.rule, one.subject, at, one.blobs)
                        found.append(due)
        return sorted(found, key=lambda due: (due.at, due.study_id, due.rule, due.subject))

    def clocks(self) -> list[RetentionClock]:
        """Return what each rule runs on in each study, by study and rule; deletes nothing."""
        now, found = self.now(), defaultdict[tuple[str, str], list[Due]](list)
        for due in self.due():
            found[due.study_id, due.rule].append(due)
        return [
            RetentionClock(
                study_id=study_id,
                rule=rule,
                things=len(things),
                blobs=sum(one.blobs for one in things),
                due=sum(one.at <= now for one in things),
                next_at=min((one.at for one in things if one.at > now), default=None),
            )
            for (study_id, rule), things in sorted(found.items())
        ]

    def enforce(self) -> int:
        """
        Delete what is due, some at a time, each few in one transaction with its audit entry; return
        how many. Blobs go after the rows: what a killed worker leaves no row names, and is swept.
        """
        now, gone = self.now(), 0
        ready = [due for due in self.due() if due.at <= now]
        for start in range(0, len(ready), _AT_ONCE):
            gone += self._delete(ready[start : start + _AT_ONCE])
        return gone

    def _delete(self, ready: list[Due]) -> int:
        clocks = {(clock.rule, clock.blobs): clock for clock in CLOCKS}
        blobs: list[str] = []
        subjects, counts = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        with self.database.change() as connection:
            for due in ready:
                drop = clocks[due.rule, due.blobs > 0].drop
                dropped = drop(connection, due.study_id, due.subject)
                if dropped or not due.blobs:
                    subjects[due.study_id, due.rule] += 1
                    counts[due.study_id, due.rule] += len(dropped)
                blobs += dropped
            for (study_id, rule), number in subjects.items():
                audit.record(
                    connection,
                    actor="worker",
                    action="retention rule applied",
                    study_id=study_id,
                    detail={
                        "rule": rule,
                        "deleted": number,
                        "blobs": counts[study_id, rule],
                    },
                )
        for blob_id in blobs:
            self.blobs.delete(blob_id)
        return sum(subjects.values())

    def _rules(self, row: studies.StudyRow) -> RetentionRules:
        own: RetentionRules = self.home.config.retention
        return own.shorter(RegisteredStudy.of(row).config.retention)
