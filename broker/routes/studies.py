"""Signing in, and studies."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from broker.policy import Action, Grant
from broker.routes.common import Address, May, Services
from linkage.messages import Deactivation, StudyState, Token, TokenRequest
from linkage.signed_study import SignedStudy

router = APIRouter(prefix="/v1")


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
