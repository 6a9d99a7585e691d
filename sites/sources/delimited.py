"""
Identifiers from a delimited file, as its site file says; nothing is guessed silently.

A row is named by its number as a spreadsheet shows it: the header is row 1. No error and no
quarantine list ever holds a value.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

from linkage.errors import RowRejected, SourceRefused
from sites.config import SourceConfig

_USUAL_DELIMITERS = ",|;\t"
_PROGRESS_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row left out: its number, the field and the broken rule."""

    row: int
    field: str
    rule: str


@dataclass(frozen=True, slots=True, eq=False)
class SourceRecords:
    """
    N records as they stand in the source, stripped of surrounding spaces.

    record_ids: unique, never empty. columns: by field, N texts, "" where missing.
    rows: the row number of each record. quarantined: what was left out, and why.
    """

    record_ids: list[str]
    columns: dict[str, list[str]]
    rows: list[int]
    quarantined: list[BadRow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.record_ids)


def read_delimited(
    source: SourceConfig,
    fields: tuple[str, ...],
    progress: Callable[[int], None] | None = None,
) -> SourceRecords:
    """
    Read the columns of `fields`; `progress` is called with the number of rows read so far.

    Raises SourceRefused for a file that is missing, empty, wrongly delimited or encoded, or
    lacks a column; RowRejected for the first bad row, unless rows are quarantined.
    """
    name = source.file.name
    try:
        with source.file.open(encoding=source.encoding, newline="") as file:
            return _read(file, source, fields, progress)
    except FileNotFoundError:
        raise SourceRefused(
            file=str(source.file), rule="there is no such file", hint="check [source] file"
        ) from None
    except UnicodeDecodeError:
        raise SourceRefused(
            file=name,
            rule=f"is not {source.encoding} text, first at row {_undecodable_row(source)}",
            hint='save it as UTF-8, or set [source] encoding, for example "windows-1252"',
        ) from None
    except csv.Error as fault:
        raise SourceRefused(
            file=name,
            rule=f"is no delimited text ({fault})",
            hint="check that it is the export itself, not a workbook or an archive",
        ) from None


def _read(
    file: TextIO,
    source: SourceConfig,
    fields: tuple[str, ...],
    progress: Callable[[int], None] | None,
) -> SourceRecords:
    name = source.file.name
    reader = csv.reader(file, delimiter=source.delimiter, strict=True)
    header = next(reader, None)
    if not header:
        raise SourceRefused(file=name, rule="is empty", hint="export it again, with a header")
    header[0] = header[0].removeprefix("\ufeff")
    _check_delimiter(name, header, source.delimiter)
    _check_header(name, header, source)
    id_at = _column(name, header, "record_id", source.record_id)
    field_at = {f: _column(name, header, f, _names_of(source, f)) for f in fields}
    found = SourceRecords([], {f: [] for f in fields}, [])
    seen: set[str] = set()
    for row, cells in _numbered(reader):
        if progress and row % _PROGRESS_ROWS == 0:
            progress(row)
        if not any(cells):
            continue
        if bad := _fault_of(row, cells, len(header), id_at, seen):
            if source.on_bad_row == "refuse":
                raise RowRejected(
                    file=name,
                    row=row,
                    field=bad.field,
                    rule=bad.rule,
                    hint='correct it at the source, or set on_bad_row = "quarantine"',
                )
            found.quarantined.append(bad)
            continue
        record_id = cells[id_at].strip()
        seen.add(record_id)
        found.record_ids.append(record_id)
        found.rows.append(row)
        for one, at in field_at.items():
            found.columns[one].append(cells[at].strip())
    if not found.record_ids:
        why = f", {len(found.quarantined)} were quarantined" if found.quarantined else ""
        raise SourceRefused(file=name, rule=f"has no record{why}", hint="check the export")
    if progress:
        progress(found.rows[-1])
    return found


def _numbered(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    return enumerate(reader, start=2)


def _fault_of(row: int, cells: list[str], width: int, id_at: int, seen: set[str]) -> BadRow | None:
    if len(cells) != width:
        return BadRow(row, "", f"has {len(cells)} columns where the header has {width}")
    record_id = cells[id_at].strip()
    if not record_id:
        return BadRow(row, "record_id", "has no record id")
    if record_id in seen:
        return BadRow(row, "record_id", "repeats the record id of an earlier row")
    return None


def _check_delimiter(name: str, header: list[str], delimiter: str) -> None:
    if len(header) > 1:
        return
    counts = Counter(c for c in header[0] if c in _USUAL_DELIMITERS and c != delimiter)
    if not counts:
        raise SourceRefused(
            file=name,
            rule=f"has one column only with delimiter {delimiter!r}",
            hint="check [source] delimiter, and that row 1 is the header",
        )
    likely = counts.most_common(1)[0][0]
    raise SourceRefused(
        file=name,
        rule=f"is not delimited by {delimiter!r}; its header holds {counts[likely]} {likely!r}",
        hint=f"set [source] delimiter = {_toml(likely)}",
    )


def _toml(delimiter: str) -> str:
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'


def _check_header(name: str, header: list[str], source: SourceConfig) -> None:
    """A first row with no name that the site file knows may be a person: it is not shown."""
    known = {_fold(one) for names in (source.record_id, *source.columns.values()) for one in names}
    if not known & {_fold(one) for one in header}:
        raise SourceRefused(
            file=name,
            rule=f"row 1 ({len(header)} columns) holds none of the column names of the site file",
            hint="row 1 must be the header; export it again with one, or correct [source.columns]",
        )


def _column(name: str, header: list[str], field: str, names: tuple[str, ...]) -> int:
    folded = [_fold(one) for one in header]
    wanted = {_fold(one) for one in names}
    at = [i for i, one in enumerate(folded) if one in wanted]
    if len(at) > 1:
        raise SourceRefused(
            file=name,
            rule=f"has {len(at)} columns that could be {field}: columns "
            + " and ".join(str(i + 1) for i in at),
            hint="give the exact name in the site file, or drop one from the export",
        )
    if not at:
        raise SourceRefused(
            file=name,
            rule=f"has no column for {field} (looked for {', '.join(names)})",
            hint=f"its columns are: {', '.join(h.strip() for h in header)}",
        )
    return at[0]


def _names_of(source: SourceConfig, field: str) -> tuple[str, ...]:
    if field not in source.columns:
        raise SourceRefused(
            file=source.file.name,
            rule=f"the site file names no column for {field}, which the study wants of this party",
            hint=f'add {field} = "..." under [source.columns], or ask for another study file',
        )
    return source.columns[field]


def _fold(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).casefold()


def _undecodable_row(source: SourceConfig) -> int:
    """Return the row of the first byte that does not decode; only read after a failure."""
    with source.file.open("rb") as file:
        for row, line in enumerate(file, start=1):
            try:
                line.decode(source.encoding)
            except UnicodeDecodeError:
                return row
    return 1
