"""
A site's yes to answering a question with counts, which is less than approving its delivery.

    allow(session, question, by="person")    `linkage-site allow`; or "policy", of [agent]
    require_answerable(session, question)    before anything that qualifies leaves

The yes is kept in the private folder, encrypted, and names the question exactly as it reads now: a
broker that exchanges the criteria afterwards has no yes. The steward's own decision counts for
more: an approval is a yes too, a denial takes every other yes away.
"""

from __future__ import annotations

import json
import time
from typing import Any, Literal

from linkage.errors import Conflict, KeyRefused, NotAllowed
from linkage.messages import QuestionState
from sites.questions import asked_hash, decided
from sites.session import Session
from sites.terms import require_terms

By = Literal["person", "policy"]
PERSON: By = "person"
POLICY: By = "policy"
_LOCK = "allowed"


def allow(session: Session, question: QuestionState, *, by: By, said_at: int | None = None) -> None:
    """
    Keep the yes to answering this question with counts. said_at: Unix seconds; default: now.

    Raises NotAllowed where the steward said no: only another decision of the steward undoes that;
    and where this party's terms forbid the use. Raises Conflict where a person was heard later than
    `said_at`; a policy's yes leaves a person's as it is.
    """
    require_terms(session, question.use)
    if decided(session, question) not in (None, "approve"):
        raise NotAllowed(
            f"the steward of {session.party!r} denied this question, or took the approval back",
            hint="`linkage-cohort approve` replaces that, if the steward thinks better of it",
        )
    with session.vault.alone(_LOCK):
        if said_at is not None:
            require_newest(session, question, said_at)
        if by == PERSON or allowed_by(session, question) is None:
            at = int(time.time()) if said_at is None else said_at
            _keep(session, question.question_id, asked=asked_hash(question), by=by, at=at)


def withdraw(session: Session, question_id: str) -> bool:
    """
    Take the yes back; False where there was none. What was answered stays answered.

    When that was stays written down: no older yes, of the portal, then comes after it.
    """
    with session.vault.alone(_LOCK):
        there = bool(_kept(session, question_id).get("by"))
        _keep(session, question_id, asked="", by="", at=int(time.time()))
    return there


def forget(session: Session, question_id: str) -> None:
    """Forget a policy's yes that the site file does not give any more; a person's stays."""
    with session.vault.alone(_LOCK):
        if _kept(session, question_id).get("by") == POLICY:
            (session.vault.folder / "kept" / _name(question_id)).unlink(missing_ok=True)


def said_at(session: Session, question: QuestionState) -> tuple[int, bool]:
    """
    Return when a person last said yes here or took it back, Unix seconds, and whether that is a yes
    to the question as it now reads; 0 where nobody did.
    """
    kept = _kept(session, question.question_id)
    if kept.get("by") == POLICY:
        return 0, False
    return int(kept.get("at", 0)), kept.get("asked") == asked_hash(question)


def require_newest(session: Session, question: QuestionState, at: int) -> None:
    """Raises Conflict where a person was heard here at or after `at`, other than by that yes."""
    newest, yes = said_at(session, question)
    if newest >= at and (newest, yes) != (at, True):
        raise Conflict(
            "somebody at this site said yes, or took a yes back, later than that",
            hint="allow it again, if it is still meant",
        )


def allowed_by(session: Session, question: QuestionState) -> str | None:
    """Return who said yes to answering the question as it now reads: None, steward, person..."""
    decision = decided(session, question)
    if decision is not None:
        return "steward" if decision == "approve" else None
    kept = _kept(session, question.question_id)
    return str(kept["by"]) if kept.get("asked") == asked_hash(question) else None


def require_answerable(session: Session, question: QuestionState) -> None:
    """Raises NotAllowed unless the steward approved, or a person or the site's policy said yes."""
    if allowed_by(session, question) is None:
        raise NotAllowed(
            f"nobody of {session.party!r} said yes to answering this question as it now reads",
            hint="`linkage-site allow` lets it be answered with counts; `linkage-cohort approve`"
            " also lets its rows go",
        )


def _kept(session: Session, question_id: str) -> dict[str, Any]:
    try:
        found = session.vault.kept(_name(question_id))
        return dict(json.loads(found)) if found else {}
    except (KeyRefused, ValueError, TypeError):
        return {}


def _keep(session: Session, question_id: str, *, asked: str, by: str, at: int) -> None:
    kept = json.dumps({"asked": asked, "by": by, "at": at}).encode()
    session.vault.keep(_name(question_id), kept)


def _name(question_id: str) -> str:
    return f"allowed/{question_id}"
