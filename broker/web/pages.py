"""The portal as one router, and what it shows in place of a problem document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.responses import Response

from broker.oidc import BACK
from broker.web import (
    admin,
    asking,
    audit,
    home,
    people,
    questions,
    registering,
    releases,
    reviews,
    runs,
    sign_in,
    storage,
    studies,
    study_keys,
)
from broker.web.arrival import wants_page
from broker.web.rendering import FOLDER, Assets, open_page
from broker.web.visits import SignInFirst

_MODULES = (
    admin,
    asking,
    audit,
    home,
    people,
    questions,
    registering,
    releases,
    reviews,
    runs,
    sign_in,
    storage,
    studies,
    study_keys,
)
"""Each has a router of pages; a page that somebody adds is added here."""
_PROGRAMS = ("/v1", "/health", "/metrics", "/openapi.json")


def add_portal(app: FastAPI) -> None:
    """Add every page, and the files that pages need."""
    router = APIRouter()
    for module in _MODULES:
        router.include_router(module.router)
    app.include_router(router)
    app.mount("/static", Assets(directory=FOLDER / "static"), name="static")
    app.add_exception_handler(SignInFirst, _sign_in_first)


def addresses() -> Iterator[tuple[str, str]]:
    """Yield method and template of every page, for tests that try each."""
    for module in _MODULES:
        for route in module.router.routes:
            if isinstance(route, APIRoute):
                yield from ((method, route.path) for method in sorted(route.methods or ()))


def is_page(request: Request) -> bool:
    """Is it an address of the portal, where people read the answer?"""
    path = request.url.path
    # Back from an identity provider comes a person, whatever the address says.
    back = path == BACK and wants_page(request)
    return back or not path.startswith((*_PROGRAMS, "/static"))


def problem_page(request: Request, answer: Response) -> Response:
    """Return a problem document as a page, or as the part that htmx puts at the page's top."""
    problem = json.loads(bytes(answer.body))
    if problem["code"] == "malformed-request" and answer.status_code == 404:
        problem |= {"detail": "There is no such page.", "hint": "Go back to your studies."}
    # Whoever reads a page is told what he may not, not under which name.
    problem["detail"] = re.sub(r"^'person/[^']*' may", "you may", problem["detail"])
    template = "problem_part.html" if "hx-request" in request.headers else "problem.html"
    shown = open_page(request, template, status=answer.status_code, problem=problem)
    for name in ("retry-after", "allow"):
        if name in answer.headers:
            shown.headers[name] = answer.headers[name]
    return shown


def _sign_in_first(request: Request, _error: Exception) -> Response:
    to = request.url.path if request.method == "GET" else "/"
    where = f"/sign-in?to={quote(to)}"
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"hx-redirect": where})
    return RedirectResponse(where, status_code=303)
