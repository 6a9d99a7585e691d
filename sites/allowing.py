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
from typing import Literal

from linkage.errors import KeyRefused, NotAllowed
from linkage.messages import QuestionState
from sites.questions import asked_hash, decided
from sites.session import Session
from sites.terms import require_terms

PERSON, POLICY = "person", "policy"
By = Literal["person", "policy"]


def allow(session: Session, question: QuestionState, *, by: By) -> None:
    """
    Keep the yes to answering this question with counts.

    Raises NotAllowed where the steward said no: only another decision of the steward undoes that;
    and where this party's terms forbid the use.
    """
    require_terms(session, question.use)
    if decided(session, question) not in (None, "approve"):
        raise NotAllowed(
            f"the steward of {session.party!r} denied this question, or took the approval back",
            hint="`linkage-cohort approve` replaces that, if the steward thinks better of it",
        )
    kept = json.dumps({"asked": asked_hash(question), "by": by}).encode()
    session.vault.keep(_name(question.question_id), kept)


def withdraw(session: Session, question_id: str) -> bool:
    """Take the yes back; False where there was none. What was answered stays answered."""
    path = session.vault.folder / "kept" / _name(question_id)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def allowed_by(session: Session, question: QuestionState) -> str | None:
    """Return who said yes to answering the question as it now reads: None, steward, person..."""
    decision = decided(session, question)
    if decision is not None:
        return "steward" if decision == "approve" else None
    try:
        found = session.vault.kept(_name(question.question_id))
        kept = json.loads(found) if found else {}
    except (KeyRefused, ValueError):
        return None
    return str(kept["by"]) if kept.get("asked") == asked_hash(question) else None


def require_answerable(session: Session, question: QuestionState) -> None:
    """Raises NotAllowed unless the steward approved, or a person or the site's policy said yes."""
    if allowed_by(session, question) is None:
        raise NotAllowed(
            f"nobody of {session.party!r} said yes to answering this question as it now reads",
            hint="`linkage-site allow` lets it be answered with counts; `linkage-cohort approve`"
            " also lets its rows go",
        )


def _name(question_id: str) -> str:
    return f"allowed/{question_id}"
