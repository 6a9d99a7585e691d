"""
Answers that left this enclave and that its ledger of counts does not know.

    require_remembered(session, question_id, enter)     before anything new is counted or shared
    accept(session, enter)                              a person's word that what is lost is lost

A private folder that was restored from a backup has forgotten what was answered since: which sets
were shown, and how much was told of each person. Whoever has an older copy put back would so get a
fresh budget. The broker relayed every answer and lies in no backup of this site: what it has and
the ledger has not was forgotten. That is made once more, for the ledger alone, the oldest first;
nothing leaves, the first answers stand. What cannot be made again, because its question has ended
or its data are gone, keeps everything new from being counted until a person accepts it.

Who runs the broker and hides an answer is believed; the broker's log, which all parties' heads
vouch for, says what it relayed. One that invents answers can use up budgets, and get none.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from linkage.errors import Conflict, LinkageError, NotFound, Unreachable
from linkage.messages import QuestionState
from sites.count_ledger import ledger_of
from sites.session import Session

Enter = Callable[[Session, QuestionState], object]
"""Makes the answer to a question and enters it in the ledger; sends nothing."""

_KEPT, _LOCK = "counts/accepted", "accepted"
_NAMED = 5
"""So many are named in an error; `linkage-site accept-forgotten --dry-run` lists all."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """An answer that left. subject: the question, or of a shared report its delivery."""

    subject: str
    question: QuestionState
    why: str = ""

    @property
    def is_report(self) -> bool:
        """Is it the report of a delivered cohort, not counts?"""
        return self.subject != self.question.question_id


def forgotten(session: Session) -> list[Forgotten]:
    """Return what left and is neither in the ledger nor accepted, the oldest question first."""
    known = _known(session)
    found = []
    for one in reversed(session.broker.questions(session.study_id, reports=True)):
        if one.counted and one.question_id not in known:
            found.append(Forgotten(one.question_id, one))
        if one.delivery_id and one.delivery_id not in known and _was_shared(session, one):
            found.append(Forgotten(one.delivery_id, one))
    return found


def require_remembered(session: Session, about: str, enter: Enter) -> None:
    """
    Enter again what was forgotten. Raises Conflict where that cannot be done.

    about: the question or delivery of which something is to be told; what is in the ledger of it
    already is told again whatever else was forgotten.
    """
    if about in _known(session):
        return
    if left := [one for one in _enter_again(session, enter) if one.subject != about]:
        named = ", ".join(one.subject for one in left[:_NAMED])
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        raise Conflict(
            "answers left this site that its ledger of counts does not know, as after a backup was"
            f" restored: {named}{more}; {left[0].why}",
            hint="nothing new is counted, for what was told of whom is not known. Restore a newer"
            " copy of the private folder; if there is none, tell the stewards, then: linkage-site"
            " accept-forgotten (docs/counts.md)",
        )


def accept(session: Session, enter: Enter) -> list[Forgotten]:
    """
    Enter again what can be; accept the rest as lost, and return it. Raises NotFound where nothing
    was forgotten.
    """
    if not forgotten(session):
        raise NotFound(
            "every answer that left is in the ledger of counts, or was accepted as lost",
            hint="there is nothing to accept",
        )
    left = _enter_again(session, enter)
    epoch = session.signed.study.study.epoch
    with session.vault.alone(_LOCK):
        kept = accepted(session)
        for one in left:
            kept[one.subject] = {"epoch": epoch, "at": int(time.time()), "run": one.question.run_id}
        session.vault.keep(_KEPT, json.dumps(kept).encode())
    return left


def accepted(session: Session) -> dict[str, dict[str, Any]]:
    """Return by question or delivery what was accepted as lost: epoch and time of that, and run."""
    return dict(json.loads(session.vault.kept(_KEPT) or b"{}"))


def accepted_now(session: Session) -> int:
    """Return how many answers were accepted as lost in this epoch."""
    epoch = session.signed.study.study.epoch
    return sum(one["epoch"] == epoch for one in accepted(session).values())


def listed(session: Session) -> list[dict[str, Any]]:
    """Return the same for the data manager, in the form of sites.count_ledger.listed."""
    rows = []
    for subject, one in accepted(session).items():
        day = dt.datetime.fromtimestamp(one["at"], dt.UTC).date().isoformat()
        lost = {"counted at": "not known", "run": one["run"], "epoch": one["epoch"]}
        said = f"lost; accepted on {day}"
        rows.append({"question": subject, **lost, "persons": "not known", "answer of": said})
    return rows


def _known(session: Session) -> set[str]:
    entered = {one.question for one in ledger_of(session).entries()}
    return entered | accepted(session).keys()


def _was_shared(session: Session, question: QuestionState) -> bool:
    """
    Does the broker have a report of the question's delivery? One of an earlier version does not say
    so of all at once, and is asked for each; of an ended one it tells, too.
    """
    if question.report_shared is not None:
        return question.report_shared
    try:
        session.broker.sealed_report(session.study_id, question.question_id)
    except NotFound:
        return False
    except Conflict:
        return True
    return True


def _enter_again(session: Session, enter: Enter) -> list[Forgotten]:
    """Make forgotten answers for the ledger; return those that cannot be made, and why."""
    left = []
    for one in forgotten(session):
        if one.is_report:
            question = one.question.question_id
            why = f"its report was shared: linkage-cohort share-report {question} enters it again"
            left.append(Forgotten(one.subject, one.question, why))
            continue
        try:
            enter(session, one.question)
        except Unreachable:
            raise
        except LinkageError as fault:
            left.append(Forgotten(one.subject, one.question, fault.message))
    return left
