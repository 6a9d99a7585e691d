"""
A cohort question at a party: what its steward decides, and what that lets go.

What a site is shown is checked against the hash that all stewards approve (linkage.commitments).
What it remembers of its own decisions, not what the broker says of them, lets its rows go.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from pathlib import Path

import rfc8785

from linkage.commitments import require_shown
from linkage.errors import Conflict, LinkageError, NotAllowed, PackageRefused
from linkage.messages import Approval, Decision, QuestionState
from linkage.question_messages import Remark, RemarkState
from linkage.sealing import read_secret, replace_secret
from sites.session import Session
from sites.terms import require_terms


def decide(
    session: Session, question_id: str, decision: Decision, *, expires: str = ""
) -> QuestionState:
    """
    Send a party's signed decision about a question, remember it here, return what it is about.

    expires: of an approval, its last day, UTC, YYYY-MM-DD. Raises PackageRefused where what is
    shown is not what the question's hash commits to, NotAllowed for an approval where a side of
    the study delivers no rows, or this party's terms forbid the use.
    """
    question = session.broker.question(session.study_id, question_id)
    decide_about(session, question, decision, expires=expires, decided_at=int(time.time()))
    return question


def decide_about(
    session: Session,
    question: QuestionState,
    decision: Decision,
    *,
    expires: str = "",
    decided_at: int,
) -> None:
    """Do the same for a question as it was shown. decided_at: Unix seconds."""
    question_id = question.question_id
    if decision == "approve":
        require_shown(question)
        require_terms(session, question.use)
        require_delivering(session)
    approval = Approval(
        study_id=session.study_id,
        question_id=question_id,
        spec_hash=question.spec_hash,
        party=session.party,
        decision=decision,
        study_hash=session.signed.study_hash,
        expires=expires,
        decided_at=decided_at,
    )
    signed = approval.sign(session.identity)
    # A no counts from here on, an approval once the broker has it.
    if decision != "approve":
        remember(session, question, signed)
    session.broker.approve(signed)
    if decision == "approve":
        remember(session, question, signed)


def remember(session: Session, question: QuestionState, signed: Approval) -> None:
    """Write this party's signed decision down: from here on it counts at this site."""
    record: dict[str, object] = {"asked": asked_hash(question)}
    record["approval"] = signed.model_dump(mode="json")
    where = _file_of(session, question.question_id)
    replace_secret(where, json.dumps(record, indent=1).encode())


def newest_decision(session: Session, question: QuestionState) -> Approval | None:
    """
    Return this party's newest decision about the question, however it read then: as this site
    remembers it, or as the broker shows it with this party's signature.
    """
    known = [_kept_approval(session, question.question_id), question.decisions.get(session.party)]
    mine = [one for one in known if one is not None and _is_own(session, one, question.question_id)]
    return max(mine, key=lambda one: one.decided_at, default=None)


def require_approved(session: Session, question: QuestionState) -> None:
    """
    Raises NotAllowed unless this party approved the question exactly as it now reads, and that
    holds today; Conflict where another party took its approval back, or the question has ended.

    Whoever runs the broker can neither skip the steward nor exchange the criteria afterwards.
    """
    if decided(session, question) != "approve":
        raise NotAllowed(
            f"{session.party!r} did not approve this question as it now reads, or not until today",
            hint="its steward reads it with `linkage-cohort show`, then approves it from here",
        )
    require_usable(question)


def require_usable(question: QuestionState) -> None:
    """Raises Conflict where nobody may use a question any more; the hint names the newer one."""
    last = question.expires
    over = f"its last day was {last}" if last and today().isoformat() > last else ""
    if reason := question.stopped or over:
        newer = question.newer
        raise Conflict(
            f"nobody uses {question.question_id} any more: {reason}",
            hint=f"take {newer}, which asks the same"
            if newer
            else "ask it anew: linkage-cohort request",
        )


def require_epoch(session: Session, question: QuestionState) -> None:
    """
    Raises Conflict where a question was asked, or approved here, under another signed study than
    this site has now: in one epoch it is approved, in that one it is answered and delivered.
    """
    now = session.signed.study_hash
    own = _approval(session, question)
    if question.study_hash not in ("", now) or (own is not None and own.study_hash != now):
        raise Conflict(
            f"{question.question_id} was asked or approved under another signed study than"
            f" today's, which is epoch {session.signed.study.study.epoch}",
            hint="ask it anew: linkage-cohort request; its stewards then approve it anew",
        )


def require_delivering(session: Session) -> None:
    """Raises NotAllowed where a side of the study answers with counts only."""
    sides = [p for p in session.signed.study.party if p.kind in ("imaging", "enclave")]
    if apart := [party.id for party in sides if party.sequestered]:
        raise NotAllowed(
            f"the signed study has {', '.join(apart)} sequestered: counts only, no rows",
            hint="`linkage-site allow` lets a question be answered with counts",
        )


def decided(session: Session, question: QuestionState) -> str | None:
    """
    Return what this party's steward decided about the question exactly as it now reads.

    None: nothing, or about another one, or an approval whose last day is over; what was not signed
    with this party's key counts for none.
    """
    own = _approval(session, question)
    if own is None or (own.decision == "approve" and over(own.expires)):
        return None
    return own.decision


def over(last: str) -> bool:
    """Is a last day, YYYY-MM-DD, over? "": there is none."""
    return bool(last) and today().isoformat() > last


def today() -> dt.date:
    """Return the day it is, UTC."""
    return dt.datetime.now(dt.UTC).date()


def ask_back(session: Session, question_id: str, text: str) -> list[RemarkState]:
    """Ask the researcher something about a question, signed by this party; return all remarks."""
    question = session.broker.question(session.study_id, question_id)
    remark = Remark(
        study_id=session.study_id,
        question_id=question_id,
        spec_hash=question.spec_hash,
        author=session.party,
        text=text,
        said_at=int(time.time()),
    )
    return session.broker.say(remark.sign(session.identity))


def asked_hash(question: QuestionState) -> str:
    """Return SHA-256, hex, of all that this party is shown of what is asked."""
    asked = {"question_id", "study_id", "run_id", "title", "purpose", "spec_hash"}
    shown = question.model_dump(mode="json", include={*asked, "imaging", "clinical"})
    try:
        return hashlib.sha256(rfc8785.dumps(shown)).hexdigest()
    except (ValueError, RecursionError):
        raise PackageRefused(
            "a question holds what canonical JSON cannot carry", hint="it must be asked again"
        ) from None


def _approval(session: Session, question: QuestionState) -> Approval | None:
    """Return this party's own decision about exactly this question, as it signed it."""
    try:
        record = json.loads(read_secret(_file_of(session, question.question_id)))
        approval = Approval.model_validate(record["approval"])
        mine = _is_own(session, approval, question.question_id)
        same = record["asked"] == asked_hash(question)
    except (ValueError, KeyError, TypeError, LinkageError):
        return None
    return approval if mine and same else None


def _kept_approval(session: Session, question_id: str) -> Approval | None:
    try:
        record = json.loads(read_secret(_file_of(session, question_id)))
        return Approval.model_validate(record["approval"])
    except (ValueError, KeyError, TypeError, LinkageError):
        return None


def _is_own(session: Session, approval: Approval, question_id: str) -> bool:
    """Did this party sign it about this question?"""
    try:
        approval.verify(session.identity.public())
    except LinkageError:
        return False
    told = (approval.study_id, approval.question_id, approval.party)
    return told == (session.study_id, question_id, session.party)


def _file_of(session: Session, question_id: str) -> Path:
    return session.vault.folder / "decisions" / f"{question_id}.json"
