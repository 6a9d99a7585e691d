"""
Two study files side by side: every field that differs, by its place in the file.

    for one in compare(a, b): print(one.place, one.left, one.right)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from linkage.schema import NORMALISATION_VERSION, differences
from linkage.signed_study import SignedStudy
from linkage.study import StudyConfig, load_study

ABSENT = "(not there)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field. place: such as `party alpha, fields`. left, right: as the files say it."""

    place: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Compared:
    """A study file, or what a custodian signed."""

    study: StudyConfig
    signed: SignedStudy | None


def read(path: Path) -> Compared:
    """Read a study file or a signed study, whose signature is checked. Raises StudyRefused."""
    try:
        signed = SignedStudy.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Compared(load_study(path), None)
    return Compared(signed.check(), signed)


def compare(left: Compared, right: Compared) -> list[Difference]:
    """
    Return what differs, in the order of the files: settings, what was signed, pinned keys.

    [[party]], [[clk]] and [[match_key]] are compared by their ids; a different order of them is
    named too, for it changes what is encoded.
    """
    found = list(_walk("", _plain(left.study), _plain(right.study)))
    if left.signed and right.signed:
        for name in ("schema_hash", "normalisation", "key_check", "rehearsal"):
            pair = (getattr(left.signed, name), getattr(right.signed, name))
            found += _walk(f"signed, {name.replace('_', ' ')}", *pair)
        found += _walk("signed, release gate", left.signed.release_gate, right.signed.release_gate)
        pins = ({n: p.fingerprint for n, p in one.signed.pins.items()} for one in (left, right))  # type: ignore[union-attr]
        found += _walk("keys of", *pins)
    return found


def why_not(left: Compared, right: Compared, names: tuple[str, str]) -> list[str]:
    """
    Return in words, field by field, why records encoded by these two never compare.

    Empty where they do, given one key. names: how to call the two.
    """
    versions = [
        (one.signed.normalisation if one.signed else "") or NORMALISATION_VERSION
        for one in (left, right)
    ]
    normalisation = (versions[0], versions[1])
    return differences(left.study, right.study, names=names, normalisation=normalisation)


def _plain(study: StudyConfig) -> dict[str, Any]:
    made: dict[str, Any] = study.model_dump(mode="json")
    for noun in ("party", "clk", "match_key"):
        items: list[dict[str, Any]] = made.pop(noun)
        made[noun] = {one["id"]: one for one in items}
        made[f"order of [[{noun}]]"] = [one["id"] for one in items]
    return made


def _walk(place: str, left: Any, right: Any) -> Iterator[Difference]:
    if left == right:
        return
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in dict.fromkeys([*left, *right]):
            inner = f"{place} {key}" if place in _BY_ID else f"{place}, {key}" if place else key
            yield from _walk(inner, left.get(key, ABSENT), right.get(key, ABSENT))
        return
    named = _by_field(left), _by_field(right)
    if named[0] is not None and named[1] is not None:
        yield from _walk(place, *named)
        return
    yield Difference(place, _text(left), _text(right))


def _by_field(value: Any) -> dict[str, Any] | None:
    """Return the fields of a CLK by their name; None for anything else."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or not all(isinstance(one, Mapping) and "field" in one for one in value):
        return None
    return {str(one["field"]): one for one in value} | {"order": [one["field"] for one in value]}


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and "id" in value:
        return "there"
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "none"
    return value if isinstance(value, str) else json.dumps(value)


_BY_ID = frozenset({"party", "clk", "match_key", "keys of"})
