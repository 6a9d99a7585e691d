"""
Who looks at a page, and whether they may: the session's cookie, the CSRF token of a form, and the
same policy that the API asks (broker.policy). Access tokens open no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from broker.browsers import CSRF, READING
from broker.container import Broker
from broker.policy import Action, Caller, Grant, require_id
from broker.routes.common import Services
from broker.store.studies import StudyRow
from broker.web.forms import CSRF_FIELD, Form, read_form
from linkage.account_messages import SessionState
from linkage.errors import LinkageError, NotAuthenticated

POLL = "linkage-poll"
"""A header of what an open page asks by itself: nobody has to be there."""


class SignInFirst(Exception):
    """Nobody is signed in, or the session is over: the sign-in page comes first."""


@dataclass(frozen=True, slots=True)
class Visit:
    """
    One request for a page by somebody who is signed in. grant: for the page's action; None where
    the page only asks that somebody is signed in. form: what was posted. seen: the page's study,
    once it was asked what may be offered there.
    """

    request: Request
    broker: Broker
    caller: Caller
    session: SessionState
    granted: Grant | None = None
    form: Form = field(default_factory=dict)
    seen: list[StudyRow | None] = field(default_factory=list)

    @property
    def grant(self) -> Grant:
        """The passed check of the page's action. Raises LinkageError: a fault of ours."""
        if self.granted is None:
            raise LinkageError("the page asks for no action")
        return self.granted

    @property
    def partial(self) -> bool:
        """Does htmx ask, for a part of the page?"""
        return "hx-request" in self.request.headers

    def may(self, action: Action, uploader: str | None = None) -> bool:
        """
        Whether the visitor may do `action` in the page's study: what a page offers. Of one look at
        the study: a page asks some twenty times. Whoever then does it is checked anew.
        """
        study_id, studies = self.request.path_params.get("study_id"), self.broker.studies
        if not self.seen:
            self.seen.append(studies.find(study_id))
        try:
            studies.grant_in(
                self.caller, action, self.seen[0], study_id=study_id, uploader=uploader
            )
        except LinkageError:
            return False
        return True

    def grant_for(self, action: Action, uploader: str | None = None) -> Grant:
        """Return the check of another action in the page's study. Raises as `broker.policy`."""
        study_id = self.request.path_params.get("study_id")
        return self.broker.studies.grant(self.caller, action, study_id=study_id, uploader=uploader)

    def text(self, name: str) -> str:
        """Return a field of the form, "" where it is not there."""
        return self.form.get(name, ("",))[0]

    def texts(self, name: str) -> Sequence[str]:
        """Return every value of a field."""
        return self.form.get(name, ())


class PageMay:
    """
    A dependency: somebody is signed in and may do `action` in the study of the path; with no
    action, that somebody is signed in. Gives the Visit.
    """

    def __init__(self, action: Action | None = None) -> None:
        self.action = action

    async def __call__(self, request: Request, broker: Services) -> Visit:
        """Raises SignInFirst; NotAuthenticated for a form without its token; as the policy."""
        form = await read_form(request)
        return await run_in_threadpool(self._visit, request, broker, form)

    def _visit(self, request: Request, broker: Broker, form: Form) -> Visit:
        caller, session = _signed_in(request, broker, form)
        if self.action is None:
            return Visit(request, broker, caller, session, None, form)
        path = {name: require_id(str(text)) for name, text in request.path_params.items()}
        grant = broker.studies.grant(
            caller, self.action, study_id=path.get("study_id"), uploader=path.get("uploader")
        )
        return Visit(request, broker, caller, session, grant, form)


Anyone = Annotated[Visit, Depends(PageMay())]
"""Whoever is signed in."""


def _signed_in(request: Request, broker: Broker, form: Form) -> tuple[Caller, SessionState]:
    door = broker.door
    cookie = door.browsers.sent(request.headers, door.browsers.cookie)
    if cookie is None:
        raise SignInFirst
    try:
        found = broker.sessions.find(cookie)
    except NotAuthenticated:
        raise SignInFirst from None
    csrf = form.get(CSRF_FIELD, ("",))[0] or request.headers.get(CSRF, "")
    if request.method not in READING:
        door.browsers.require_own(request.headers)
    try:
        caller = broker.sessions.admit(
            found,
            csrf=None if request.method in READING else csrf,
            used=POLL not in request.headers,
        )
    except NotAuthenticated:
        raise NotAuthenticated(
            "this page was opened in another session, and nothing was done",
            hint="load it again, then do it again; its CSRF token is not this session's",
        ) from None
    return caller, broker.sessions.told(found)
