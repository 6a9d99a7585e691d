"""Read a cohort specification written as JSON: as strict as TOML, with the line of a fault."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from linkage import strict_toml
from linkage.errors import ConfigRefused
from linkage.strict_toml import Strict

M = TypeVar("M", bound=Strict)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')
_DEEPEST = 20
"""Places deeper than this get the line of what they are in; a specification has few levels."""


class _Refused(ValueError):
    """A JSON text that Python's reader takes and this one does not."""


def parse(
    text: str, model: type[M], error: type[ConfigRefused], *, file: str, base: Path | None
) -> M:
    """Read JSON `text` as `model`; `file` is only named in errors, `base` is where paths start."""
    try:
        raw = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_constant)
    except json.JSONDecodeError as fault:
        raise error(
            file=file,
            line=fault.lineno,
            key="",
            rule=f"is not valid JSON ({fault.msg})",
            hint="names and texts need double quotes; no comma before a closing bracket",
        ) from None
    except _Refused as fault:
        raise error(file=file, line=0, key="", rule=str(fault), hint="correct it") from None
    except ValueError:  # Python's limit of int()
        rule = "holds a number of thousands of digits"
        raise error(file=file, line=0, key="", rule=rule, hint="correct it") from None
    except RecursionError:
        raise error(
            file=file, line=0, key="", rule="is nested too deeply", hint="see docs/cohorts.md"
        ) from None
    # An editor's pointer to the schema: no part of the question.
    if isinstance(raw, dict):
        raw.pop("$schema", None)
    lines = _lines(text)
    return strict_toml.checked(
        raw, model, error, file=file, base=base, line_at=lambda path: _nearest(lines, path)
    )


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        # A text of strangers may have thousands of names: each is counted once.
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _Refused(f"holds the key {twice!r} twice in one table")
    return made


def _no_constant(name: str) -> Any:
    raise _Refused(f"holds {name}, which is no number of JSON")


def _nearest(lines: dict[tuple[str | int, ...], int], path: tuple[str | int, ...]) -> int:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Return the line, from 1, of every key and list item of valid JSON, by its path."""
    lines: dict[tuple[str | int, ...], int] = {(): 1}
    path: list[str | int] = []  # one part for each open table or list
    number, place = 1, 0
    key: str | None = None
    for token in _TOKEN.finditer(text):
        number += text.count("\n", place, token.start())
        place, word = token.start(), token.group()
        in_list = bool(path) and isinstance(path[-1], int)
        # Paths of strangers' texts would fill the memory: hundreds of levels, each item with all.
        known = len(path) <= _DEEPEST
        if in_list and known and word not in "]},:":
            lines.setdefault(tuple(path), number)
        if word in "{[":
            path.append(0 if word == "[" else "")
            key = None
        elif word in "}]":
            path.pop()
        elif word == ",":
            if in_list:
                path[-1] = int(path[-1]) + 1
            key = None
        elif word == ":" or in_list or not path:
            continue
        elif key is None:  # the first text of a pair is its key
            key = json.loads(word)
            path[-1] = key
            if known:
                lines[tuple(path)] = number
    return lines
