"""
Identifiers from Parquet: one file, or a folder of files read in the order of their names.

Rows are counted from 1, in a folder through all of its files. A row group is read in pieces, so
memory does not grow with the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from linkage.errors import SourceRefused
from sites.sources.base import BATCH_RECORDS, RawBatch
from sites.sources.cells import batch_of, made_ready
from sites.sources.columns import find_columns, guessed
from sites.sources.config import ParquetConfig
from sites.sources.files import files_in

_ENDINGS = (".parquet", ".pq")


class ParquetSource:
    """One Parquet file or a folder of them: a `Source`. notes: what was found out."""

    unit = "row"

    def __init__(
        self,
        config: ParquetConfig,
        fields: tuple[str, ...],
        extra: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._config, self._fields, self._extra = config, fields, extra
        self.name = config.file.name
        self.notes: list[str] = []

    def batches(self) -> Iterator[RawBatch]:
        """Read all files once. Raises SourceRefused for what is no Parquet, or lacks a column."""
        self.notes = []
        paths = files_in(self._config.file, _ENDINGS)
        if len(paths) > 1:
            self.notes.append(f"{len(paths):,} files, rows counted through all of them")
        opened = [_Opened(path, self._name_of(path)) for path in paths]
        total, done = sum(one.rows for one in opened), 0
        for one in opened:
            for columns in self._columns(one):
                size = len(next(iter(columns.values())))
                numbers = np.arange(done + 1, done + size + 1, dtype=np.int64)
                done += size
                ready = made_ready(one.name, columns)
                yield batch_of(ready, numbers, done=done, total=total)

    def header(self) -> list[str]:
        """Return the names of the columns of the first file. Raises SourceRefused."""
        path = files_in(self._config.file, _ENDINGS)[0]
        return list(_Opened(path, self._name_of(path)).header)

    def _name_of(self, path: Path) -> str:
        return self.name if path == self._config.file else f"{self.name}/{path.name}"

    def _columns(self, one: _Opened) -> Iterator[dict[str, pa.Array]]:
        at = find_columns(one.name, one.header, self._config, self._fields, self._extra)
        for note in guessed(at, one.header, self._config):
            if note not in self.notes:
                self.notes.append(note)
        for batch in one.batches(sorted({one.header[i] for i in at.values()})):
            yield {name: batch.column(one.header[i]) for name, i in at.items()}


class _Opened:
    def __init__(self, path: Path, name: str) -> None:
        self.name, self._path = name, path
        with _told(name), pq.ParquetFile(path) as file:
            self.rows, self.header = file.metadata.num_rows, file.schema_arrow.names

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        with _told(self.name), pq.ParquetFile(self._path, pre_buffer=False) as file:
            yield from file.iter_batches(BATCH_RECORDS, columns=columns, use_threads=False)


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError):
        # What Arrow says may quote the file. ValueError: a column's name that is not UTF-8.
        raise SourceRefused(
            file=name,
            rule="is no Parquet file, or is cut short or damaged",
            hint="copy or export it again; for delimited text drop [source] kind",
        ) from None
