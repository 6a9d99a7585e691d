"""Confirmations of the signed study, opt-out lists, and the certificate of a destruction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from broker.blobs import Receiving
from broker.policy import Action, Grant
from broker.routes.common import May, Services, receive
from broker.services.sealed_lists import Announced
from linkage.governance import (
    Confirmation,
    Confirmations,
    DestructionCertificate,
    OptOutState,
    TakenOut,
)

router = APIRouter(prefix="/v1/studies/{study_id}")

Confirming = Annotated[Grant, Depends(May(Action.CONFIRM))]
Reader = Annotated[Grant, Depends(May(Action.READ_CONFIRMATIONS))]
OptingOut = Annotated[Grant, Depends(May(Action.OPT_OUT))]
Number = Annotated[int, Path(ge=1, le=1_000_000)]


@router.post("/confirmations")
def confirm(body: Confirmation, grant: Confirming, broker: Services) -> Confirmations:
    """Take a party's signed confirmation of the study's hash; the last one opens the study."""
    return broker.lifecycle.confirm(grant.party, grant.caller.actor, grant.study.id, body)


@router.get("/confirmations")
def confirmations(grant: Reader, broker: Services) -> Confirmations:
    """Return who has confirmed the hash of the study's epoch."""
    return broker.lifecycle.confirmations(grant.study.id)


@router.get("/opt-outs")
def opt_out_lists(
    grant: Annotated[Grant, Depends(May(Action.READ_OPT_OUTS))], broker: Services
) -> list[OptOutState]:
    """Return the lists that the caller sent, for an admin everybody's; newest first."""
    return broker.opt_outs.all(grant)


@router.get("/taken-out")
def taken_out(
    grant: Annotated[Grant, Depends(May(Action.READ_TAKEN_OUT))], broker: Services
) -> list[TakenOut]:
    """Return how many of the caller's own records stand taken out, for an admin everybody's."""
    return broker.opt_outs.taken_out(grant)


def announced(grant: OptingOut, broker: Services, number: Number) -> Announced:
    """Check whether the list may come, before its body is read."""
    return broker.opt_outs.announce(grant, number)


Coming = Annotated[Announced, Depends(announced)]


async def body(request: Request, coming: Coming, broker: Services) -> AsyncIterator[Receiving]:
    """Receive the body; nothing of it stays unless the route keeps it."""
    with broker.blobs.receiving() as received:
        await receive(request, received, cap=coming.cap)
        yield received


@router.put("/opt-outs/{number}", status_code=201)
def put_opt_outs(
    coming: Coming,
    received: Annotated[Receiving, Depends(body)],
    broker: Services,
    response: Response,
) -> OptOutState:
    """Take the caller's next opt-out list, which replaces all before it; 200 where it is here."""
    state, new = broker.opt_outs.take(coming, received)
    response.status_code = 201 if new else 200
    return state


@router.get("/destruction")
def destruction(
    grant: Annotated[Grant, Depends(May(Action.READ_DESTRUCTION))], broker: Services
) -> DestructionCertificate:
    """Return the signed certificate of the study's destruction."""
    return broker.lifecycle.certificate(grant.study.id)
