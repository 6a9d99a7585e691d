"""
Read a TOML file into a strict model; every refusal names file, line, key and remedy.

`tomllib` keeps no line numbers, so the line of a key is found in the text afterwards,
and only when there is something to refuse.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from linkage.errors import ConfigRefused

# No two parts that take blanks stand side by side: a line of blanks would take their cube.
_HEADER = re.compile(r"^\s*(\[\[?)([^\]]+)\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\-.\"']+)\s*=")
_TOLD = 50
_DOTTED = re.compile(
    r"""(?<![A-Za-z0-9_\-])(?:(?:[A-Za-z0-9_\-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}"""
)
"""Names of so many parts: Python 3.11 needs time that grows with the square of their number."""


class Strict(BaseModel):
    """
    Base of every configuration model: frozen, and an unknown key is an error.

    remedies: by key, what to write where it is missing; also for keys that are none, and that
    people write all the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
    remedies: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def model_for(cls, raw: Any) -> type[Strict]:
        """Return the model that table `raw` is read as: a subclass, where a table has kinds."""
        return cls


M = TypeVar("M", bound=Strict)


class Fault(ValueError):
    """
    A broken rule, raised inside a validator: `rule`, `hint`, and where the rule concerns
    several keys the `path` of the one to change, from the root of the file.
    """

    def __init__(self, rule: str, hint: str = "", *path: str | int) -> None:
        self.rule, self.hint, self.path = rule, hint, path
        super().__init__(rule)


class FaultHere(Fault):
    """The same, where `path` starts at the table whose own validator raises it."""


def _placed(value: Any, info: ValidationInfo) -> Any:
    base = (info.context or {}).get("base", Path())
    if base is None:
        raise Fault("names a file, which cannot be read here", "send what is in it instead")
    places = value if isinstance(value, list | tuple) else [value]
    if not places or not all(isinstance(place, str | Path) for place in places):
        raise Fault("must be a path, or a list of paths", 'write "folder/file.csv"')
    found = [base / place for place in places]
    return next((path for path in found if path.exists()), found[0])


Place = Annotated[Path, BeforeValidator(_placed)]
"""A path, or a list of which the first that exists counts; relative to the TOML file itself."""


def load(
    path: Path,
    model: type[M],
    error: type[ConfigRefused],
    over: Mapping[str, Mapping[str, Any]] | None = None,
) -> M:
    """Read the TOML file at `path` as `model`. Raises `error` for anything not as it should be."""
    text = text_of(path, error)
    return parse(text, model, error, file=str(path), base=path.parent.resolve(), over=over)


def text_of(path: Path, error: type[ConfigRefused]) -> str:
    """Return the text of a file; raises `error` where it is not there or is no UTF-8 text."""
    try:
        # Windows' editors put a mark before the text, which TOML does not know.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise error(
            file=str(path), line=0, key="", rule="there is no such file", hint="check the path"
        ) from None
    except IsADirectoryError:
        raise error(
            file=str(path), line=0, key="", rule="is a folder", hint="name the file in it"
        ) from None
    except (OSError, UnicodeDecodeError) as fault:
        raise error(
            file=str(path),
            line=0,
            key="",
            rule=f"cannot be read ({type(fault).__name__})",
            hint="the file must be readable UTF-8 text",
        ) from None


def parse(
    text: str,
    model: type[M],
    error: type[ConfigRefused],
    *,
    file: str,
    base: Path | None = Path(),
    over: Mapping[str, Mapping[str, Any]] | None = None,
) -> M:
    """
    Read TOML `text` as `model`; `file` is only named in errors, `base` is where paths start, None:
    no file is opened. over: what replaces or adds to the file's, by table and key.
    """
    try:
        if found := _DOTTED.search(text):
            line = text.count("\n", 0, found.start()) + 1
            rule, hint = "has a name of a hundred parts", "name tables with few dots"
            raise error(file=file, line=line, key="", rule=rule, hint=hint)
        raw = tomllib.loads(text)
    except RecursionError:
        rule, hint = "is nested too deeply", "no list or table here needs more than a few levels"
        raise error(file=file, line=0, key="", rule=rule, hint=hint) from None
    except tomllib.TOMLDecodeError as fault:
        found = re.search(r"at line (\d+)", str(fault))
        line = int(found.group(1)) if found else text.count("\n") + 1
        raise error(
            file=file,
            line=line,
            key="",
            rule=f"is not valid TOML ({re.sub(r' [(]at .*', '', str(fault))})",
            hint="text values need quotes, 'single' ones around a backslash; a table starts with"
            " [name]",
        ) from None
    except ValueError:  # Python's limit of int(); tomllib passes it on as it is
        rule, hint = "holds a number of thousands of digits", "correct it"
        raise error(file=file, line=0, key="", rule=rule, hint=hint) from None
    for table, keys in (over or {}).items():
        # What is no table there is refused below.
        if isinstance(raw.setdefault(table, {}), dict):
            raw[table] |= keys
    return checked(
        raw, model, error, file=file, base=base, line_at=lambda path: line_of(text, path)
    )


def checked(
    raw: Any,
    model: type[M],
    error: type[ConfigRefused],
    *,
    file: str,
    base: Path | None,
    line_at: Callable[[tuple[str | int, ...]], int],
) -> M:
    """
    Read what a file held as `model`; line_at: the line of the key at a path, 0 where unknown.

    Raises `error` for the first fault, unknown keys before all else; its `others` are the rest, at
    most _TOLD in all.
    """
    try:
        return model.model_validate(raw, context={"base": base})
    except ValidationError as refused:
        faults = refused.errors(include_url=False, include_input=False)
    # A misspelt key is both unknown and missing; the former says how to mend it.
    faults.sort(key=lambda one: one["type"] != "extra_forbidden")
    unknown = {tuple(one["loc"])[:-1] for one in faults if one["type"] == "extra_forbidden"}
    said: dict[str, ConfigRefused] = {}
    for fault in faults:
        # Each one's line is looked for in the whole text: a text of strangers may be all faults.
        if len(said) == _TOLD:
            break
        if fault["type"] == "missing" and tuple(fault["loc"])[:-1] in unknown:
            continue
        cause = fault.get("ctx", {}).get("error")
        path = tuple(fault["loc"])
        if isinstance(cause, FaultHere):
            path += cause.path
        elif isinstance(cause, Fault) and cause.path:
            path = cause.path
        rule, hint = _explain(fault, path, model, raw)
        one = error(file=file, line=line_at(path), key=_dotted(path), rule=rule, hint=hint)
        said.setdefault(one.message, one)
    first, *others = said.values()
    first.others = tuple(others)
    raise first


def line_of(text: str, path: tuple[str | int, ...]) -> int:
    """
    Return the line, from 1, of the key at `path` in TOML `text`; of the nearest table
    where the key itself is missing; 0 if not even that is there.
    """
    counts: dict[str, int] = {}
    here: tuple[str | int, ...] = ()
    best, best_depth = 0, 0
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            name = header.group(2).strip().strip("\"'")
            if header.group(1) == "[[":
                counts[name] = counts.get(name, -1) + 1
                here = (*name.split("."), counts[name])
                if path == here[:-1] and len(path) > best_depth:
                    best, best_depth = number, len(path)
            else:
                here = tuple(name.split("."))
            key = here
        elif match := _KEY.match(line):
            key = (*here, *(part.strip("\"'") for part in match.group(1).split(".")))
        else:
            continue
        if path[: len(key)] == key and len(key) > best_depth:
            best, best_depth = number, len(key)
    return best


def _dotted(path: tuple[str | int, ...]) -> str:
    shown = ""
    for part in path:
        shown += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if shown else part
    return shown


def _explain(
    fault: Any, path: tuple[str | int, ...], model: type[BaseModel], raw: Any
) -> tuple[str, str]:
    if fault["type"] == "extra_forbidden":
        owners = _models_at(model, path[:-1], raw)
        if remedy := _remedy(owners, path):
            return "is not a known key", remedy
        known = sorted({name for one in owners for name in one.model_fields})
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        did = f"did you mean {near[0]!r}? " if near else ""
        return "is not a known key", f"{did}known here: {', '.join(known)}"
    if fault["type"] == "missing":
        remedy = _remedy(_models_at(model, path[:-1], raw), path)
        return "is missing", remedy or "add it; see the commented examples in configs/"
    if fault["type"] == "string_too_short" and _at(raw, path) == "":
        remedy = _remedy(_models_at(model, path[:-1], raw), path)
        return "is empty", remedy or "write something, or leave the key out"
    if fault["type"] == "value_error":
        cause = fault["ctx"]["error"]
        return (cause.rule, cause.hint) if isinstance(cause, Fault) else (str(cause), "")
    if fault["type"] == "tuple_type" and isinstance(_at(raw, path), dict):
        table = ".".join(str(part) for part in path if isinstance(part, str))
        return "is one table where several may stand", f"write [[{table}]] with two brackets"
    if fault["type"] == "model_type":
        return "must be a table", "write { key = value }; see the commented examples in configs/"
    rule = fault["msg"][:1].lower() + fault["msg"][1:]
    if fault["type"] in ("float_parsing", "float_type", "int_parsing", "int_type"):
        return rule.split(", unable")[0], "write the number alone, without quotes or a unit"
    return rule, "correct the value"


def _remedy(owners: Iterable[type[BaseModel]], path: tuple[str | int, ...]) -> str:
    found = [one.remedies.get(str(path[-1]), "") for one in owners if issubclass(one, Strict)]
    return next(filter(None, found), "")


def _at(raw: Any, path: tuple[str | int, ...]) -> Any:
    """Return what stands at `path`, None where nothing does."""
    for part in path:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _models_at(
    model: type[BaseModel], path: tuple[str | int, ...], raw: Any
) -> list[type[BaseModel]]:
    """Return what `model` reads the table at `path` as, through lists, dicts and unions."""
    current: list[type[BaseModel]] = [model]
    for part in path:
        raw = raw[part]
        if isinstance(part, int):
            continue
        found: list[type[BaseModel]] = []
        for one in current:
            if part in one.model_fields:
                found += _models_in(one.model_fields[part].annotation)
        current = [
            one.model_for(raw) if issubclass(one, Strict) else one for one in found or current
        ]
    return current


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
