"""Signing in, and studies."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from broker.policy import Action, Grant
from broker.routes.common import Address, May, Services
from broker.services.lifecycle import require_meant
from linkage.admin_messages import (
    DestructionOrder,
    DestructionOrdered,
    StudyListed,
    StudyMeant,
)
from linkage.messages import Deactivation, StudyState, Token, TokenRequest
from linkage.signed_study import SignedStudy

router = APIRouter(prefix="/v1")

Closing = Annotated[Grant, Depends(May(Action.CLOSE_STUDY))]
Destroying = Annotated[Grant, Depends(May(Action.DESTROY_STUDY, proved=True))]


@router.post("/token")
def token(body: TokenRequest, broker: Services, address: Address) -> Token:
    """Exchange a signed assertion (RFC 7523) for an access token."""
    return broker.door.token(body, address=address)


@router.post("/studies", status_code=201)
def register_study(
    body: SignedStudy,
    broker: Services,
    grant: Annotated[Grant, Depends(May(Action.REGISTER_STUDY))],
    response: Response,
    custodian_fingerprint: Annotated[str | None, Query(max_length=60)] = None,
    allow_changed_parties: bool = False,
) -> StudyState:
    """Take a signed study, or its next epoch; 200 where it is here already."""
    state, new = broker.studies.register(
        grant.caller.actor,
        body,
        custodian_fingerprint=custodian_fingerprint,
        allow_changed_parties=allow_changed_parties,
    )
    response.status_code = 201 if new else 200
    return state


@router.get("/studies")
def studies(
    broker: Services, grant: Annotated[Grant, Depends(May(Action.LIST_STUDIES))]
) -> list[StudyListed]:
    """Return the studies that are there for the caller, by id."""
    return broker.studies.seen_by(grant.caller)


@router.post("/studies/{study_id}/close")
def close_study(body: StudyMeant, grant: Closing, broker: Services) -> StudyState:
    """Take nothing new any more; runs and jobs under way end by themselves."""
    require_meant(grant.study.id, body.confirm)
    broker.lifecycle.close(grant.caller.actor, grant.study.id)
    return broker.studies.state(grant)


@router.post("/studies/{study_id}/reopen")
def reopen_study(body: StudyMeant, grant: Closing, broker: Services) -> StudyState:
    """Let a closed study go on where it was."""
    require_meant(grant.study.id, body.confirm)
    broker.lifecycle.reopen(grant.caller.actor, grant.study.id)
    return broker.studies.state(grant)


@router.post("/studies/{study_id}/destruction", status_code=202)
def destroy_study(
    body: DestructionOrder, grant: Destroying, broker: Services, request: Request, address: Address
) -> DestructionOrdered:
    """Order the destruction of a closed study, which is final; the worker carries it out."""
    require_meant(grant.study.id, body.confirm)
    broker.door.prove(request.headers, grant.caller, body.proof, address=address)
    return broker.lifecycle.order_destruction(grant.caller.actor, grant.study.id)


@router.post("/deactivations", status_code=201)
def deactivate(
    body: Deactivation,
    broker: Services,
    grant: Annotated[Grant, Depends(May(Action.REGISTER_STUDY))],
    response: Response,
) -> StudyState:
    """Take the custodian's notice that a study key is out of use; 200 where it is here already."""
    state, new = broker.studies.deactivate(grant.caller.actor, body)
    response.status_code = 201 if new else 200
    return state


@router.get("/studies/{study_id}")
def study_state(
    broker: Services, grant: Annotated[Grant, Depends(May(Action.READ_STUDY))]
) -> StudyState:
    """Return the study and which parties have uploaded."""
    return broker.studies.state(grant)


@router.get("/studies/{study_id}/signed")
def signed_study(grant: Annotated[Grant, Depends(May(Action.READ_STUDY))]) -> SignedStudy:
    """Return the signed study; whoever gets it checks the custodian's fingerprint."""
    return grant.study.signed
