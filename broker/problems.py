"""
Errors to problem documents (RFC 9457): one table, nothing of the request echoed.

An error that is not in the tree of `linkage.errors` loses its text: the caller gets an error
id, the log gets the id, the type and the places, but not the message, which could hold a value.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from linkage import account_messages, admin_messages, certificate, errors, messages

STATUS: Mapping[type[errors.LinkageError], int] = {
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.CallerRefused: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.RequestReused: 422,
    errors.TooLarge: 413,
    errors.PackageRefused: 422,
    errors.KeyRefused: 422,
    errors.ConfigRefused: 422,
    errors.SchemaRefused: 422,
    errors.EncodingRefused: 422,
    errors.MatchingFailed: 422,
    errors.TooManyRequests: 429,
    errors.TooSlow: 408,
    errors.Unreachable: 503,
    errors.LinkageError: 400,
}
"""By the nearest class above an error."""

_ABOUT = "https://commons-linkage.example/problems/"
_OUR_FIELDS = frozenset(
    name
    for model in (
        *vars(messages).values(),
        *vars(certificate).values(),
        *vars(account_messages).values(),
        *vars(admin_messages).values(),
    )
    if isinstance(model, type) and issubclass(model, BaseModel)
    for name in model.model_fields
) | {
    "body",
    "query",
    "path",
    "header",
    "custodian_fingerprint",
    "allow_missing",
    "everywhere",
    "allow_changed_parties",
    "study_toml",
    "certificate",
}
_log = structlog.get_logger("linkage.broker")


def of_error(error: errors.LinkageError) -> JSONResponse:
    """Return the problem document of one of our errors."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    if status == 503:
        headers["retry-after"] = "2"
    if isinstance(error, errors.TooManyRequests):
        headers["retry-after"] = str(error.retry_after)
    return _document(status, error.code, error.message, error.hint, headers)


def of_validation(error: RequestValidationError) -> JSONResponse:
    """Return which fields do not fit, never what they held."""
    faults = [f"{_place(one['loc'])}: {_rule(one)}" for one in error.errors()[:5]]
    return _document(
        422, "malformed-request", "; ".join(faults), "see docs/broker.md and /openapi.json"
    )


def of_http(error: HTTPException) -> JSONResponse:
    """Return the problem document of the framework's own refusals (404, 405, bad JSON)."""
    texts = {404: "there is no such address", 405: "this address has no such method"}
    text = texts.get(error.status_code, "the request cannot be read")
    hint = "the addresses are in /openapi.json"
    return _document(error.status_code, "malformed-request", text, hint, dict(error.headers or {}))


def of_unknown(error: Exception) -> JSONResponse:
    """Log an unforeseen error under a new id and return the id alone."""
    error_id = secrets.token_hex(8)
    _log.error("unforeseen error", error_id=error_id, **described(error))
    return _document(
        500,
        "unforeseen-error",
        f"an unforeseen error, id {error_id}",
        "give the id to the broker's admin, who finds it in the log",
    )


def described(error: BaseException) -> dict[str, Any]:
    """Return type and places of an error, without its message or any value."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
    return {"error": type(error).__name__, "places": places}


def _document(
    status: int, code: str, detail: str, hint: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    problem = messages.Problem(
        type=_ABOUT + code,
        title=code.replace("-", " "),
        status=status,
        detail=detail,
        code=code,
        hint=hint,
        request=structlog.contextvars.get_contextvars().get("request", ""),
    )
    return JSONResponse(
        problem.model_dump(),
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def _place(loc: Sequence[str | int]) -> str:
    # A key that the caller made up is the caller's text: it is not repeated either.
    return ".".join(p if p in _OUR_FIELDS else "*" for p in map(str, loc))


def _rule(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "extra_forbidden":
        return "is not a known key"
    if fault["type"] in ("value_error", "assertion_error"):
        return "has a value that is not allowed"
    return str(fault["msg"])[:1].lower() + str(fault["msg"])[1:]
