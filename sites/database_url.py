"""
The URL of a database, out of a site file, a file of its own, or the environment.

    url = database_url("[omop]", url=None, url_env="OMOP_URL", url_file=None)

A URL may hold a password, so the site file itself holds only URLs without one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from linkage.errors import KeyRefused, SourceRefused
from linkage.strict_toml import Fault

_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@|[?&;](password|pwd)=", re.IGNORECASE)


def without_password(value: str | None) -> str | None:
    """Return a URL of a site file as it is. Raises Fault if it holds a password, or is none."""
    if value and (_PASSWORD.search(value) or "://" not in value):
        rule = "holds a password" if "://" in value else "is no URL"
        raise Fault(rule, "keep it in a file with mode 600, and name that as url_file")
    return value


def database_url(table: str, *, url: str | None, url_env: str | None, url_file: Path | None) -> str:
    """
    Return the URL that one of the three gives; `table` of the site file is only named in errors.

    Raises SourceRefused where there is none, KeyRefused for a file that others can read.
    """
    if url is not None:
        return url
    if url_env is not None:
        found = os.environ.get(url_env, "").strip()
        where, hint = f"environment variable {url_env}", "set it before you start"
    else:
        path = url_file or Path()
        where, hint = path.name, "write the URL into it, alone"
        try:
            mode, found = path.stat().st_mode, path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            rule, hint = f"{table} url_file cannot be read", "check its path and its owner"
            raise SourceRefused(file=str(path), rule=rule, hint=hint) from None
        if mode & 0o077:
            raise KeyRefused(
                f"{path} can be read by others than you, and may hold a password",
                hint=f"chmod 600 {path}",
            )
    if "://" not in found or len(found.split()) != 1:
        raise SourceRefused(file=where, rule="holds no database URL", hint=hint)
    return found
