"""
Read the JSON of a linkage schema strictly: every refusal names its place and the remedy.

A place is written as in `features[2].hashing.hash`; features count from 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from typing import Any

from linkage.errors import SchemaRefused


def parsed(source: str | bytes | Mapping[str, object], remedy: str) -> object:
    """Return the object that JSON text holds. Raises SchemaRefused for a key given twice, too."""
    if isinstance(source, Mapping):
        return source
    try:
        return json.loads(source, object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError):
        raise SchemaRefused("the linkage schema is not valid JSON", hint=remedy) from None


def refused(place: str, rule: str, hint: str) -> SchemaRefused:
    """Return the error for a broken rule at `place` ("" is the top level)."""
    return SchemaRefused(f"linkage schema, {place or 'top level'}: {rule}", hint=hint)


def join(place: str, key: str) -> str:
    """Return the place of `key` in the object at `place`."""
    return f"{place}.{key}" if place else key


def object_at(found: object, place: str, required: Set[str], remedy: str) -> Mapping[str, Any]:
    """Return an object that has the required keys, and perhaps others."""
    if not isinstance(found, Mapping):
        raise refused(place, "is not an object", remedy)
    if missing := sorted(required - found.keys()):
        raise refused(join(place, missing[0]), "is missing", remedy)
    return found


def closed(
    found: object, place: str, required: Set[str], optional: Set[str], remedy: str
) -> Mapping[str, Any]:
    """Return an object that has the required keys, and no others but the optional ones."""
    if not isinstance(found, Mapping):
        raise refused(place, "is not an object", remedy)
    if unknown := sorted(str(key) for key in found.keys() - required - optional):
        known = ", ".join(sorted(required | optional))
        raise refused(join(place, unknown[0]), "is not a known key", f"known here: {known}")
    return object_at(found, place, required, remedy)


def is_integer(found: object) -> bool:
    """Say whether a JSON value is an integer; true and false are not."""
    return isinstance(found, int) and not isinstance(found, bool)


def _unrepeated(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    table: dict[str, object] = {}
    for key, value in pairs:
        if key in table:
            raise refused(key, "occurs twice in one object", "keep one")
        table[key] = value
    return table
