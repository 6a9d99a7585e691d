"""The HTTP API as one FastAPI application: `create_app(Broker.at(home))`."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from broker import problems
from broker.container import Broker
from broker.description import describe
from broker.limits import Outermost
from broker.routes import (
    assertions,
    audit,
    health,
    jobs,
    relay,
    runs,
    second_looks,
    studies,
    uploads,
)
from linkage.errors import LinkageError


def create_app(broker: Broker) -> FastAPI:
    """Return the application over these services."""
    app = FastAPI(title="Commons Linkage honest broker", version="1", docs_url=None, redoc_url=None)
    app.state.broker = broker
    # Assigned as FastAPI documents it, "Extending OpenAPI".
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    for module in (health, studies, uploads, assertions, runs, second_looks, jobs, relay, audit):
        app.include_router(module.router)
    app.add_exception_handler(LinkageError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _framework)
    limits = broker.home.config.limits
    app.add_middleware(Outermost, json_bytes=limits.json_bytes, known=broker.sign_in.caller)
    return app


def _ours(_request: Request, error: Exception) -> JSONResponse:
    return problems.of_error(error) if isinstance(error, LinkageError) else _unknown(error)


def _malformed(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, RequestValidationError):
        return problems.of_validation(error)
    return _unknown(error)


def _framework(_request: Request, error: Exception) -> JSONResponse:
    return problems.of_http(error) if isinstance(error, HTTPException) else _unknown(error)


def _unknown(error: Exception) -> JSONResponse:
    return problems.of_unknown(error)
