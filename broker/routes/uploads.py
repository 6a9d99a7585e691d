"""Dataset versions: manifest, parts, complete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from broker.blobs import Receiving
from broker.policy import Action, Grant
from broker.routes.common import May, Services, receive
from broker.services.uploads import ExpectedPart
from linkage.governance import Withdrawal
from linkage.messages import DatasetState, Manifest

router = APIRouter(prefix="/v1/studies/{study_id}/datasets")

Uploader = Annotated[Grant, Depends(May(Action.UPLOAD))]
Withdrawer = Annotated[Grant, Depends(May(Action.WITHDRAW))]
Number = Annotated[int, Path(ge=1, le=1_000_000)]


def expected_part(grant: Uploader, broker: Services, dataset: Number, part: Number) -> ExpectedPart:
    """Return the announced part; refused before a byte of the body is read."""
    return broker.uploads.expected_part(grant, dataset, part)


Expected = Annotated[ExpectedPart, Depends(expected_part)]


async def part_body(
    request: Request, expected: Expected, broker: Services
) -> AsyncIterator[Receiving]:
    """Receive the body; nothing of it stays unless the route keeps it."""
    with broker.blobs.receiving() as received:
        await receive(request, received, cap=expected.part.size)
        yield received


@router.post("", status_code=201)
def announce(body: Manifest, grant: Uploader, broker: Services, response: Response) -> DatasetState:
    """Announce a dataset version by its signed manifest; 200 where it is here already."""
    state, new = broker.uploads.announce(grant, body)
    response.status_code = 201 if new else 200
    return state


@router.post("/{uploader}/withdraw")
def withdraw(body: Withdrawal, grant: Withdrawer, broker: Services) -> list[DatasetState]:
    """Take back every dataset version: nothing is linked or released of them any more."""
    return broker.uploads.withdraw(grant, body)


@router.put("/{uploader}/{dataset}/parts/{part}", status_code=204)
def put_part(
    expected: Expected, received: Annotated[Receiving, Depends(part_body)], broker: Services
) -> None:
    """Take one sealed part, a raw body."""
    broker.uploads.take_part(expected, received)


@router.post("/{uploader}/{dataset}/complete")
def complete(grant: Uploader, broker: Services, dataset: Number) -> DatasetState:
    """Confirm that every part has come."""
    return broker.uploads.complete(grant, dataset)


# A number, so that this is not the address of `withdraw` with another method.
@router.get("/{uploader}/{dataset:int}")
def dataset_state(
    grant: Annotated[Grant, Depends(May(Action.READ_DATASET))],
    broker: Services,
    uploader: str,
    dataset: Number,
) -> DatasetState:
    """Return which parts are missing."""
    return broker.uploads.state(grant, uploader, dataset)
