"""
The API's description (OpenAPI), completed: path ids that the policy reads, raw bodies, every answer
that there can be with its headers, and who needs a token. Tools that test or generate clients rely
on it, and a test sends generated requests to a real broker and compares (tests/fuzz).
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from broker.routes.common import ID
from linkage.audit_chain import HEADER
from linkage.messages import Problem

_OPEN = {"/health", "/health/live", "/health/ready", "/v1/token"}
_OPEN |= {"/v1/session/provider", "/v1/session/provider/back"}
_OPEN |= {"/v1/session", "/v1/invitations/open", "/v1/invitations/accept"}
_RAW = "application/octet-stream"
_REFUSALS = {
    "400": "the request cannot be read",
    "401": "no token, or one that is not known or expired",
    "403": "known, and not allowed to do this",
    "404": "not there, or not the caller's: the two are told alike",
    "408": "the body did not come in time",
    "409": "contradicts what is there",
    "413": "larger than its cap",
    "422": "does not fit its description, or does not hold",
    "429": "too many attempts, or too many at once",
    "500": "a fault of ours, told by an id alone",
    "503": "database or store do not answer",
}
_WAIT = {
    "description": "seconds",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
_HEADERS: dict[str, dict[str, Any]] = {
    "401": {
        "WWW-Authenticate": {
            "description": "how to authenticate (RFC 6750)",
            "required": True,
            "schema": {"type": "string"},
        }
    },
    "429": {"Retry-After": _WAIT},
    "503": {"Retry-After": _WAIT},
}
_HEAD = {
    "description": "the newest signed head of the audit log, canonical JSON; once one was signed",
    "schema": {"type": "string"},
}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description of `app`; built once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes)
        parts = made.setdefault("components", {})
        parts["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": _cookie_of(app)},
        }
        parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            parts["schemas"].pop(unused, None)
        for path, ways in made["paths"].items():
            for method, operation in ways.items():
                _complete(path, method, operation)
        app.openapi_schema = made
    return app.openapi_schema


def _cookie_of(app: FastAPI) -> str:
    name: str = app.state.broker.door.browsers.cookie
    return name


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    # The one header is what `security` says; the other one nothing but a POST has a use for.
    needless = {"authorization"} | ({"Idempotency-Key"} if method != "post" else set())
    parameters[:] = [p for p in parameters if p["name"] not in needless]
    named = {p["name"] for p in parameters}
    for name in re.findall(r"{(\w+)}", path):
        if name not in named:
            shape = {"type": "string", "pattern": ID}
            parameters.append({"name": name, "in": "path", "required": True, "schema": shape})
    if method == "put" and "requestBody" not in operation:
        raw = {_RAW: {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": raw}
    if path not in _OPEN:
        ended = path.startswith("/v1/session/")
        operation["security"] = [{"session": []}] if ended else [{"token": []}, {"session": []}]
    _answers(path, operation)


def _answers(path: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    if "201" in answers:
        # What is there already is answered with the same, and 200.
        answers.setdefault("200", answers["201"] | {"description": "It is here already"})
    for answer in [one for status, one in answers.items() if status.startswith("2")]:
        for kind, content in answer.get("content", {}).items():
            if kind == _RAW:
                content["schema"] = {"type": "string", "format": "binary"}
                answer["headers"] = {
                    "ETag": {"description": "SHA-256, hex", "schema": {"type": "string"}}
                }
        if path not in _OPEN:
            answer["headers"] = answer.get("headers", {}) | {HEADER: _HEAD}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, meaning in _REFUSALS.items():
        answers[status] = {"description": meaning, "content": problem}
        if headers := _HEADERS.get(status):
            answers[status]["headers"] = headers
