"""
What Schemathesis shall check of this broker beyond its own checks; it loads this file itself.

FUZZ_OPEN: addresses that answer strangers, space-separated. FUZZ_CALLER: "stranger", or a name.
FUZZ_KNOWN: JSON, by the name that a path gives it, what is there. FUZZ_EVERY: of the cases that
cover a description systematically, send every so many.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

_CALLER = os.environ.get("FUZZ_CALLER", "")
_OPEN = frozenset(os.environ.get("FUZZ_OPEN", "").split())
_KNOWN: dict[str, list[Any]] = json.loads(os.environ.get("FUZZ_KNOWN", "{}"))
_EVERY = int(os.environ.get("FUZZ_EVERY", "1"))
_count = itertools.count()


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Thin out what the phase `coverage` sends."""
    covers = case.meta is not None and case.meta.phase.name.value == "coverage"
    return not covers or next(_count) % _EVERY == 0


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Name in every path what is there; else whole phases would end at 404."""
    for ways in raw_schema["paths"].values():
        for operation in ways.values():
            for parameter in operation.get("parameters", ()):
                known = _KNOWN.get(parameter["name"])
                if known and parameter["in"] == "path":
                    parameter["examples"] = {str(i): {"value": v} for i, v in enumerate(known[:2])}


@schemathesis.check
def every_refusal_is_a_problem(ctx: CheckContext, response: Response, case: Case) -> None:
    """RFC 9457: the media type, the status once more, a code, a text, a remedy."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind == "application/problem+json", f"{response.status_code} as {kind!r}"
    told = response.json()
    assert told["status"] == response.status_code, "the document has another status"
    assert told["type"].endswith("/" + told["code"]), "type and code differ"
    assert told["detail"], "no detail"
    assert told["hint"], "no hint"


@schemathesis.check
def strangers_get_nothing(ctx: CheckContext, response: Response, case: Case) -> None:
    """Whoever shows no token is told no more than that, at every address but the open ones."""
    if _CALLER != "stranger" or case.operation.path in _OPEN:
        return
    assert response.status_code >= 400, "a stranger was answered"
    assert "linkage-audit-head" not in response.headers, "a stranger got a head of the audit log"


@schemathesis.check
def nothing_is_cached_or_compressed(ctx: CheckContext, response: Response, case: Case) -> None:
    """Sizes of answers are looked at by nobody on the way: no compression beside secrets."""
    assert "content-encoding" not in response.headers
