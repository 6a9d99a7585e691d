"""
Settings beside config.toml: by environment, LINKAGE_BROKER_<TABLE>_<KEY>, which wins.

As strict as the file: a variable of this prefix that names no setting is refused, and so is one
that would hold a secret, because an environment is shown by many tools; a secret lies in a file,
and the environment may name it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

from linkage.errors import BrokerRefused
from linkage.strict_toml import Strict

PREFIX = "LINKAGE_BROKER_"
_NO_SETTINGS = {"LINKAGE_BROKER_HOME"}
_PLAIN = {str, int, float, bool, Path, type(None)}
_ENVIRONMENT = "the environment"


class MetricsSettings(Strict):
    """
    The table [metrics]: where Prometheus finds server and worker. A port of 0: nowhere. host: an
    address that scrapers alone reach.
    """

    host: str = "127.0.0.1"
    server_port: int = Field(default=0, ge=0, le=65535)
    worker_port: int = Field(default=0, ge=0, le=65535)


class LogSettings(Strict):
    """The table [logs]. level: the least that is written."""

    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it is in force. value: as text, hidden where it is a secret."""

    name: str
    value: str
    source: Literal["default", "file", "environment"]


def from_environment(
    environment: Mapping[str, str], model: type[Strict]
) -> dict[str, dict[str, Any]]:
    """
    Return what the environment sets, by table and key. Raises BrokerRefused for a variable that
    names no setting, or a secret.
    """
    known = {variable(table, key): (table, key, field) for table, key, field in _fields(model)}
    found: dict[str, dict[str, Any]] = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name in _NO_SETTINGS:
            continue
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *_NO_SETTINGS], n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/broker.md lists the settings"
            raise _refused(name, "names no setting", hint)
        table, key, field = known[name]
        if not field.repr:
            raise _refused(name, "would hold a secret", f"put it into a file, and use {name}_FILE")
        found.setdefault(table, {})[key] = _value(name, text, field)
    return found


def blamed(refusal: BrokerRefused, over: Mapping[str, Mapping[str, Any]]) -> BrokerRefused:
    """Return the refusal of a setting, naming the variable where it came from the environment."""
    table, _, key = refusal.key.partition(".")
    if key not in over.get(table, {}):
        return refusal
    return _refused(variable(table, key), refusal.rule, refusal.hint)


def variable(table: str, key: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{table}_{key}".upper()


def in_force(config: Strict, over: Mapping[str, Mapping[str, Any]]) -> list[Setting]:
    """Return every setting with its value and where it is from; secrets are hidden."""
    made = []
    for table, key, field in _fields(type(config)):
        settings = getattr(config, table)
        value = getattr(settings, key)
        source: Literal["default", "file", "environment"] = "default"
        if key in over.get(table, {}):
            source = "environment"
        elif key in settings.model_fields_set:
            source = "file"
        text = "(hidden)" if not field.repr and value else _shown(value)
        made.append(Setting(f"{table}.{key}", text, source))
    return made


def _fields(model: type[Strict]) -> Iterator[tuple[str, str, FieldInfo]]:
    for table, settings in model.model_fields.items():
        for key, field in type(settings.default).model_fields.items():
            yield table, key, field


def _value(name: str, text: str, field: FieldInfo) -> Any:
    """Return the text itself for plain settings, what it says in TOML for lists and tables."""
    if _is_plain(field.annotation):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise _refused(name, "is not a TOML value", 'write ["a", "b"]') from None


def _is_plain(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, UnionType):
        return all(map(_is_plain, get_args(annotation)))
    return annotation in _PLAIN or get_origin(annotation) is Literal


def _shown(value: Any) -> str:
    if isinstance(value, Mapping | Strict):
        return f"{len(dict(value))} entries"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return "" if value is None else str(value)


def _refused(name: str, rule: str, hint: str) -> BrokerRefused:
    return BrokerRefused(file=_ENVIRONMENT, line=0, key=name, rule=rule, hint=hint)
