"""What routes share: the services, the caller's grant, and receiving raw bodies."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request
from starlette.concurrency import run_in_threadpool

from broker.blobs import Receiving
from broker.container import Broker
from broker.limits import HEAD
from broker.policy import Action, Caller, Grant, require_id
from linkage.errors import PackageRefused, TooLarge

KEY = r"^[A-Za-z0-9_-]{8,64}$"
ID = r"^[a-z0-9][a-z0-9-]{0,79}$"


def the_broker(request: Request) -> Broker:
    """Return the services that `create_app` put into the application."""
    broker: Broker = request.app.state.broker
    return broker


OnceKey = Annotated[str | None, Header(alias="Idempotency-Key", pattern=KEY)]

Services = Annotated[Broker, Depends(the_broker)]


def caller(
    request: Request, broker: Services, authorization: Annotated[str | None, Header()] = None
) -> Caller:
    """Return who calls, and have the answer carry the log's head. Raises NotAuthenticated."""
    found = broker.sign_in.caller(authorization)
    setattr(request.state, HEAD, broker.heads.newest())
    return found


class May:
    """A dependency: the caller may do `action` in the study of the path. Gives the grant."""

    def __init__(self, action: Action) -> None:
        self.action = action

    def __call__(
        self, request: Request, broker: Services, who: Annotated[Caller, Depends(caller)]
    ) -> Grant:
        """Raises NotFound or NotAllowed, by `broker.policy`."""
        # Whatever a path names is looked for in a table: no other text gets that far.
        path = {name: require_id(str(text)) for name, text in request.path_params.items()}
        return broker.studies.grant(
            who, self.action, study_id=path.get("study_id"), uploader=path.get("uploader")
        )


async def receive(request: Request, received: Receiving, *, cap: int) -> None:
    """Stream the body into `received`. Raises TooLarge at the cap, in constant memory."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > cap:
        raise TooLarge(
            f"the body is larger than the {cap} bytes expected",
            hint="send exactly what was announced, within the broker's limits",
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise PackageRefused("a compressed body is not taken", hint="send the sealed bytes as is")
    async for chunk in request.stream():
        await run_in_threadpool(received.write, chunk, cap=cap)
