"""
Reviews, the worker's part outside of runs: showing the cases, and judging the answers.

The server asks for both by a state; a worker does it within a second. While a review is open the
database holds field agreements under random ids; what they are about, and which answers are known,
is open in the worker's memory only, and only once the review is closed.
"""

from __future__ import annotations

import json
import time
from typing import Any

import structlog

from broker import audit, problems
from broker.container import Broker
from broker.faults import failure_of
from broker.review_cases import CASES, DECISIONS
from broker.scratch import Scratch
from broker.store import reviews, runs
from broker.store.engine import Connection
from broker.store.reviews import CLOSED, CLOSING, FAILED, OPEN, OPENING, CaseRow, ReviewRow
from linkage.errors import Unreachable
from linkage.matching.review_cases import ShownCase, cases_from_json
from linkage.matching.reviewed import Decision, decisions_to_json
from linkage.review import Judged, Reading, judge
from linkage.sealing import KeyHolder

_log = structlog.get_logger("linkage.worker")


class ReviewTender:
    """Opens and closes reviews. identity: the broker's own private keys."""

    def __init__(self, broker: Broker, identity: KeyHolder) -> None:
        self._broker, self._identity = broker, identity

    def tend(self) -> None:
        """Do what is asked for. Several workers may: each change first looks whether it is due."""
        with self._broker.database.read() as connection:
            due = reviews.in_state(connection, OPENING, CLOSING)
        for row in due:
            try:
                (self._open if row.state == OPENING else self._close)(row)
            except Unreachable:
                raise
            except Exception as error:
                _log.error("a review is hindered", run=row.run_id, **problems.described(error))
                self._give_up(row, failure_of(error))

    def _open(self, row: ReviewRow) -> None:
        cases = [
            CaseRow(
                run_id=row.run_id,
                case_id=one.case.case_id,
                one=one.parties[0],
                other=one.parties[1],
                fields=json.dumps(one.fields),
            )
            for one in self._cases(row)
        ]
        with self._broker.database.change() as connection:
            if not _is(connection, row, OPENING):
                return
            reviews.add_cases(connection, cases)
            reviews.change(connection, row.run_id, state=OPEN)
            _record(connection, row, "review shown", cases=len(cases))

    def _close(self, row: ReviewRow) -> None:
        shown = self._cases(row)
        with self._broker.database.read() as connection:
            run = runs.find(connection, row.run_id)
            readings = [
                Reading(one.case_id, one.reading, one.reviewer, one.answer)  # type: ignore[arg-type]
                for one in reviews.decisions(connection, row.run_id)
            ]
        judged = judge([one.case for one in shown], readings)
        figures = {**judged.figures}
        figures["precision"] = {
            **figures["precision"],
            "estimated": _estimated(json.loads(run.report)) if run and run.report else None,
        }
        dropped: list[str] = []

        def close(connection: Connection) -> bool:
            if not _is(connection, row, CLOSING):
                return False
            now = int(time.time())
            reviews.change(
                connection,
                row.run_id,
                state=CLOSED,
                closed_at=now,
                result=json.dumps(figures),
            )
            reviews.drop_cases(connection, row.run_id)
            dropped.extend(runs.drop_kept(connection, (CASES,), run_id=row.run_id))
            _record(connection, row, "review closed", decided=len(judged.decided))
            return True

        decided = decisions_to_json(_decisions(row, shown, judged))
        self._scratch(row).put_all({DECISIONS: decided}, close)
        for blob_id in dropped:
            self._broker.blobs.delete(blob_id)

    def _give_up(self, row: ReviewRow, failure: str) -> None:
        with self._broker.database.change() as connection:
            if _is(connection, row, row.state):
                reviews.change(connection, row.run_id, state=FAILED, failure=failure)
                _record(connection, row, "review failed")

    def _cases(self, row: ReviewRow) -> list[ShownCase]:
        return cases_from_json(self._scratch(row).get(CASES))

    def _scratch(self, row: ReviewRow) -> Scratch:
        return Scratch(self._broker, self._identity, row.study_id, row.run_id)


def _is(connection: Connection, row: ReviewRow, state: str) -> bool:
    now = reviews.find(connection, row.run_id)
    return now is not None and now.state == state


def _decisions(row: ReviewRow, shown: list[ShownCase], judged: Judged) -> list[Decision]:
    return [
        Decision(
            name=f"{row.run_id}/{one.case.case_id}",
            parties=one.parties,
            pseudonyms=one.pseudonyms,
            log_odds=judged.decided[one.case.case_id],
        )
        for one in shown
        if one.case.case_id in judged.decided
    ]


def _estimated(report: dict[str, Any]) -> dict[str, float]:
    """Return the precision that the model estimates of the run's links, with its interval."""
    chosen = report["overall"]["chosen"]
    value, half = chosen["precision"], chosen["precision_interval"]
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def _record(connection: Connection, row: ReviewRow, action: str, **detail: int) -> None:
    audit.record(
        connection,
        actor="worker",
        action=action,
        study_id=row.study_id,
        subject=row.run_id,
        detail=detail,
    )
