"""
Plain CLKs for users of clkhash and anonlink: a CSV file and a linkage schema in, a CLK file out.

No study, no broker, no diffusion. Whoever holds such a file and a list of the population finds
out who is in it, without the secret (docs/threat-model.md); so the caller accepts that in words.

CLK file: {"clks": ["<base64 of the bits, first bit first>", ...]}, one a record, in the order
of the file, as clkhash and anonlink's service read and write it.
"""

from __future__ import annotations

import base64
import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from linkage.encoding import clkhash_lint
from linkage.encoding.clkhash_schema import ClkhashSchema, read_schema
from linkage.encoding.interchange import SchemaEncoder
from linkage.errors import KeyRefused, SchemaRefused, SourceRefused
from linkage.sealing import read_secret
from sites.private_file import private_file

_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class ClkFile:
    """What was made. density: share of bits set, over all records."""

    file: Path
    records: int
    density: float
    weaknesses: tuple[str, ...]


def write_clks(
    data: Path,
    schema_file: Path,
    secret_file: Path,
    out: Path | None,
    *,
    accept_weaknesses: bool = False,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> ClkFile:
    """
    Encode every row of a CSV file; the header's names are those of the schema's features.

    out: the CLK file; None only checks. Raises SchemaRefused, listing every weakness unless they
    are accepted, SourceRefused, RowRejected for the first value that breaks its format.
    """
    schema, secret = _schema(schema_file), _secret(secret_file)
    if not accept_weaknesses:
        clkhash_lint.require_strong(schema, secret)
    encoder = SchemaEncoder(schema, secret)
    records = bits = 0
    # Plain CLKs say who is in them: only their owner reads the file, and no half of it stays.
    with private_file(out) if out else Path(os.devnull).open("w", encoding="ascii") as file:
        file.write('{"clks": [')
        for first_row, columns in _batches(data, schema):
            filters = encoder.encode(columns, file=data.name, first_row=first_row)
            texts = (f'"{base64.b64encode(row.tobytes()).decode("ascii")}"' for row in filters)
            file.write((", " if records else "") + ", ".join(texts))
            records += len(filters)
            bits += int(np.bitwise_count(filters).sum(dtype=np.int64))
            progress("encode", records, 0)
        file.write("]}\n")
    density = bits / (records * schema.length) if records else 0.0
    weak = clkhash_lint.weaknesses(schema, secret, density=density)
    return ClkFile(out or data, records, density, tuple(map(str, weak)))


def _schema(path: Path) -> ClkhashSchema:
    try:
        return read_schema(path.read_bytes())
    except OSError as fault:
        raise SchemaRefused(
            f"{path} cannot be read ({type(fault).__name__})", hint="check the path"
        ) from None


def _secret(path: Path) -> bytes:
    secret = read_secret(path).strip(b"\r\n")
    if not secret:
        raise KeyRefused(f"{path} is empty", hint="it holds the secret, in one line")
    return secret


def _batches(path: Path, schema: ClkhashSchema) -> Iterator[tuple[int, list[list[str]]]]:
    """Yield the row number of each batch's first row and its columns, in the schema's order."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _read(path.name, csv.reader(file, strict=True), schema)
    except FileNotFoundError:
        raise SourceRefused(
            file=path.name, rule="there is no such file", hint="check the path"
        ) from None
    except (UnicodeDecodeError, csv.Error):
        raise SourceRefused(
            file=path.name, rule="is no CSV text in UTF-8", hint="export it as CSV, UTF-8"
        ) from None


def _read(
    name: str, reader: Iterator[list[str]], schema: ClkhashSchema
) -> Iterator[tuple[int, list[list[str]]]]:
    wanted = [feature.identifier for feature in schema.features]
    header = next(reader, None)
    if header != wanted:
        raise SourceRefused(
            file=name,
            rule="its header is not the schema's features, in their order",
            hint=f"the first row must be: {','.join(wanted)}",
        )
    row = 2
    while rows := list(islice(reader, _ROWS)):
        for number, cells in enumerate(rows, start=row):
            if len(cells) != len(wanted):
                raise SourceRefused(
                    file=f"{name}, row {number}",
                    rule=f"has {len(cells)} columns where the header has {len(wanted)}",
                    hint="correct the row",
                )
        yield row, [list(column) for column in zip(*rows, strict=True)]
        row += len(rows)
