"""
What somebody sees who comes back from an identity provider.

A page, and no redirection: the session's cookie is SameSite=Strict, and a browser would not send it
along a chain of redirections that another site began. From our own page it does.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from broker.web.rendering import open_page
from linkage.account_messages import SessionState


def wants_page(request: Request) -> bool:
    """Does a browser ask, for a person to read?"""
    return "text/html" in request.headers.get("accept", "")


def arrived(request: Request, state: SessionState) -> Response:
    """Return a page that goes on to the studies; a program gets the session's state."""
    if wants_page(request):
        return open_page(request, "signed_in.html", name=state.name)
    return JSONResponse(state.model_dump())
