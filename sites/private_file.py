"""A text file that only its owner can read, there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from linkage.whole_file import taking_place


@contextmanager
def private_file(path: Path) -> Iterator[TextIO]:
    """
    Open a file for text in UTF-8, line ends as written, that takes the place of `path` at the end.

    Until then, and where the writing fails, `path` stays as it was; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        taking_place(path) as handle,
        os.fdopen(handle, "w", encoding="utf-8", newline="") as file,
    ):
        yield file
