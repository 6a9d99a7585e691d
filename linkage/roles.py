"""
Custodian and broker on one installation: refused at both ends.

Who holds the study key and the encodings can undo them, so one installation cannot be both. Each
side looks for the other

1. in the folder it works in, in those above it, and two levels below;
2. in what this account's settings remember: a folder a line in `commons-linkage/custodian` and
   `commons-linkage/broker` under $XDG_CONFIG_HOME or ~/.config, as long as its keys are there;
3. for custodians also in $LINKAGE_BROKER_HOME.

A broker set up with `allow_rehearsal` is no broker of record and does not count. Remaining
weakness: two accounts or two machines of one organisation are not seen; agreements are for that.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from linkage.errors import KeyRefused

Role = Literal["custodian", "broker"]
CUSTODIAN_KEY = "custodian.key"
BROKER_HOME = "LINKAGE_BROKER_HOME"
"""Environment variable: the broker's home folder."""

_ABOVE = 3
_STUDY_KEY = b"commons-linkage study key"


def is_custodian(folder: Path) -> bool:
    """Return whether the folder holds a custodian's keys, or a study key that is not a site's."""
    if (folder / CUSTODIAN_KEY).exists():
        return True
    site = (folder / "signed-study.json").exists()
    return not site and any(_starts(path, _STUDY_KEY) for path in _listed(folder, "*.key"))


def is_broker(folder: Path) -> bool:
    """Return whether the folder is the home of a broker of record: one that takes no rehearsals."""
    try:
        named = json.loads((folder / "public.json").read_bytes())["name"]
        settings = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(named == "broker" and not settings.get("server", {}).get("allow_rehearsal"))


def require_no_broker(folder: Path) -> None:
    """Raises KeyRefused where a custodian's command meets a broker of record."""
    home = os.environ.get(BROKER_HOME)
    named = [Path(home)] if home else []
    found = _first(is_broker, [*_around(folder), *named, *_remembered("broker")])
    if found is not None:
        raise KeyRefused(
            f"a broker is set up in {found}; broker and custodian are different organisations",
            hint="be custodian on another machine and account; for a trial use"
            " `linkage-site rehearse`",
        )


def require_no_custodian(folder: Path) -> None:
    """Raises KeyRefused where a broker's command meets a custodian's keys."""
    found = _first(is_custodian, [*_around(folder), *_remembered("custodian")])
    if found is not None:
        raise KeyRefused(
            f"{found} holds a custodian's keys; broker and custodian are different organisations",
            hint="set up the broker on another machine and account; a trial broker takes"
            " --allow-rehearsal",
        )


def remember(role: Role, folder: Path) -> None:
    """Note in this account's settings that `folder` has this role. Where it cannot, it does not."""
    # A service account may have no home; the other two ways of looking remain.
    with suppress(OSError, RuntimeError):
        path, known = _settings(role), str(folder.resolve())
        before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if known not in before:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text("\n".join([*before, known]) + "\n", encoding="utf-8")


def _remembered(role: Role) -> list[Path]:
    with suppress(OSError, RuntimeError):
        return [Path(line) for line in _settings(role).read_text(encoding="utf-8").splitlines()]
    return []


def _settings(role: Role) -> Path:
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "commons-linkage" / role


def _around(folder: Path) -> Iterator[Path]:
    here = folder.resolve()
    yield here
    yield from here.parents[:_ABOVE]
    # Not deeper: a broker's blobs are many.
    yield from (path for path in [*_listed(here, "*"), *_listed(here, "*/*")] if path.is_dir())


def _listed(folder: Path, pattern: str) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in folder.glob(pattern) if "blobs" not in path.parts)
    return []


def _first(has: Callable[[Path], bool], folders: list[Path]) -> Path | None:
    return next((folder for folder in folders if has(folder)), None)


def _starts(path: Path, start: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False
