"""
The API's description (OpenAPI), completed: path ids that the policy reads, raw bodies, problem
documents and who needs a token. Tools that test or generate clients rely on it.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from broker.routes.common import ID
from linkage.messages import Problem

_OPEN = {"/health", "/v1/token"}
_STATUSES = ("400", "401", "403", "404", "409", "413", "422", "503")


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description of `app`; built once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes)
        parts = made.setdefault("components", {})
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            parts["schemas"].pop(unused, None)
        for path, ways in made["paths"].items():
            for method, operation in ways.items():
                _complete(path, method, operation)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    # The header is what `security` says.
    parameters[:] = [p for p in parameters if p["name"] != "authorization"]
    named = {p["name"] for p in parameters}
    for name in re.findall(r"{(\w+)}", path):
        if name not in named:
            shape = {"type": "string", "pattern": ID}
            parameters.append({"name": name, "in": "path", "required": True, "schema": shape})
    if method == "put":
        raw = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": raw}
    if path not in _OPEN:
        operation["security"] = [{"token": []}]
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in _STATUSES:
        operation["responses"][status] = {"description": "a problem", "content": problem}
