"""
A cohort question on its way: what a researcher asks, and what a steward decides.
"""

from __future__ import annotations

from typing import Literal

from linkage.messages import Approval, QuestionRequest
from sites.cohort.spec import CohortSpec
from sites.session import Session


def decide(session: Session, question_id: str, decision: Literal["approve", "deny"]) -> None:
    """Send a party's signed decision about a question."""
    question = session.broker.question(session.study_id, question_id)
    approval = Approval(
        study_id=session.study_id,
        question_id=question_id,
        spec_hash=question.spec_hash,
        party=session.party,
        decision=decision,
    )
    session.broker.approve(approval.sign(session.identity))


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
