"""Small CSV files that people write by hand: lists of records, and what is said of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO, TypeVar

from linkage.errors import SourceRefused

T = TypeVar("T")


def read_listed(path: Path, checked: Callable[[str, Iterable[list[str]]], T]) -> T:
    """
    Return what `checked` makes of the file's name and its rows, header included, without blank
    ones at the end.

    Raises SourceRefused where there is no such file or it is no CSV in UTF-8, and what `checked`
    raises.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True, delimiter=_delimiter(file))
            return checked(path.name, _without_blank_end(rows))
    except FileNotFoundError:
        raise SourceRefused(
            file=path.name, rule="there is no such file", hint="check the path"
        ) from None
    except OSError as fault:
        raise SourceRefused(
            file=path.name, rule=f"cannot be read ({type(fault).__name__})", hint="check the path"
        ) from None
    except (UnicodeDecodeError, csv.Error):
        raise SourceRefused(
            file=path.name, rule="is no CSV text in UTF-8", hint="export it as CSV, UTF-8"
        ) from None


def _delimiter(file: TextIO) -> str:
    """Return what separates the names of the header: spreadsheets of some countries write ;."""
    header = file.readline()
    file.seek(0)
    return ";" if ";" in header and "," not in header else ","


def _without_blank_end(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """
    Leave out blank rows at the end, as editors and spreadsheets make them. One in between stays,
    and is refused: there something is missing.
    """
    blank: list[list[str]] = []
    for cells in rows:
        blank.append(cells)
        if any(map(str.strip, cells)):
            yield from blank
            blank = []
