"""
Clerical reviews, the server's part: one case after another to each reviewer, and no answer twice.

Two reviewers read each case, a third where they disagree. Nobody sees what another has said, nor
whether anybody has read a case. The server does not know what a case is about, nor which of them
have known answers (broker.reviewing).
"""

from __future__ import annotations

import hashlib
import heapq
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from broker import audit
from broker.policy import Grant
from broker.services import uses
from broker.services.runs import finished
from broker.store import reviews, runs
from broker.store.engine import Connection, Database
from broker.store.reviews import CLOSED, CLOSING, OPEN, OPENING, CaseRow, DecisionRow, ReviewRow
from linkage.errors import Conflict, NotAllowed, NotFound
from linkage.review import ANSWERS, READINGS, Answer, agreement_counted, verdict
from linkage.review_messages import (
    FieldAgreement,
    NextCase,
    OwnDecision,
    ReviewCase,
    ReviewState,
    Standing,
)
from linkage.study import FIELDS

CONSOLE = "console/"
"""Before the name of whoever reviews at the console."""
_SHOWN = 10
"""Of what is only shown to choose from, the newest."""


@dataclass(frozen=True, slots=True)
class Reviews:
    """The reviews of the studies' runs."""

    database: Database

    def open(self, grant: Grant, run_id: str | None, reviewers: Sequence[str] = ()) -> ReviewState:
        """
        Open the review of a finished run, the newest without run_id. reviewers: who may review at
        the console; opened again, they are added.

        Raises Conflict where the study allows none, or there is nothing to show of the run.
        """
        with self.database.change() as connection:
            run = finished(connection, grant.study.id, run_id or "")
            uses.require_of_run(connection, grant.study, "review", run)
            found = reviews.find(connection, run.id)
            if found is None:
                found = self._opened(connection, grant, run)
            named = json.loads(found.reviewers)
            if added := sorted(set(reviewers) - set(named)):
                both = json.dumps(sorted({*named, *added}))
                reviews.change(connection, run.id, reviewers=both)
                _record(connection, grant, run.id, "reviewers named", names=", ".join(added))
            return _state(connection, _existing(connection, grant, run.id), grant)

    def _opened(self, connection: Connection, grant: Grant, run: runs.RunRow) -> ReviewRow:
        if grant.study.config.reviews is None:
            raise Conflict(
                "the signed study allows no review",
                hint="the custodian adds a table [review] and signs the next epoch",
            )
        if runs.find_intermediate(connection, run.id, runs.REVIEW_CASES) is None:
            told = run.read_report().get("review") or {}
            why = told.get("reason", "it was made before reviews, or decides anew about another's")
            raise Conflict(
                f"there is nothing to show of {run.id}: {why}", hint="review another run, or none"
            )
        row = ReviewRow(
            run_id=run.id,
            study_id=grant.study.id,
            state=OPENING,
            reviewers="[]",
            opened_at=int(time.time()),
        )
        reviews.add(connection, row)
        _record(connection, grant, run.id, "review opened")
        return row

    def all(self, grant: Grant) -> list[ReviewState]:
        """Return the study's reviews, newest first."""
        with self.database.read() as connection:
            rows = reviews.of_study(connection, grant.study.id)
            return [_state(connection, row, grant) for row in rows]

    def state(
        self, grant: Grant, run_id: str, reviewer: str = "", *, left: bool = True
    ) -> ReviewState:
        """
        Return how far a review is, and once closed what came out. left: count what is left for the
        caller; else 0 is told. Raises NotFound.
        """
        with self.database.read() as connection:
            row = _existing(connection, grant, run_id)
            return _state(connection, row, grant, reviewer, left=left)

    def to_open(self, grant: Grant) -> list[tuple[str, int | None]]:
        """Return the newest runs that could be reviewed and are not: id, and when each ended."""
        if grant.study.config.reviews is None:
            return []
        with self.database.read() as connection:
            return reviews.to_open(connection, grant.study.id, most=_SHOWN)

    def next_case(self, grant: Grant, run_id: str, reviewer: str = "") -> NextCase:
        """
        Return a case that the reviewer has not read and that needs another reading.

        reviewer: who reviews at the console; else it is the caller. The order is each reviewer's
        own. Raises NotFound, Conflict where the review is not open, NotAllowed for who may not.
        """
        found, left = self.upcoming(grant, run_id, reviewer, most=1)
        return NextCase(case=found[0] if found else None, left=left)

    def upcoming(
        self, grant: Grant, run_id: str, reviewer: str = "", *, most: int, first: str = ""
    ) -> tuple[list[ReviewCase], int]:
        """
        Return the reviewer's next cases and how many are left; `first` comes first, if it is one of
        these. Raises as `next_case`.
        """
        with self.database.read() as connection:
            row = _open_one(connection, grant, run_id)
            who = _reviewer(grant, row, reviewer)
            left = reviews.open_to(connection, run_id, who)
            begin = who.encode() + b"|"

            def place(one: str) -> tuple[bool, bytes]:
                return one != first, hashlib.sha256(begin + one.encode()).digest()

            chosen = heapq.nsmallest(most, left, key=place)
            found = [reviews.case(connection, run_id, one) for one in chosen]
        return [_shown(one) for one in found if one], len(left)

    def decide(
        self, grant: Grant, run_id: str, case_id: str, answer: Answer, reviewer: str = ""
    ) -> NextCase:
        """
        Keep a reviewer's answer to a case; return the next case.

        The same again is one. Raises NotFound for a case that is not there, Conflict where the
        reviewer has given another answer before, or the case was decided meanwhile.
        """
        self.keep(grant, run_id, case_id, answer, reviewer)
        return self.next_case(grant, run_id, reviewer)

    def keep(
        self, grant: Grant, run_id: str, case_id: str, answer: Answer, reviewer: str = ""
    ) -> None:
        """Do what `decide` does, and return nothing."""
        with self.database.change() as connection:
            who = _reviewer(grant, _open_one(connection, grant, run_id), reviewer)
            _require_case(connection, run_id, case_id)
            before = reviews.decisions_of(connection, run_id, case_id)
            mine = next((one for one in before if one.reviewer == who), None)
            if mine and mine.answer != answer:
                raise Conflict("you have decided about this case", hint="take that back first")
            if not mine:
                self._keep(connection, grant, before, run_id, case_id, who, answer)

    def _keep(
        self,
        connection: Connection,
        grant: Grant,
        before: Sequence[DecisionRow],
        run_id: str,
        case_id: str,
        who: str,
        answer: Answer,
    ) -> None:
        # Who took an answer back may give another, whatever others have said since: a refusal
        # would tell that they agree.
        again = len(before) < READINGS and reviews.has_taken_back(connection, run_id, case_id, who)
        if verdict(_answers(before)) is not None and not again:
            raise Conflict("others have decided this case meanwhile", hint="take the next one")
        taken = {one.reading for one in before}
        # Not what was decided: who reads the log may be a reviewer's colleague.
        _record(connection, grant, run_id, "case decided", case=case_id, reviewer=who)
        reviews.add_decision(
            connection,
            DecisionRow(
                run_id=run_id,
                case_id=case_id,
                reading=next(n for n in range(1, READINGS + 1) if n not in taken),
                reviewer=who,
                answer=answer,
                decided_at=int(time.time()),
                entry=audit.newest(connection).number,
            ),
        )

    def own_last(self, grant: Grant, run_id: str, reviewer: str = "") -> list[OwnDecision]:
        """
        Return the reviewer's newest decisions that count, the newest first.

        Raises NotFound, NotAllowed as `next_case`.
        """
        with self.database.read() as connection:
            who = _reviewer(grant, _existing(connection, grant, run_id), reviewer)
            found = reviews.own_last(connection, run_id, who, most=_SHOWN)
        return [
            OwnDecision.model_validate(
                {"case_id": one.case_id, "answer": one.answer, "decided_at": one.decided_at}
            )
            for one in found
        ]

    def take_back(self, grant: Grant, run_id: str, case_id: str, reviewer: str = "") -> NextCase:
        """
        Take a reviewer's own answer back; return the case, to be answered anew. The answer stays in
        history, and counts nowhere.

        Raises NotFound where there is none, Conflict once the review takes no more answers,
        NotAllowed as `next_case`.
        """
        with self.database.change() as connection:
            who = _reviewer(grant, _open_one(connection, grant, run_id), reviewer)
            _require_case(connection, run_id, case_id)
            made = reviews.decisions_of(connection, run_id, case_id)
            mine = next((one for one in made if one.reviewer == who), None)
            if mine is None:
                raise NotFound(
                    "you have given no answer to this case", hint="there is nothing to take back"
                )
            _record(connection, grant, run_id, "decision taken back", case=case_id, reviewer=who)
            entry = audit.newest(connection).number
            reviews.take_back(connection, mine, entry=entry, at=int(time.time()))
        found, left = self.upcoming(grant, run_id, reviewer, most=1, first=case_id)
        return NextCase(case=found[0] if found else None, left=left)

    def close(self, grant: Grant, run_id: str) -> ReviewState:
        """
        Close a review: a worker judges what was answered. Twice is once.

        Raises NotFound, Conflict before it is open.
        """
        with self.database.change() as connection:
            row = _existing(connection, grant, run_id)
            if row.state not in (CLOSING, CLOSED):
                _open_one(connection, grant, run_id)
                reviews.change(connection, run_id, state=CLOSING)
                _, readings = reviews.counts(connection, run_id)
                _record(connection, grant, run_id, "review to be closed", readings=readings)
            return _state(connection, _existing(connection, grant, run_id), grant)


def _reviewer(grant: Grant, row: ReviewRow, name: str) -> str:
    """Return under which name readings are kept. Raises NotAllowed."""
    if not name:
        return grant.caller.actor
    if name not in json.loads(row.reviewers):
        raise NotAllowed(
            f"{name!r} is not named as a reviewer",
            hint="the admin names reviewers: `linkage-broker review open STUDY --reviewer NAME`",
        )
    return CONSOLE + name


def _existing(connection: Connection, grant: Grant, run_id: str) -> ReviewRow:
    row = reviews.find(connection, run_id)
    if row is None or row.study_id != grant.study.id:
        raise NotFound("there is no such review in this study", hint="GET .../reviews lists them")
    return row


def _open_one(connection: Connection, grant: Grant, run_id: str) -> ReviewRow:
    row = _existing(connection, grant, run_id)
    if row.state != OPEN:
        raise Conflict(
            f"the review is {row.state}",
            hint="a worker opens it within seconds" if row.state == OPENING else "it takes no more",
        )
    return row


def _answers(rows: Sequence[DecisionRow]) -> list[Any]:
    return [one.answer for one in rows]


def _require_case(connection: Connection, run_id: str, case_id: str) -> None:
    if reviews.case(connection, run_id, case_id) is None:
        raise NotFound("there is no such case in this review", hint="ask for the next one")


def _shown(row: CaseRow) -> ReviewCase:
    agrees = json.loads(row.fields)
    fields = [FieldAgreement(field=f, agreement=agrees[f]) for f in FIELDS if f in agrees]
    return ReviewCase(
        run_id=row.run_id, case_id=row.case_id, parties=(row.one, row.other), fields=fields
    )


def _state(
    connection: Connection,
    row: ReviewRow,
    grant: Grant,
    reviewer: str = "",
    *,
    left: bool = True,
) -> ReviewState:
    who = CONSOLE + reviewer if reviewer else grant.caller.actor
    cases, readings = reviews.counts(connection, row.run_id)
    readers = reviews.readers(connection, row.run_id)
    result = json.loads(row.result) if row.result else None
    # An admin reads as somebody at the console, or not at all.
    reads = left and row.state == OPEN and (reviewer != "" or not grant.is_admin)
    told = {
        "run_id": row.run_id,
        "study_id": row.study_id,
        "state": row.state,
        "opened_at": row.opened_at,
        "closed_at": row.closed_at,
        "cases": result["cases"] if result else cases,
        "readings": readings,
        "mine": readers.get(who, 0),
        "left": len(reviews.open_to(connection, row.run_id, who)) if reads else 0,
        "failure": row.failure,
    }
    if grant.is_admin:
        standing = _standing(connection, row.run_id)
        told |= {
            "undecided": standing.unread + standing.once + standing.differ if cases else 0,
            "standing": standing if cases else None,
            "reviewers": json.loads(row.reviewers),
            "readers": readers,
            "agreement": result["agreement"] if result else _agreement(connection, row.run_id),
            "figures": result,
        }
    return ReviewState.model_validate(told)


def _standing(connection: Connection, run_id: str) -> Standing:
    found = Counter[str]()
    for n, same, different, many in reviews.patterns(connection, run_id):
        said = zip(ANSWERS, (same, different, n - same - different), strict=True)
        answers = [answer for answer, times in said for _ in range(times)]
        found[verdict(answers) or ("unread", "once", "differ")[n]] += many
    return Standing(**{name: found[name] for name in Standing.model_fields if name != "version"})


def _agreement(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    counted = reviews.pairs_read(connection, run_id)
    return [asdict(one) for one in agreement_counted(counted)]  # type: ignore[arg-type]


def _record(
    connection: Connection, grant: Grant, run_id: str, action: str, **detail: str | int
) -> None:
    audit.record(
        connection,
        actor=grant.caller.actor,
        action=action,
        study_id=grant.study.id,
        subject=run_id,
        detail=detail,
    )
