"""Clerical reviews: opened and closed by an admin, read case by case by reviewers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from broker.policy import Action, Grant
from broker.routes.common import May, Services
from linkage.review_messages import (
    NextCase,
    OwnDecision,
    ReviewDecision,
    ReviewRequest,
    ReviewState,
)

router = APIRouter(prefix="/v1/studies/{study_id}/reviews")

Reader = Annotated[Grant, Depends(May(Action.READ_REVIEW))]
Reviewer = Annotated[Grant, Depends(May(Action.REVIEW))]


@router.post("", status_code=202)
def open_review(
    body: ReviewRequest,
    grant: Annotated[Grant, Depends(May(Action.OPEN_REVIEW))],
    broker: Services,
) -> ReviewState:
    """Show the pairs in doubt of a finished run to reviewers, with checks and decoys."""
    return broker.reviews.open(grant, body.run_id)


@router.get("")
def reviews(grant: Reader, broker: Services) -> list[ReviewState]:
    """Return the study's reviews, newest first."""
    return broker.reviews.all(grant)


@router.get("/{run_id}")
def review(grant: Reader, broker: Services, run_id: str) -> ReviewState:
    """Return how far a review is; to an admin, what came out of a closed one."""
    return broker.reviews.state(grant, run_id)


@router.get("/{run_id}/next")
def next_case(grant: Reviewer, broker: Services, run_id: str) -> NextCase:
    """Return the next case for the caller, as field agreements."""
    return broker.reviews.next_case(grant, run_id)


@router.put("/{run_id}/cases/{case_id}/decision")
def decide(
    body: ReviewDecision, grant: Reviewer, broker: Services, run_id: str, case_id: str
) -> NextCase:
    """Keep the caller's answer to a case; return the next case."""
    return broker.reviews.decide(grant, run_id, case_id, body.answer)


@router.delete("/{run_id}/cases/{case_id}/decision")
def take_back(grant: Reviewer, broker: Services, run_id: str, case_id: str) -> NextCase:
    """Take the caller's answer to a case back, while the review is open; return the case."""
    return broker.reviews.take_back(grant, run_id, case_id)


@router.get("/{run_id}/decisions")
def own_decisions(grant: Reviewer, broker: Services, run_id: str) -> list[OwnDecision]:
    """Return the caller's newest answers that count, newest first."""
    return broker.reviews.own_last(grant, run_id)


@router.post("/{run_id}/close")
def close_review(
    grant: Annotated[Grant, Depends(May(Action.OPEN_REVIEW))], broker: Services, run_id: str
) -> ReviewState:
    """Take no more answers, and judge those that came."""
    return broker.reviews.close(grant, run_id)
