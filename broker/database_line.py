"""
The line of config.toml that names the database, rewritten in place: everything else stays as it is.

What is not understood is not touched; a person is told what to write instead.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from broker.config import CONFIG, DATABASE_URL_FILE, BrokerConfig, DatabaseSettings, Home
from linkage import strict_toml
from linkage.errors import BrokerRefused
from linkage.whole_file import write_private

_TABLE = re.compile(r"^\s*\[\s*database\s*\]\s*(#.*)?$")
_ANY_TABLE = re.compile(r"^\s*\[")
_OLD_LINE = re.compile(r"^\s*url(_file)?\s*=")


def name_database(home: Home, url_file: Path) -> str:
    """
    Let config.toml name the database by this file. Returns "", or what a person has to change
    because it cannot be done here.
    """
    line = f"url_file = {json.dumps(str(url_file), ensure_ascii=False)}"
    if os.environ.get(DATABASE_URL_FILE):
        return f"let the environment variable {DATABASE_URL_FILE} name {url_file}"
    path = home.path / CONFIG
    advice = f"write {line} into [database] of {path}, in place of what names the old one"
    before = strict_toml.text_of(path, BrokerRefused)
    text = _with_line(before, line)
    if path.is_symlink() or not _differs_only_so(path, before, text, url_file):
        return advice
    try:
        write_private(path, text.encode())
    except OSError:
        return advice
    return ""


def _with_line(text: str, line: str) -> str:
    """Return the settings with the line at the head of [database]; what it replaces, commented."""
    out: list[str] = []
    within = named = False
    for one in text.splitlines():
        if _ANY_TABLE.match(one):
            within = bool(_TABLE.match(one))
        out.append(f"# {one}" if within and _OLD_LINE.match(one) else one)
        if within and not named and _TABLE.match(one):
            out.append(line)
            named = True
    if not named:
        out += ["", "[database]", line]
    return "\n".join(out) + "\n"


def _differs_only_so(path: Path, before: str, after: str, url_file: Path) -> bool:
    try:
        old, new = (
            strict_toml.parse(
                text, BrokerConfig, BrokerRefused, file=str(path), base=path.parent.resolve()
            )
            for text in (before, after)
        )
    except BrokerRefused:
        return False
    return new == old.model_copy(update={"database": DatabaseSettings(url_file=url_file)})
