"""Access of parties and contributors: their keys, and whose is suspended; for the admin."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from broker.policy import Action, Grant
from broker.routes.common import Address, May, Services
from broker.services.access import require_reason
from linkage.admin_messages import AccessRestored, AccessState, AccessSuspended

router = APIRouter(prefix="/v1/studies/{study_id}/access")

Reading = Annotated[Grant, Depends(May(Action.READ_ACCESS))]
Changing = Annotated[Grant, Depends(May(Action.CHANGE_ACCESS, proved=True))]


@router.get("")
def access(grant: Reading, broker: Services) -> list[AccessState]:
    """Return every party and contributor with the fingerprint of its key."""
    return broker.access.of_study(grant)


@router.post("/{actor}/suspend")
def suspend(
    actor: str,
    body: AccessSuspended,
    grant: Changing,
    broker: Services,
    request: Request,
    address: Address,
) -> AccessState:
    """End its tokens now, and give it no others; for the hour in which a key was stolen."""
    # Before a code is used up: is there such a site, and will the reason do?
    broker.access.one(grant, actor)
    require_reason(body.reason)
    broker.door.prove(request.headers, grant.caller, body.proof, address=address)
    broker.access.suspend(grant.study.id, actor, body.reason, by=grant.caller.actor)
    return broker.access.one(grant, actor)


@router.post("/{actor}/restore")
def restore(
    actor: str,
    body: AccessRestored,
    grant: Changing,
    broker: Services,
    request: Request,
    address: Address,
) -> AccessState:
    """Let it sign in again, with the key that the study pins now."""
    broker.door.prove(request.headers, grant.caller, body.proof, address=address)
    broker.access.restore(grant.study.id, actor, by=grant.caller.actor)
    return broker.access.one(grant, actor)
