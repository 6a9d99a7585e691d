"""
A file that is there whole or not at all: what was there before stays until the new one is complete.

    write_whole(path, text)        for everybody; write_private(path, data) for its owner only
    with taking_place(path, 0o600) as handle, os.fdopen(handle, "wb") as file: ...

A full disk or a killed program leaves the file as it was, and a hidden one beside it at worst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOR_ALL, _FOR_ITS_OWNER = 0o666, 0o600


@contextmanager
def taking_place(path: Path, mode: int = _FOR_ITS_OWNER) -> Iterator[int]:
    """
    Open a new file that takes the place of `path` at the end, where nothing failed.

    It is the caller's to close, before the end. mode: of the file, less the process's umask.
    """
    making = path.with_name(f".{path.name}.making")
    making.unlink(missing_ok=True)
    handle = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        yield handle
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text that anybody may read, in UTF-8, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with taking_place(path, _FOR_ALL) as handle, os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def write_private(path: Path, data: bytes) -> None:
    """Write what only its owner may read, and make its folder, closed to others."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with taking_place(path) as handle, os.fdopen(handle, "wb") as file:
        file.write(data)
        # A power failure must not leave the name without the content: nothing would tell.
        file.flush()
        os.fsync(file.fileno())
