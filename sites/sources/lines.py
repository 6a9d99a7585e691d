"""
Delimited text piece by piece: a plain piece becomes columns at once, any other goes row by row.

    lines = Lines(text.pieces(row))
    columns = plain_columns(lines.next_piece(), ",", width=7, at={"last_name": 2})

A piece without quotation marks is plain if all its lines have as many delimiters as the header;
Arrow's reader cuts it ten times faster than Python's, which reads whatever is not plain and is
the reference (tests/unit/sites/test_delimited.py holds both together).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.csv


class Lines(Iterator[str]):
    """
    The lines of the pieces of a text, for csv.reader.

    They end with the piece that was fed last, and go on when the next one is fed: between pieces
    the caller may look for a faster way. Once a quotation mark was met a row may go on into the
    next piece, so from there all pieces are lines.
    """

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._now = io.StringIO("")
        self._quoted = False

    def first(self) -> str:
        """Feed the first piece and return it; "" if there is none."""
        piece = self.next_piece()
        self.feed(piece)
        return piece

    def next_piece(self) -> str:
        """Return the next piece, to be read otherwise or fed; "" at the end."""
        return next(self._pieces, "")

    def feed(self, piece: str) -> None:
        """Let the lines of `piece` come next; those of the one before must all be read."""
        self._now = io.StringIO(piece, newline="")
        self._quoted = self._quoted or '"' in piece

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while not (line := self._now.readline()):
            if not self._quoted:
                raise StopIteration
            self.feed(next(self._pieces))
        return line


def text_array(cells: Sequence[str]) -> pa.StringArray:
    """Return `pa.array(cells, pa.string())`, which would load pandas to ask it what they are."""
    known = cells if all(map(str.isascii, cells)) else [cell.encode("utf-8") for cell in cells]
    offsets = np.zeros(len(cells) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, known), np.int64, count=len(cells)), out=offsets[1:])
    letters = pa.py_buffer("".join(cells).encode("utf-8"))
    return pa.StringArray.from_buffers(len(cells), pa.py_buffer(offsets), letters)


def plain_columns(
    piece: str, delimiter: str, *, width: int, at: Mapping[str, int]
) -> dict[str, pa.StringArray] | None:
    """
    Return the columns of a plain piece of whole lines, None where it is not plain.

    width: columns of a row. at: by name, the place of each column wanted.
    """
    if '"' in piece or not delimiter.isascii():
        return None
    if "\r" in piece and piece.count("\r") != piece.count("\r\n"):
        return None
    data = piece.encode("utf-8")
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    if np.diff(ends, prepend=-1, append=len(data)).max() > csv.field_size_limit():
        return None
    names = [str(place) for place in range(width)]
    wanted = sorted({names[place] for place in at.values()})
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=names
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, quote_char=False, ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(wanted, pa.string()),
                include_columns=wanted,
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:  # a line with more or fewer columns; Python's reader will say which
        return None
    return {name: pa.concat_arrays(table.column(names[place]).chunks) for name, place in at.items()}
