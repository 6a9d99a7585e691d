"""People signing in and out, and what an invitation opens. Access tokens are for programs."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from broker.routes.common import Address, Services
from broker.web.arrival import arrived
from linkage.account_messages import (
    AccountReady,
    Enrolment,
    InvitationAccepted,
    InvitationOpened,
    PasswordChange,
    PasswordSignIn,
    SessionState,
)

router = APIRouter(prefix="/v1")


def own_site(request: Request, broker: Services) -> None:
    """Raises NotAllowed for a request that another web site has the browser send."""
    broker.door.browsers.require_own(request.headers)


def session_cookie(request: Request, broker: Services) -> str | None:
    """Return the session's cookie, whatever it is worth."""
    return broker.door.browsers.sent(request.headers, broker.door.browsers.cookie)


def signed_in(request: Request, broker: Services) -> str:
    """Return the cookie of a session that is valid. Raises NotAuthenticated, NotAllowed."""
    return broker.door.session(request.headers, request.method)


Cookie = Annotated[str | None, Depends(session_cookie)]
SignedIn = Annotated[str, Depends(signed_in)]
Own = [Depends(own_site)]


@router.post("/session", dependencies=Own)
def sign_in(
    body: PasswordSignIn, broker: Services, address: Address, cookie: Cookie, response: Response
) -> SessionState:
    """Sign in with password and second factor; sets the session's cookie."""
    begun = broker.sessions.sign_in(body, address=address, cookie=cookie)
    broker.door.browsers.keep(response, begun.cookie)
    return begun.state


@router.get("/session")
def session_state(cookie: SignedIn, broker: Services) -> SessionState:
    """Return who is signed in, with the CSRF token."""
    return broker.sessions.state(cookie)


@router.post("/session/end", status_code=204)
def sign_out(
    cookie: SignedIn, broker: Services, response: Response, everywhere: bool = False
) -> None:
    """Sign out; everywhere: end all sessions of this person."""
    broker.sessions.end(cookie, everywhere=everywhere)
    broker.door.browsers.forget(response, broker.door.browsers.cookie)


@router.post("/session/password")
def change_password(
    body: PasswordChange, cookie: SignedIn, broker: Services, address: Address, response: Response
) -> AccountReady:
    """Change one's password; ends every session, and gives new recovery codes."""
    ready = broker.door.change_password(cookie, body, address=address)
    broker.door.browsers.forget(response, broker.door.browsers.cookie)
    return ready


@router.get("/session/provider", status_code=303, response_class=RedirectResponse)
def go_to_provider(broker: Services, address: Address) -> RedirectResponse:
    """Go to the identity provider, to sign in there."""
    url, away = broker.door.counted(address, broker.provider.send)
    answer = RedirectResponse(url, status_code=303)
    broker.door.browsers.keep_away(answer, away)
    return answer


@router.get("/session/provider/back", response_model=SessionState)
def come_back(request: Request, broker: Services, address: Address, cookie: Cookie) -> Response:
    """Come back from the identity provider; sets the session's cookie. Browsers get a page."""
    browsers, query = broker.door.browsers, dict(request.query_params)
    away = browsers.sent(request.headers, browsers.away_cookie)
    arrive = partial(broker.provider.receive, query, away, cookie=cookie)
    begun = broker.door.counted(address, arrive)
    answer = arrived(request, begun.state)
    browsers.keep(answer, begun.cookie)
    browsers.forget(answer, browsers.away_cookie)
    return answer


@router.post("/invitations/open", dependencies=Own)
def open_invitation(body: InvitationOpened, broker: Services, address: Address) -> Enrolment:
    """Return whose invitation it is, and a new secret for the authenticator."""
    secret = body.invitation_secret
    return broker.door.counted(address, lambda: broker.accounts.open_invitation(secret))


@router.post("/invitations/accept", dependencies=Own)
def accept_invitation(body: InvitationAccepted, broker: Services, address: Address) -> AccountReady:
    """Set password and second factor; the answer holds the recovery codes, this once."""
    return broker.door.counted(address, lambda: broker.accounts.accept_invitation(body))
