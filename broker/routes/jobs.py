"""Releases, questions, approvals and deliveries."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from broker.policy import Action, Grant
from broker.routes.common import May, OnceKey, Services
from linkage.messages import Approval, JobState, QuestionRequest, QuestionState, ReleaseRequest

router = APIRouter(prefix="/v1/studies/{study_id}")

Reader = Annotated[Grant, Depends(May(Action.READ_QUESTION))]


@router.post("/releases", status_code=202)
def release(
    body: ReleaseRequest,
    grant: Annotated[Grant, Depends(May(Action.RELEASE))],
    broker: Services,
    key: OnceKey = None,
) -> JobState:
    """Queue a release of cross-commons IDs."""
    return broker.releases.ask(grant, body, key=key)


@router.get("/jobs/{job_id}")
def job_state(
    grant: Annotated[Grant, Depends(May(Action.READ_JOB))], broker: Services, job_id: str
) -> JobState:
    """Return how far a release, question or delivery is."""
    return broker.releases.state(grant, job_id)


@router.post("/questions", status_code=202)
def ask(
    body: QuestionRequest,
    grant: Annotated[Grant, Depends(May(Action.ASK))],
    broker: Services,
    key: OnceKey = None,
) -> JobState:
    """Queue a cohort question."""
    return broker.questions.ask(grant, body, key=key)


@router.get("/questions")
def questions(grant: Reader, broker: Services) -> list[QuestionState]:
    """Return the study's questions, newest first."""
    return broker.questions.all(grant)


@router.get("/questions/{question_id}")
def question_state(grant: Reader, broker: Services, question_id: str) -> QuestionState:
    """Return a question, with the criteria that the caller answers."""
    return broker.questions.state(grant, question_id)


@router.post("/questions/{question_id}/approvals")
def decide(
    body: Approval,
    grant: Annotated[Grant, Depends(May(Action.APPROVE))],
    broker: Services,
    question_id: str,
) -> QuestionState:
    """Take a steward's signed decision."""
    return broker.questions.decide(grant, question_id, body)


@router.post("/questions/{question_id}/delivery", status_code=202)
def deliver(
    grant: Annotated[Grant, Depends(May(Action.DELIVER))], broker: Services, question_id: str
) -> JobState:
    """Queue the delivery of an approved question."""
    return broker.questions.deliver(grant, question_id)
