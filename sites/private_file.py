"""A text file that only its owner can read, there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def private_file(path: Path) -> Iterator[TextIO]:
    """
    Open a file for text in UTF-8, line ends as written, that takes the place of `path` at the end.

    Until then, and where the writing fails, `path` stays as it was; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.making")
    making.unlink(missing_ok=True)
    handle = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(making, path)
    finally:
        making.unlink(missing_ok=True)
