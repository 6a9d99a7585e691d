"""What questions may name: the parties' lists of concepts and values, and the search in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from broker.blobs import Receiving
from broker.policy import Action, Grant
from broker.routes.common import May, Services, receive
from broker.services.offered import Search
from linkage.messages import Name
from linkage.offered import (
    MOST_OFFERED_BYTES,
    MOST_SAID,
    ConceptsFound,
    Domain,
    OfferedHead,
    OfferTaken,
    OfferWithdrawal,
)

router = APIRouter(prefix="/v1/studies/{study_id}")

Offering = Annotated[Grant, Depends(May(Action.OFFER))]
Reader = Annotated[Grant, Depends(May(Action.READ_OFFERED))]


async def body(request: Request, grant: Offering, broker: Services) -> AsyncIterator[Receiving]:
    """Receive the body; nothing of it stays but the rows that the service makes of it."""
    with broker.blobs.receiving() as received:
        await receive(request, received, cap=MOST_OFFERED_BYTES)
        yield received


@router.get("/offered")
def offered(grant: Reader, broker: Services) -> list[OfferedHead]:
    """Return the signed heads of the lists that are there, by party; values are in them."""
    return broker.offered.heads(grant)


@router.put("/offered")
def offer(
    grant: Offering, received: Annotated[Receiving, Depends(body)], broker: Services
) -> OfferTaken:
    """Take the calling party's list, which replaces the one before."""
    return broker.offered.take(grant, received)


@router.post("/offered/withdraw")
def withdraw(
    body: OfferWithdrawal,
    grant: Annotated[Grant, Depends(May(Action.WITHDRAW_OFFER))],
    broker: Services,
) -> OfferTaken:
    """Delete the calling party's list."""
    return broker.offered.withdraw(grant, body)


@router.get("/concepts")
def concepts(
    grant: Reader,
    broker: Services,
    words: Annotated[str, Query(min_length=1, max_length=MOST_SAID)],
    domain: Annotated[Domain | None, Query()] = None,
    party: Annotated[Name | None, Query()] = None,
    page: Annotated[int, Query(ge=1, le=1_000)] = 1,
) -> ConceptsFound:
    """Search the concepts that the parties offer: by words, id or code; best first."""
    return broker.offered.search(grant, Search(words, domain or "", party or "", page))
