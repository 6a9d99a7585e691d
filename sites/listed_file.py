"""Small CSV files that people write by hand: lists of records, and what is said of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from linkage.errors import SourceRefused

T = TypeVar("T")


def read_listed(path: Path, checked: Callable[[str, Iterable[list[str]]], T]) -> T:
    """
    Return what `checked` makes of the file's name and its rows, header included.

    Raises SourceRefused where there is no such file or it is no CSV in UTF-8, and what `checked`
    raises.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return checked(path.name, csv.reader(file, strict=True))
    except OSError as fault:
        raise SourceRefused(
            file=path.name, rule=f"cannot be read ({type(fault).__name__})", hint="check the path"
        ) from None
    except (UnicodeDecodeError, csv.Error):
        raise SourceRefused(
            file=path.name, rule="is no CSV text in UTF-8", hint="export it as CSV, UTF-8"
        ) from None
