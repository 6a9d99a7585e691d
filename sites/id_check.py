"""
Checking cross-commons IDs that people copied: which of a file do not hold. Nothing is corrected.

The check character finds every single wrong character and every swap of neighbours
(linkage.pseudonyms.format_id). What Crockford's reading forgives, such as small letters or o for 0,
is no error, but it is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from linkage.errors import LinkageError, SourceRefused
from linkage.pseudonyms import format_id, parse_id
from sites.listed_file import read_listed

COLUMN = "cross_commons_id"
OTHERWISE = "not as it was given out (small letters, hyphens, spaces, or o, i, l): read leniently"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. checked: IDs in all. wrong, otherwise: row number and reason, in order."""

    checked: int
    wrong: tuple[tuple[int, str], ...]
    otherwise: tuple[tuple[int, str], ...]


def check_one(text: str) -> str:
    """Return "" for an ID as it was given out, else OTHERWISE. Raises LinkageError for none."""
    return "" if format_id(parse_id(text)) == text else OTHERWISE


def check_all(texts: Iterable[str], *, first_row: int = 1) -> Checked:
    """Check IDs, counted from `first_row`. Reasons never show an ID."""
    checked = 0
    wrong, otherwise = list[tuple[int, str]](), list[tuple[int, str]]()
    for row, text in enumerate(texts, start=first_row):
        checked += 1
        try:
            if said := check_one(text):
                otherwise.append((row, said))
        except LinkageError as fault:
            wrong.append((row, fault.message))
    return Checked(checked, tuple(wrong), tuple(otherwise))


def check_file(path: Path) -> Checked:
    """Check the column `cross_commons_id` of a CSV; the header is row 1. Raises SourceRefused."""
    return read_listed(path, _checked)


def _checked(name: str, reader: Iterable[list[str]]) -> Checked:
    rows = iter(reader)
    header = [cell.strip() for cell in next(rows, [])]
    if header.count(COLUMN) != 1:
        raise SourceRefused(
            file=name,
            rule=f"has no column {COLUMN}",
            hint=f"the first row names the columns, one of them {COLUMN}, as `ids` writes it",
        )
    at = header.index(COLUMN)
    return check_all((cells[at] if at < len(cells) else "" for cells in rows), first_row=2)
