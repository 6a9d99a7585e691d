"""Releases, questions, approvals and deliveries."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from broker.policy import Action, Grant
from broker.routes.common import May, OnceKey, Services
from broker.routes.relay import RawBytes, raw
from linkage.messages import Approval, JobState, QuestionRequest, QuestionState, ReleaseRequest
from linkage.question_messages import Remark, RemarkState
from linkage.release_messages import ReleaseConsent, ReleasePin, ReleaseState
from linkage.storage_messages import AffectedState

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


@router.get("/releases")
def releases(
    grant: Annotated[Grant, Depends(May(Action.READ_RELEASE))], broker: Services
) -> list[ReleaseState]:
    """Return the releases that give the caller IDs or need its consent, newest first."""
    return broker.releases.all(grant)


@router.get("/affected")
def affected(
    grant: Annotated[Grant, Depends(May(Action.READ_AFFECTED))],
    broker: Services,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> list[AffectedState]:
    """Return what was given out and holds records that were withdrawn since, newest first."""
    return broker.releases.affected(grant, number=page, size=limit)[0]


@router.get("/releases/{release_id}")
def release_state(
    grant: Annotated[Grant, Depends(May(Action.READ_RELEASE))], broker: Services, release_id: str
) -> ReleaseState:
    """Return a release: its terms, who consented, whether it may still be used."""
    return broker.releases.one(grant, release_id)


@router.post("/releases/{release_id}/consents")
def consent(
    body: ReleaseConsent,
    grant: Annotated[Grant, Depends(May(Action.CONSENT))],
    broker: Services,
    release_id: str,
) -> ReleaseState:
    """Take a steward's signed decision about a release."""
    return broker.consents.decide(grant, release_id, body)


@router.post("/releases/{release_id}/cancel")
def cancel_release(
    grant: Annotated[Grant, Depends(May(Action.CANCEL_RELEASE))], broker: Services, release_id: str
) -> ReleaseState:
    """End a release that waits for consent; what was made is not taken back."""
    return broker.consents.cancel(grant, release_id)


@router.post("/releases/{release_id}/pins")
def pin(
    body: ReleasePin,
    grant: Annotated[Grant, Depends(May(Action.PIN_RELEASE))],
    broker: Services,
    release_id: str,
) -> ReleaseState:
    """Keep what uses a release, or forget it."""
    return broker.releases.pin(grant, release_id, body)


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
def questions(grant: Reader, broker: Services, reports: bool = False) -> list[QuestionState]:
    """Return the study's questions, newest first; `reports`: with whose report was shared."""
    return broker.questions.all(grant, reports=reports)


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


@router.get("/questions/{question_id}/remarks")
def remarks(grant: Reader, broker: Services, question_id: str) -> list[RemarkState]:
    """Return what stewards asked back about a question, and the answers."""
    return broker.remarks.all(grant, question_id)


@router.post("/questions/{question_id}/remarks")
def say(
    body: Remark,
    grant: Annotated[Grant, Depends(May(Action.REMARK))],
    broker: Services,
    question_id: str,
) -> list[RemarkState]:
    """Take a steward's signed question back, or the answer to one."""
    return broker.remarks.say(grant, question_id, body)


@router.get("/questions/{question_id}/counts", response_class=RawBytes)
def counts(
    grant: Annotated[Grant, Depends(May(Action.READ_COUNTS))], broker: Services, question_id: str
) -> RawBytes:
    """Return the counts, sealed to the question's reader, raw."""
    return raw(*broker.relay.open_counts(grant, question_id))


@router.get("/questions/{question_id}/report", response_class=RawBytes)
def report(
    grant: Annotated[Grant, Depends(May(Action.READ_COUNTS))], broker: Services, question_id: str
) -> RawBytes:
    """Return the report of the delivered cohort, sealed to the question's reader, raw."""
    return raw(*broker.relay.open_report(grant, question_id))


@router.post("/questions/{question_id}/delivery", status_code=202)
def deliver(
    grant: Annotated[Grant, Depends(May(Action.DELIVER))], broker: Services, question_id: str
) -> JobState:
    """Queue the delivery of an approved question."""
    return broker.questions.deliver(grant, question_id)
