"""An imaging party's answer: who fits, on which days, and what is delivered of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from linkage.errors import NotFound
from sites.cohort.attrition import Attrition
from sites.cohort.bundle import BUNDLE_SCHEMAS, bundles_to_bytes
from sites.cohort.imaging_criteria import coded

Spans = dict[str, tuple[int, int]]


class ImagingAnswer:
    """
    Who fits at the imaging party.

    record_ids: local record ids, ascending. frame: what study_days count in, one of DATE_FRAMES:
    "true": days since 1970-01-01; "index": days from the event that index_event names. Rows are
    read when they are first asked for, and then kept; a question needs none.
    """

    def __init__(
        self,
        *,
        record_ids: tuple[str, ...],
        attrition: Attrition,
        frame: str,
        index_event: str | None,
        days: dict[str, tuple[int, ...]],
        load: Callable[[], tuple[dict[str, pa.Table], tuple[str, ...]]],
    ) -> None:
        self.record_ids, self.frame, self.index_event = record_ids, frame, index_event
        self._attrition, self._days, self._load = attrition, days, load
        self._tables: dict[str, pa.Table] | None = None
        self._spans: dict[str, Spans] = {}

    def __repr__(self) -> str:
        return f"ImagingAnswer({len(self.record_ids)} record ids)"

    @property
    def attrition(self) -> Attrition:
        """Exact, not yet suppressed; with notes on the rows too once these were read."""
        return self._attrition

    @property
    def rows(self) -> pa.Table:
        """SERIES_SCHEMA, all subjects, ordered by record id, study UID, series UID."""
        return self._read()["series"].drop_columns("record_id")

    @property
    def spans(self) -> Spans:
        """First row and number of rows in `rows`, by record id."""
        self._read()
        return self._spans["series"]

    @property
    def files(self) -> pa.Table:
        """FILES_SCHEMA, all subjects that fit."""
        return self._read()["files"].drop_columns("record_id")

    def study_days(self, record_id: str) -> tuple[int, ...]:
        """Return the days of a subject's fitting studies, ascending; none unless dates = true."""
        return self._days.get(record_id, ())

    def rows_of(self, record_id: str) -> pa.Table:
        """Return the series rows to deliver for one subject. Raises NotFound if it doesn't fit."""
        return self.bundle_of(record_id)["series"]

    def bundle_of(self, record_id: str) -> dict[str, pa.Table]:
        """Return all that is delivered of one subject. Raises NotFound if it does not fit."""
        tables = self._read()
        if record_id not in self._spans["series"]:
            raise NotFound(
                "a record does not fit the imaging criteria", hint="ask only for record_ids"
            )
        return {
            name: tables[name].slice(*self._spans[name].get(record_id, (0, 0))).select(schema.names)
            for name, schema in BUNDLE_SCHEMAS.items()
        }

    def subjects(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield every record id that fits, with its series rows."""
        for record_id in self.record_ids:
            yield record_id, self.rows_of(record_id)

    def bundles(self) -> Iterator[tuple[str, dict[str, pa.Table]]]:
        """Yield every record id that fits, with all that is delivered of it."""
        for record_id in self.record_ids:
            yield record_id, self.bundle_of(record_id)

    def packed(self) -> Iterator[tuple[str, bytes]]:
        """Yield every record id that fits, with its bundle as bytes; `bundles`, but fast."""
        tables = {name: table.drop_columns("record_id") for name, table in self._read().items()}
        return bundles_to_bytes(tables, self._spans, self.record_ids)

    def _read(self) -> dict[str, pa.Table]:
        if self._tables is None:
            self._tables, notes = self._load()
            self._spans = {name: _spans(table) for name, table in self._tables.items()}
            self._attrition = Attrition(
                side="imaging",
                steps=self._attrition.steps,
                notes=(*self._attrition.notes, *notes),
            )
        return self._tables


def _spans(table: pa.Table) -> Spans:
    """Return record id -> (first row, rows), for rows ordered by record id."""
    if not table.num_rows:
        return {}
    made = coded(table["record_id"])
    starts = np.flatnonzero(np.diff(made.codes, prepend=-2))
    lengths = np.diff(np.append(starts, table.num_rows))
    names = made.values.take(pa.array(made.codes[starts])).to_pylist()
    return dict(zip(names, zip(starts.tolist(), lengths.tolist(), strict=True), strict=True))
