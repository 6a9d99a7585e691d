"""Inboxes and outboxes: sealed objects, raw."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from broker.blobs import Receiving
from broker.policy import Action, Grant
from broker.routes.common import ID, May, Services, receive
from broker.services.relay import Announced
from linkage.messages import Inbox, SealedItem

router = APIRouter(prefix="/v1/studies/{study_id}")

Reader = Annotated[Grant, Depends(May(Action.READ_INBOX))]
Sender = Annotated[Grant, Depends(May(Action.SEND))]
Text = Annotated[str, Query(pattern=ID)]


class RawBytes(StreamingResponse):
    """A sealed object as it is."""

    media_type = "application/octet-stream"


def raw(item: SealedItem, pieces: Iterator[bytes], span: range | None = None) -> RawBytes:
    """Return a sealed object's bytes as an answer. span: which of them, None for all."""
    headers = {"content-length": str(item.size), "etag": f'"{item.digest}"'}
    if span is None:
        return RawBytes(pieces, headers=headers)
    headers["content-length"] = str(len(span))
    headers["content-range"] = f"bytes {span[0]}-{span[-1]}/{item.size}"
    return RawBytes(pieces, 206, headers)


def asked(
    part: Annotated[str | None, Header(alias="Range", description="bytes=FIRST-LAST")] = None,
) -> range | None:
    """
    Return which bytes are asked for. None, all, also for a kind of range that is not known, as RFC
    9110, 14.2 has it.
    """
    found = re.fullmatch(r"bytes=([0-9]{1,15})-([0-9]{1,15})", part or "")
    return range(int(found[1]), int(found[2]) + 1) if found else None


Span = Annotated[range | None, Depends(asked)]
_PART: dict[int | str, dict[str, Any]] = {
    206: {"description": "The part that was asked for", "content": {RawBytes.media_type: {}}}
}


@router.get("/inbox")
def inbox(
    grant: Reader,
    broker: Services,
    purpose: Annotated[str | None, Query(pattern=ID)] = None,
    subject: Annotated[str | None, Query(pattern=ID)] = None,
) -> Inbox:
    """Return the sealed objects addressed to the caller."""
    return broker.relay.inbox(grant, purpose=purpose, subject=subject)


@router.get("/inbox/{item_id}", response_class=RawBytes, responses=_PART)
def inbox_item(grant: Reader, broker: Services, item_id: str, span: Span) -> RawBytes:
    """Return one sealed object, raw: all of it, or a part."""
    return raw(*broker.relay.open(grant, item_id, span))


def announced(
    grant: Sender, broker: Services, recipient: Text, purpose: Text, subject: Text
) -> Announced:
    """Check where the object may go, before its body is read."""
    return broker.relay.announce(grant, recipient, purpose, subject)


Coming = Annotated[Announced, Depends(announced)]


async def body(request: Request, coming: Coming, broker: Services) -> AsyncIterator[Receiving]:
    """Receive the body; nothing of it stays unless the route keeps it."""
    with broker.blobs.receiving() as received:
        await receive(request, received, cap=coming.cap)
        yield received


@router.put("/outbox", status_code=201)
def send(
    coming: Coming,
    received: Annotated[Receiving, Depends(body)],
    broker: Services,
    response: Response,
) -> SealedItem:
    """Relay one sealed object to another party; 200 where it is here already."""
    item, new = broker.relay.take(coming, received)
    response.status_code = 201 if new else 200
    return item
