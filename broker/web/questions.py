"""Cohort questions: a study's, by pages; and one with all that a decision about it needs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from broker.policy import Action
from broker.services.questions import two_sides
from broker.web import question_view as view
from broker.web.rendering import page, see_other
from broker.web.stewards import allow_from, decide_from, deliver_from, remark_from
from broker.web.visits import PageMay, Visit
from linkage.cohort.question_words import leaving
from linkage.errors import NotFound

router = APIRouter(prefix="/studies/{study_id}/questions", include_in_schema=False)

Reader = Annotated[Visit, Depends(PageMay(Action.READ_QUESTION))]
Proposer = Annotated[Visit, Depends(PageMay(Action.PROPOSE))]


@router.get("")
def questions(
    visit: Reader, number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1
) -> Response:
    """List the study's questions, and what the visitor asked that is no question yet."""
    grant = visit.grant
    shown = visit.broker.question_lines.page(grant, number)
    asks = visit.broker.proposals.asks(grant)
    return page(visit, "questions.html", view=view, shown=shown, asks=view.still_told(asks))


@router.get("/{question_id}")
def question(visit: Reader, question_id: str, seen: str = "") -> Response:
    """Show one question. seen: what a page that looks again shows; other forms need a new page."""
    grant, broker = visit.grant, visit.broker
    state = broker.questions.state(grant, question_id)
    shared = broker.relay.report(grant, question_id)
    if visit.partial and seen != view.stand(state, grant, shared):
        return Response(status_code=204, headers={"hx-refresh": "true"})
    line = broker.question_lines.line(grant, question_id)
    if line is None:
        raise NotFound("there is no such question in this study")
    proposals = broker.proposals.about(grant, question_id)
    imaging, enclave = two_sides(grant.study)
    return page(
        visit,
        "question.html",
        view=view,
        state=state,
        line=line,
        shared=shared,
        said=broker.remarks.all(grant, question_id),
        proposals=proposals,
        half=view.own_half(state, grant),
        asked=next((one.body for one in proposals if one.kind == "ask" and one.body), None),
        leaving=leaving(state, grant.study.config),
        imaging=imaging,
        enclave=enclave,
        pin=grant.study.pin(enclave),
    )


@router.post("/{question_id}/decide")
def decide(visit: Proposer, question_id: str) -> Response:
    """Propose a decision to the steward's own party."""
    visit.broker.proposals.make(visit.grant, decide_from(visit, question_id))
    return see_other(f"/studies/{visit.grant.study.id}/questions/{question_id}", "proposed")


@router.post("/{question_id}/allow")
def allow(visit: Proposer, question_id: str) -> Response:
    """Propose to the steward's own party to answer with counts, and no more."""
    visit.broker.proposals.make(visit.grant, allow_from(visit, question_id))
    return see_other(f"/studies/{visit.grant.study.id}/questions/{question_id}", "proposed")


@router.post("/{question_id}/deliver")
def deliver(visit: Proposer, question_id: str) -> Response:
    """Propose to the enclave to order the delivery."""
    visit.broker.proposals.make(visit.grant, deliver_from(visit, question_id))
    return see_other(f"/studies/{visit.grant.study.id}/questions/{question_id}", "proposed")


@router.post("/{question_id}/ask-back")
def ask_back(visit: Proposer, question_id: str) -> Response:
    """Propose a question back, or at the enclave an answer to one."""
    visit.broker.proposals.make(visit.grant, remark_from(visit, question_id))
    return see_other(f"/studies/{visit.grant.study.id}/questions/{question_id}", "proposed")


@router.post("/proposals/{proposal_id}/withdraw")
def withdraw(visit: Proposer, proposal_id: str) -> Response:
    """Take a proposal of one's own back."""
    gone = visit.broker.proposals.withdraw(visit.grant, proposal_id)
    at = f"/studies/{visit.grant.study.id}/questions"
    return see_other(f"{at}/{gone.about}" if gone.about else at, "proposal-withdrawn")
