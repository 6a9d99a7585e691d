"""Second looks: what a run asks of the caller, and the caller's answer, both sealed and raw."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from broker.blobs import Receiving
from broker.policy import Action, Grant
from broker.routes.common import May, Services, receive
from broker.routes.relay import RawBytes
from broker.services.second_looks import Expected
from linkage.run_messages import LookState

router = APIRouter(prefix="/v1/studies/{study_id}/second-looks")

Reader = Annotated[Grant, Depends(May(Action.READ_LOOK))]
Ender = Annotated[Grant, Depends(May(Action.END_LOOK))]
Answerer = Annotated[Grant, Depends(May(Action.ANSWER_LOOK))]


@router.get("")
def second_looks(grant: Reader, broker: Services) -> list[LookState]:
    """Return what the study's unfinished runs ask of the caller, newest first."""
    return broker.second_looks.all(grant)


@router.get("/{run_id}", response_class=RawBytes)
def questions(grant: Reader, broker: Services, run_id: str) -> RawBytes:
    """Return the sealed questions of one run."""
    state, pieces = broker.second_looks.open(grant, run_id)
    headers = {"content-length": str(state.size), "etag": f'"{state.digest}"'}
    return RawBytes(pieces, headers=headers)


def expected(grant: Answerer, broker: Services, run_id: str) -> Expected:
    """Check whether an answer may come, before its body is read."""
    return broker.second_looks.expect(grant, run_id)


Coming = Annotated[Expected, Depends(expected)]


async def body(request: Request, coming: Coming, broker: Services) -> AsyncIterator[Receiving]:
    """Receive the body; nothing of it stays unless the route keeps it."""
    with broker.blobs.receiving() as received:
        await receive(request, received, cap=coming.cap)
        yield received


@router.put("/{run_id}/answer", status_code=201)
def answer(
    coming: Coming,
    received: Annotated[Receiving, Depends(body)],
    broker: Services,
    response: Response,
) -> LookState:
    """Take the sealed answer; 200 where it is here already."""
    state, new = broker.second_looks.take(coming, received)
    response.status_code = 201 if new else 200
    return state


@router.post("/{run_id}/end")
def end(grant: Ender, broker: Services, run_id: str) -> list[LookState]:
    """Let a run wait no longer for those who have not answered."""
    return broker.second_looks.end(grant, run_id)
