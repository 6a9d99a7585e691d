"""Proposals: what people decide and ask in a browser, and what the parties' agents say of it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from broker.policy import Action, Grant
from broker.routes.common import May, Services
from linkage.proposal_messages import ProposalRequest, ProposalSaid, ProposalState

router = APIRouter(prefix="/v1/studies/{study_id}/proposals")

Person = Annotated[Grant, Depends(May(Action.PROPOSE))]
Reader = Annotated[Grant, Depends(May(Action.READ_PROPOSALS))]
Agent = Annotated[Grant, Depends(May(Action.SETTLE_PROPOSAL))]


@router.get("")
def proposals(
    grant: Reader,
    broker: Services,
    state: Annotated[Literal["waiting"] | None, Query()] = None,
) -> list[ProposalState]:
    """Return the proposals that concern the caller, oldest first; all, or those that wait."""
    return broker.proposals.all(grant, waiting=state is not None)


@router.post("", status_code=201)
def propose(body: ProposalRequest, grant: Person, broker: Services) -> ProposalState:
    """Propose something to a party's agent; the same again is one."""
    return broker.proposals.make(grant, body)


@router.post("/{proposal_id}/begin")
def begin(body: ProposalSaid, grant: Agent, broker: Services, proposal_id: str) -> ProposalState:
    """Note that the party's agent carries a proposal out; it is withdrawn no more."""
    return broker.proposals.begin(grant, proposal_id, body)


@router.post("/{proposal_id}/settle")
def settle(body: ProposalSaid, grant: Agent, broker: Services, proposal_id: str) -> ProposalState:
    """Take what the party's agent says became of a proposal."""
    return broker.proposals.settle(grant, proposal_id, body)


@router.post("/{proposal_id}/withdraw")
def withdraw(grant: Person, broker: Services, proposal_id: str) -> ProposalState:
    """Take a proposal of one's own back."""
    return broker.proposals.withdraw(grant, proposal_id)
