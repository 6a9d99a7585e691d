"""Identifiers from the rows of an SQL query, on any database that SQLAlchemy can reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

import numpy as np

from linkage.errors import SourceRefused
from sites.sources.base import RawBatch
from sites.sources.cells import batch_of, made_ready
from sites.sources.columns import find_columns, guessed
from sites.sources.config import SqlConfig
from sites.sources.database import open_database


class SqlSource:
    """
    The rows of one query: a `Source`. Rows are counted from 1 in the order they come in, so a
    query with ORDER BY counts the same way each time. notes: what was found out.
    """

    unit = "row"

    def __init__(
        self, config: SqlConfig, fields: tuple[str, ...], extra: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._config, self._fields, self._extra = config, fields, extra
        self.name = "query"
        self.notes: list[str] = []

    def batches(self) -> Iterator[RawBatch]:
        """Run the query once. Raises SourceRefused; KeyRefused for a URL file others can read."""
        query = self._query()
        done = 0
        with closing(open_database(self._config)) as database:
            self.name = f"query on {database.name}"
            header, batches = database.rows(query)
            at = find_columns(self.name, header, self._config, self._fields, self._extra)
            self.notes = guessed(at, header, self._config)
            for columns in batches:
                size = len(columns[0])
                numbers = np.arange(done + 1, done + size + 1, dtype=np.int64)
                done += size
                ready = made_ready(self.name, {name: columns[i] for name, i in at.items()})
                yield batch_of(ready, numbers, done=done)

    def header(self) -> list[str]:
        """Return the names of the query's columns. Raises what `batches` raises."""
        with closing(open_database(self._config)) as database:
            return database.rows(self._query())[0]

    def _query(self) -> str:
        path = self._config.query_file
        if path is None:
            return self._config.query or ""
        try:
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            rule, hint = "[source] query_file cannot be read", "it must be readable UTF-8 text"
            raise SourceRefused(file=str(path), rule=rule, hint=hint) from None
