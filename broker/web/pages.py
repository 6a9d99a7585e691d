"""The portal as one router, and what it shows in place of a problem document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import compile_path

from broker.browsers import READING
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
from broker.web.ways import came_from, sign_in_first

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
_MALFORMED = {
    404: {"detail": "There is no such page.", "hint": "Go back to your studies."},
    405: {"detail": "This page takes nothing of that kind.", "hint": "Go back to your studies."},
    422: {
        "detail": "Something in this address does not fit.",
        "hint": "Go back, and follow a link or press a button there.",
    },
}
"""What a person is told in place of the framework's own refusals, by status."""


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
    reading = request.method in READING
    if answer.status_code == 405 and reading:
        # The address of a form, loaded again after it was refused.
        return RedirectResponse(page_above(request.url.path), status_code=303)
    problem = json.loads(bytes(answer.body))
    if problem["code"] == "malformed-request":
        problem |= _MALFORMED.get(answer.status_code, {})
    # Whoever reads a page is told what he may not, not under which name.
    problem["detail"] = re.sub(r"^'person/[^']*' may", "you may", problem["detail"])
    template = "problem_part.html" if "hx-request" in request.headers else "problem.html"
    browsers = request.app.state.broker.door.browsers
    back = "" if reading else came_from(request, browsers) or page_above(request.url.path)
    shown = open_page(request, template, status=answer.status_code, problem=problem, back=back)
    for name in ("retry-after", "allow"):
        if name in answer.headers:
            shown.headers[name] = answer.headers[name]
    return shown


def page_above(path: str) -> str:
    """Return the page at an address, or else the nearest one above it."""
    while path and not any(page.fullmatch(path) for page in _pages()):
        path = path.rpartition("/")[0]
    return path or "/"


@cache
def _pages() -> tuple[re.Pattern[str], ...]:
    return tuple(compile_path(path)[0] for method, path in addresses() if method == "GET")


def _sign_in_first(request: Request, _error: Exception) -> Response:
    browsers = request.app.state.broker.door.browsers
    where = sign_in_first(request, browsers, page_above(request.url.path))
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"hx-redirect": where})
    return RedirectResponse(where, status_code=303)
