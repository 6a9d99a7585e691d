"""
A cohort question on its way: what a researcher asks, and what a steward decides.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

import rfc8785

from linkage.errors import LinkageError, NotAllowed, PackageRefused
from linkage.messages import Approval, QuestionRequest, QuestionState
from linkage.sealing import read_secret, write_secret
from sites.cohort.spec import CohortSpec
from sites.session import Session


def decide(
    session: Session, question_id: str, decision: Literal["approve", "deny"]
) -> QuestionState:
    """
    Send a party's signed decision about a question, remember it here, return what it is about.

    What is remembered, not what the broker says, lets this party's rows go (`require_approved`).
    """
    question = session.broker.question(session.study_id, question_id)
    approval = Approval(
        study_id=session.study_id,
        question_id=question_id,
        spec_hash=question.spec_hash,
        party=session.party,
        decision=decision,
    )
    signed = approval.sign(session.identity)
    record: dict[str, object] = {
        "asked": asked_hash(question),
        "approval": signed.model_dump(mode="json"),
    }
    # A denial counts from here on, an approval once the broker has it.
    if decision == "deny":
        _remember(_file_of(session, question_id), record)
    session.broker.approve(signed)
    if decision == "approve":
        _remember(_file_of(session, question_id), record)
    return question


def require_approved(session: Session, question: QuestionState) -> None:
    """
    Raises NotAllowed unless this party approved the question exactly as it now reads.

    Whoever runs the broker can neither skip the steward nor exchange the criteria afterwards.
    """
    try:
        record = json.loads(read_secret(_file_of(session, question.question_id)))
        approval = Approval.model_validate(record["approval"])
        approval.verify(session.identity.public())
        told = (approval.study_id, approval.question_id, approval.party, approval.decision)
        approved = told == (session.study_id, question.question_id, session.party, "approve")
        same = record["asked"] == asked_hash(question)
    except (ValueError, KeyError, TypeError, LinkageError):
        approved = same = False
    if not approved or not same:
        raise NotAllowed(
            f"{session.party!r} did not approve this question as it now reads",
            hint="its steward reads it with `linkage-cohort status`, then approves it from here",
        )


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


def _file_of(session: Session, question_id: str) -> Path:
    return session.vault.folder / "decisions" / f"{question_id}.json"


def _remember(path: Path, record: dict[str, object]) -> None:
    making = path.with_name(f".{path.name}.making")
    making.unlink(missing_ok=True)
    write_secret(making, json.dumps(record, indent=1).encode())
    os.replace(making, path)


def request_of(spec: CohortSpec, run_id: str) -> QuestionRequest:
    """Return the question that asks a specification of a run's links."""
    return QuestionRequest(
        run_id=run_id,
        title=spec.cohort.title,
        purpose=spec.cohort.purpose,
        spec_hash=spec.hash,
        imaging=spec.imaging.model_dump(mode="json"),
        clinical=spec.clinical.model_dump(mode="json"),
    )
