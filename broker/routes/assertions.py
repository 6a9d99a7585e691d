"""Assertion lists: sealed, raw, by number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from broker.blobs import Receiving
from broker.policy import Action, Grant
from broker.routes.common import May, Services, receive
from broker.services.sealed_lists import Announced
from linkage.assertions import AssertionListState

router = APIRouter(prefix="/v1/studies/{study_id}/assertions")

Reader = Annotated[Grant, Depends(May(Action.READ_ASSERTIONS))]
Asserter = Annotated[Grant, Depends(May(Action.ASSERT))]
Number = Annotated[int, Path(ge=1, le=1_000_000)]


@router.get("")
def assertion_lists(grant: Reader, broker: Services) -> list[AssertionListState]:
    """Return the lists that the caller sent, for an admin everybody's; newest first."""
    return broker.assertions.all(grant)


def announced(grant: Asserter, broker: Services, number: Number) -> Announced:
    """Check whether the list may come, before its body is read."""
    return broker.assertions.announce(grant, number)


Coming = Annotated[Announced, Depends(announced)]


async def body(request: Request, coming: Coming, broker: Services) -> AsyncIterator[Receiving]:
    """Receive the body; nothing of it stays unless the route keeps it."""
    with broker.blobs.receiving() as received:
        await receive(request, received, cap=coming.cap)
        yield received


@router.put("/{number}", status_code=201)
def put_list(
    coming: Coming,
    received: Annotated[Receiving, Depends(body)],
    broker: Services,
    response: Response,
) -> AssertionListState:
    """Take the caller's next list, which replaces all before it; 200 where it is here already."""
    state, new = broker.assertions.take(coming, received)
    response.status_code = 201 if new else 200
    return state
