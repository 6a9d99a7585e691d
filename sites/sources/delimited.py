"""
Identifiers from a delimited file (RFC 4180, any delimiter), plain or compressed.

A row is named by its number as a spreadsheet shows it: the header is row 1. What the site file
leaves open (delimiter, encoding, which column is which) is found out, and said in `notes`.
Broken quoting is an error here; lenient readers lose whole rows to it silently.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import compress, islice
from operator import itemgetter
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import SourceRefused
from sites.sources.base import BATCH_RECORDS, BadRow, RawBatch
from sites.sources.columns import RECORD_ID, find_columns, guessed
from sites.sources.config import DelimitedConfig
from sites.sources.files import ByteFile
from sites.sources.lines import Lines, plain_columns, text_array
from sites.sources.names import usual_field
from sites.sources.text import Text, Undecodable

T = TypeVar("T")
Block = tuple[npt.NDArray[np.int64], dict[str, pa.StringArray]]

_DELIMITERS = ",|;\t"
_BLOCK_ROWS = 1_000
"""Rows made columns at once. Small, so that they stay in the processor's cache: 40 % faster."""

_BROKEN_QUOTE = "a quotation mark inside a value is written twice; export it again"


class DelimitedSource:
    """One delimited file with a header: a `Source`. notes: what was found out, for a person."""

    unit = "row"

    def __init__(
        self,
        config: DelimitedConfig,
        fields: tuple[str, ...],
        extra: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._config, self._fields, self._extra = config, fields, extra
        self.name = config.file.name
        self.notes: list[str] = []
        _require_date_format(config, fields)

    def batches(self) -> Iterator[RawBatch]:
        """Read the file once. Raises SourceRefused for what is no delimited file, or another."""
        self.notes = []
        with ByteFile(self._config.file, self.name) as file:
            text = Text(file, self.name, self._config.encoding)
            yield from _Rows(self, file, text).batches()

    def header(self) -> list[str]:
        """Return the header alone, and note how the file is written. Raises SourceRefused."""
        self.notes = []
        with ByteFile(self._config.file, self.name) as file:
            rows = _Rows(self, file, Text(file, self.name, self._config.encoding))
            rows.start()
            return rows.header

    @property
    def config(self) -> DelimitedConfig:
        return self._config

    def columns_of(self, header: list[str]) -> dict[str, int]:
        """Return which column holds what, and note what was guessed. Raises SourceRefused."""
        found = find_columns(self.name, header, self._config, self._fields, self._extra)
        self.notes += guessed(found, header, self._config)
        return found


_UNENDED = (
    "the last row has no line end, as in a file that was cut short or is still being written:"
    " compare the number of records with your export's"
)


class _Rows:
    """One reading of one file. Rows parsed, and not yet in a batch, wait in `_rows`."""

    def __init__(self, source: DelimitedSource, file: ByteFile, text: Text) -> None:
        self._source, self._file, self._text = source, file, text
        self._rows: list[list[str]] = []
        self._before = 0  # rows before `_rows`, as a spreadsheet numbers them
        self._bad: list[BadRow] = []
        self._jumps: list[tuple[int, int]] = []  # before which of `_rows` how many lines are lost
        self._lost = 0  # their sum
        self._plain_lines = 0  # read past `_reader`, which counts its own

    def batches(self) -> Iterator[RawBatch]:
        self.start()
        at = self._source.columns_of(self.header)
        blocks = self._blocks(at)
        while some := list(_taken(blocks, BATCH_RECORDS)):
            batch = self._joined(some)
            if self._text.note not in ("", *self._source.notes):
                self._source.notes.append(self._text.note)
            yield batch
        if self._text.unended:
            self._source.notes.append(_UNENDED)

    def start(self) -> None:
        """Find the delimiter and read the header."""
        source = self._source
        self._lines = Lines(self._text.pieces(self._next_row))
        first = self._read(self._lines.first)
        if re.match(r"sep=.[\r\n]", first, re.IGNORECASE):
            rule = "row 1 is a line for Excel that names the delimiter, and no header"
            raise SourceRefused(file=source.name, rule=rule, hint="delete that line")
        delimiter = source.config.delimiter or _sniffed(re.split("[\r\n]", first, maxsplit=1)[0])
        self._delimiter = delimiter
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self.header = self._read(lambda: next(self._reader, []))
        self._before, self._line = 1, self._line_num
        if not self.header:
            rule, hint = "has no header: row 1 is blank", "export it again, with a header"
            raise SourceRefused(file=source.name, rule=rule, hint=hint)
        _require_delimiter(source.name, self.header, delimiter)
        if self._file.compression:
            source.notes.append(f"compressed with {self._file.compression}")
        if not source.config.delimiter:
            source.notes.append(f"delimiter {_toml(delimiter)}")

    @property
    def _line_num(self) -> int:
        return self._reader.line_num + self._plain_lines

    def _blocks(self, at: dict[str, int]) -> Iterator[Block]:
        """Yield blocks of rows: a plain piece of the file at once, the others row by row."""
        while True:
            while self._fill():
                yield self._block(at)
            piece = self._read(self._lines.next_piece)
            if not piece:
                return
            width = len(self.header)
            found = plain_columns(piece, self._delimiter, width=width, at=at)
            if found is None or not self._good_ids(found[RECORD_ID], at):
                self._lines.feed(piece)
                continue
            rows = len(found[RECORD_ID])
            numbers = np.arange(rows, dtype=np.int64) + self._before + 1
            self._before += rows
            self._plain_lines += rows
            self._line = self._line_num
            yield numbers, found

    def _fill(self) -> bool:
        """Parse the next rows; return whether there were any, good or bad."""
        while (missing := _BLOCK_ROWS - len(self._rows)) > 0:
            try:
                size = len(self._rows)
                self._read(lambda: self._rows.extend(islice(self._reader, missing)))
                if len(self._rows) == size:
                    break
            except _BrokenQuote:
                self._skip()
        return bool(self._rows or self._jumps)

    def _read(self, step: Callable[[], T]) -> T:
        """Take a step of the reader. Raises SourceRefused, or _BrokenQuote for a single row."""
        try:
            return step()
        except csv.Error as fault:
            if "expected after" in str(fault):
                raise _BrokenQuote from None
            rule = (
                "holds a value longer than 131,072 characters"
                if "limit" in str(fault)
                else "opens a quotation mark that is never closed"
            )
            raise SourceRefused(
                file=f"{self._source.name}, row {self._next_row()}", rule=rule, hint=_BROKEN_QUOTE
            ) from None
        except Undecodable as fault:
            raise SourceRefused(
                file=self._source.name,
                rule=f"is not {fault.encoding} text, first at row {self._next_row()}",
                hint=fault.hint,
            ) from None

    def _skip(self) -> None:
        """Leave out the row whose quoting is broken, and the lines that it swallowed."""
        start = self._jumps[-1][0] if self._jumps else 0
        first = self._line + sum(1 + _line_ends(row) for row in self._rows[start:]) + 1
        self._line = self._line_num
        lost = self._line - first + 1
        swallowed = f"lines {first} to {self._line} are left out; " if lost > 1 else ""
        self._bad.append(
            BadRow(
                self._next_row(), "", "has a broken quotation mark", f"{swallowed}{_BROKEN_QUOTE}"
            )
        )
        self._jumps.append((len(self._rows), lost))
        self._lost += lost

    def _next_row(self) -> int:
        return self._before + len(self._rows) + self._lost + 1

    def _block(self, at: dict[str, int]) -> Block:
        """Make columns of `_rows`, the good ones, and start over."""
        rows, numbers = self._rows, np.arange(len(self._rows), dtype=np.int64) + self._before + 1
        for start, lost in self._jumps:
            numbers[start:] += lost
        self._before, self._line = self._next_row() - 1, self._line_num
        self._rows, self._jumps, self._lost = [], [], 0
        if not self._plain(rows, at[RECORD_ID]):
            kept = [self._fits(row, int(n), at) for row, n in zip(rows, numbers, strict=True)]
            rows, numbers = list(compress(rows, kept)), numbers[kept]
        cells = list(zip(*rows, strict=True)) if rows else [()] * len(self.header)
        return numbers, {name: text_array(cells[position]) for name, position in at.items()}

    def _joined(self, blocks: list[Block]) -> RawBatch:
        bad, self._bad = self._bad, []
        texts = {
            name: pc.utf8_trim_whitespace(pa.concat_arrays([texts[name] for _, texts in blocks]))
            for name in blocks[0][1]
        }
        return RawBatch(
            record_ids=texts.pop(RECORD_ID),
            columns=texts,
            numbers=np.concatenate([numbers for numbers, _ in blocks]),
            bad=sorted(bad, key=lambda one: one.number),
            done=self._file.done,
            total=self._file.total,
        )

    def _plain(self, rows: list[list[str]], id_at: int) -> bool:
        """Whether no row needs a look of its own; this is all the look that most files need."""
        if self._text.nul or set(map(len, rows)) - {len(self.header)}:
            return False
        ids = set(map(itemgetter(id_at), rows))
        return self.header[id_at] not in ids and all(map(str.strip, ids))

    def _good_ids(self, ids: pa.StringArray, at: dict[str, int]) -> bool:
        """The same look as `_plain`, at a piece whose rows all have the right width."""
        header = text_array([self.header[at[RECORD_ID]]])[0]  # a plain str would load pandas
        if self._text.nul or pc.any(pc.equal(ids, header)).as_py():
            return False
        return bool(pc.min(pc.binary_length(pc.utf8_trim_whitespace(ids))).as_py())

    def _fits(self, row: list[str], number: int, at: dict[str, int]) -> bool:
        if not any(map(str.strip, row)):
            return False  # a blank row, as spreadsheets leave at the end
        width = len(self.header)
        if len(row) != width:
            rule = f"has {len(row)} columns where the header has {width}"
            hint = "a value with a delimiter or a line end in it needs quotation marks"
            self._bad.append(BadRow(number, "", rule, hint))
        elif row == self.header:
            hint = "files were put together; keep the first header only"
            self._bad.append(BadRow(number, "", "repeats the header", hint))
        elif any("\0" in cell for cell in row):
            self._bad.append(BadRow(number, "", "holds a NUL character", "export it again as text"))
        elif not row[at[RECORD_ID]].strip():
            self._bad.append(
                BadRow(number, RECORD_ID, "has no record id", "give it one at the source")
            )
        else:
            return True
        return False


def _taken(blocks: Iterator[Block], least: int) -> Iterator[Block]:
    """Yield the next blocks, until they have `least` rows."""
    rows = 0
    for numbers, texts in blocks:
        yield numbers, texts
        rows += len(numbers)
        if rows >= least:
            return


class _BrokenQuote(Exception):
    """The row that was just read has text after a closing quotation mark."""


def _line_ends(row: list[str]) -> int:
    return sum(cell.count("\n") + cell.count("\r") - cell.count("\r\n") for cell in row)


def _sniffed(line: str) -> str:
    """Return the delimiter that makes the most known column names of a header, else the most."""

    def worth(delimiter: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            return 0, 0
        return sum(map(bool, map(usual_field, cells))), len(cells)

    return max(_DELIMITERS, key=worth)


def _require_delimiter(name: str, header: list[str], delimiter: str) -> None:
    if len(header) > 1:
        return
    counts = Counter(c for c in header[0] if c in _DELIMITERS and c != delimiter)
    if not counts:
        raise SourceRefused(
            file=name,
            rule="has one column only",
            hint="check [source] delimiter, and that row 1 is the header",
        )
    likely = counts.most_common(1)[0][0]
    raise SourceRefused(
        file=name,
        rule=f"is not delimited by {_toml(delimiter)}; its header holds {counts[likely]}"
        f" {_toml(likely)}",
        hint=f"set [source] delimiter = {_toml(likely)}, or drop the line",
    )


def _toml(delimiter: str) -> str:
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'


def _require_date_format(config: DelimitedConfig, fields: tuple[str, ...]) -> None:
    if "date_of_birth" in fields and config.date_format is None:
        raise SourceRefused(
            file=config.file.name,
            rule="the site file says nothing of how dates are written in it",
            hint='add under [source]: date_format = "MM/DD/YYYY", or as they stand there',
        )
