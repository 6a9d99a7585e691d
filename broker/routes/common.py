"""What routes share: the services, the caller's grant, and receiving raw bodies."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Depends, Header, Request
from starlette.concurrency import run_in_threadpool

from broker.blobs import Receiving
from broker.container import Broker
from broker.limits import HEAD
from broker.policy import Action, Caller, Grant, require_id
from broker.services.once import Asked, claim
from linkage.errors import PackageRefused, TooLarge

KEY = r"^[A-Za-z0-9_-]{8,64}$"
_WRITE_BYTES = 1 << 20
ID = r"^[a-z0-9][a-z0-9-]{0,79}$"


# Short and never waiting, so no thread is asked for it.
async def the_broker(request: Request) -> Broker:
    """Return the services that `create_app` put into the application."""
    broker: Broker = request.app.state.broker
    return broker


OnceKey = Annotated[str | None, Header(alias="Idempotency-Key", pattern=KEY)]

Services = Annotated[Broker, Depends(the_broker)]


def caller(request: Request, broker: Broker) -> Caller:
    """
    Return who calls, and have the answer carry the log's head. Raises NotAuthenticated; NotAllowed
    where another web site has a person's browser send it.
    """
    found = broker.door.caller(request.headers, request.method)
    setattr(request.state, HEAD, broker.heads.newest())
    return found


async def address_of(request: Request) -> str:
    """Return whose failed attempts to sign in are counted together."""
    return request.client.host if request.client else ""


Address = Annotated[str, Depends(address_of)]


async def asked_once(request: Request, key: str) -> Asked | None:
    """
    Return the caller's idempotency key with what it came with. None for what is no POST: to read
    or put the same again has one effect by itself.
    """
    if request.method != "POST":
        return None
    what = (request.method, request.url.path, request.url.query)
    digest = hashlib.sha256("\n".join(what).encode() + b"\n" + await request.body())
    return Asked(key, digest.hexdigest())


class May:
    """
    A dependency: the caller may do `action` in the study of the path. Gives the grant. A POST with
    an idempotency key that came with another request before goes no further. proved: the body
    holds a password or an assertion, good once; of it not even a digest is kept, so a key is
    passed over.
    """

    def __init__(self, action: Action, *, proved: bool = False) -> None:
        self.action, self._proved = action, proved

    async def __call__(self, request: Request, broker: Services, key: OnceKey = None) -> Grant:
        """Raises NotAuthenticated; NotFound or NotAllowed, by `broker.policy`; RequestReused."""
        if key is None or self._proved:
            # At once in one thread: each change of threads is time that everybody waits.
            return await run_in_threadpool(
                lambda: self._grant(request, broker, caller(request, broker))
            )
        who = await run_in_threadpool(caller, request, broker)
        asked = await asked_once(request, key)
        return await run_in_threadpool(self._grant, request, broker, who, asked)

    def _grant(
        self, request: Request, broker: Broker, who: Caller, asked: Asked | None = None
    ) -> Grant:
        # Whatever a path names is looked for in a table: no other text gets that far.
        path = {name: require_id(str(text)) for name, text in request.path_params.items()}
        grant = broker.studies.grant(
            who, self.action, study_id=path.get("study_id"), uploader=path.get("uploader")
        )
        if asked:
            claim(broker.database, who, asked)
        return grant


async def receive(request: Request, received: Receiving, *, cap: int) -> None:
    """Stream the body into `received`. Raises TooLarge at the cap, in constant memory."""
    length = request.headers.get("content-length", "")
    known = int(length) if length.isascii() and length.isdigit() else 0
    if known > cap:
        raise TooLarge(
            f"the body is larger than the {cap} bytes expected",
            hint="send exactly what was announced, within the broker's limits",
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise PackageRefused("a compressed body is not taken", hint="send the sealed bytes as is")
    await run_in_threadpool(received.expect, known)
    held = bytearray()
    async for chunk in request.stream():
        held += chunk
        # A thread for each piece of 64 KiB would cost more than writing it does.
        if len(held) >= _WRITE_BYTES:
            await run_in_threadpool(received.write, bytes(held), cap=cap)
            held.clear()
    await run_in_threadpool(received.write, bytes(held), cap=cap)
