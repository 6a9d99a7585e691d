"""The HTTP API as one FastAPI application: `create_app(Broker.at(home))`."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from broker import problems
from broker.container import Broker
from broker.description import describe
from broker.limits import Outermost
from broker.routes import (
    access,
    accounts,
    assertions,
    audit,
    governance,
    health,
    jobs,
    offered,
    proposals,
    relay,
    reviews,
    runs,
    second_looks,
    sessions,
    storage,
    studies,
    system,
    uploads,
)
from broker.web.pages import add_portal, is_page, problem_page
from linkage.errors import LinkageError


def create_app(broker: Broker) -> FastAPI:
    """Return the application over these services."""
    app = FastAPI(title="Commons Linkage honest broker", version="1", docs_url=None, redoc_url=None)
    app.state.broker = broker
    # Assigned as FastAPI documents it, "Extending OpenAPI".
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    for module in (health, studies, uploads, assertions, runs, second_looks, jobs, relay, audit):
        app.include_router(module.router)
    app.include_router(governance.router)
    app.include_router(proposals.router)
    app.include_router(offered.router)
    app.include_router(reviews.router)
    app.include_router(sessions.router)
    app.include_router(access.router)
    app.include_router(accounts.router)
    app.include_router(storage.router)
    app.include_router(system.router)
    add_portal(app)
    app.add_exception_handler(LinkageError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _framework)
    limits = broker.home.config.limits
    app.add_middleware(
        Outermost,
        json_bytes=limits.json_bytes,
        known=broker.door.caller,
        headers=tuple(broker.door.browsers.headers()),
        shown=_told,
    )
    return app


def _ours(request: Request, error: Exception) -> Response:
    if isinstance(error, LinkageError):
        return _told(request, problems.of_error(error))
    return _told(request, problems.of_unknown(error))


def _malformed(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        return _told(request, problems.of_validation(error))
    return _told(request, problems.of_unknown(error))


def _framework(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _told(request, problems.of_unknown(error))
    answer = problems.of_http(error)
    if error.status_code == 405 and not is_page(request):
        answer.headers["allow"] = _methods_of(request)
    return _told(request, answer)


def _told(request: Request, answer: JSONResponse) -> Response:
    """Return a problem as whoever asked reads it: a program, or a person."""
    return problem_page(request, answer) if is_page(request) else answer


def _methods_of(request: Request) -> str:
    """Return every method of an address: each has a route, and the framework tells the first's."""
    paths = describe(request.app)["paths"]
    here = [path for path in paths if _is(path, request.scope["path"])]
    # Where two templates fit, the address is that with fewer names in it.
    ways = paths[min(here, key=lambda path: path.count("{"))] if here else ()
    return ", ".join(sorted(method.upper() for method in ways))


def _is(template: str, path: str) -> bool:
    return compile_path(template)[0].match(path) is not None
