"""
What a tokenization gives its workers to do: orders, and the jobs by name.

    with Workers(count, jobs.prepared, order) as workers:
        workers.each(jobs.encode_batch, ...)

The work itself is in sites.encoding_worker, which a process loads only when it does a job: the
one that reads and gives out the work does none, unless there are no workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.encoding.fields import Reading
from linkage.messages import Part
from linkage.sealing import PublicIdentity
from linkage.study import StudyConfig
from sites.sources.base import RawBatch
from sites.vault import Vault

if TYPE_CHECKING:
    from sites.assembly import Repeated
    from sites.encoding_worker import Prepared
    from sites.strata import Chosen

NUMBER, RECORD_ID = "row number", "record_id"
"""Columns of a raw batch beside its fields and strata; nothing of these is named so."""
ASSEMBLE, MAKE_UP = "assemble", "make up"
"""What is done once all batches are there: `of_the_whole`."""


@dataclass(frozen=True, slots=True)
class Order:
    """
    What a tokenization is: everything a worker needs, and no secret. strata: what its records are
    marked by; most_epsilon: see sites.strata_config.
    """

    study: StudyConfig
    uploader: str
    broker: PublicIdentity
    vault: Vault
    dataset: int
    reading: Reading
    strata: tuple[Chosen, ...] = ()
    most_epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class RawPart:
    """One batch to encode. data: Arrow IPC stream; digest: of it, keyed."""

    number: int
    digest: str
    data: pa.Buffer


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows [start, stop) of the dataset in pseudonym order; its number, from 1."""

    number: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class PartOrder:
    """
    One part to seal, of `total` parts: a stretch of records or, in a delta, the pseudonyms of
    records that are gone, uint8[n, 16]. mark: also write the marks of its rows.
    """

    rows: Stretch
    total: int
    folder: Path
    removed: npt.NDArray[np.uint8] | None = None
    mark: bool = False


def packed(raw: RawBatch) -> pa.Buffer:
    """Return a batch as it travels to a worker."""
    # `pa.array` would import pandas here, to see whether the numbers are a series.
    memory = pa.py_buffer(np.ascontiguousarray(raw.numbers, np.int64))
    numbers = pa.Array.from_buffers(pa.int64(), len(raw.numbers), [None, memory])
    columns = {**raw.columns, RECORD_ID: raw.record_ids, NUMBER: numbers}
    return serialised(pa.record_batch(columns))


def serialised(batch: pa.RecordBatch) -> pa.Buffer:
    """Return a batch as an Arrow IPC stream. In memory of its size: one that grows is copied."""
    size = pa.MockOutputStream()
    with pa.ipc.new_stream(size, batch.schema) as writer:
        writer.write_batch(batch)
    data = pa.allocate_buffer(size.size())
    with pa.ipc.new_stream(pa.FixedSizeBufferWriter(data), batch.schema) as writer:
        writer.write_batch(batch)
    return data


def prepared(order: Order) -> Prepared:
    """Make what a worker needs, once a process."""
    from sites.encoding_worker import Prepared

    return Prepared(order)


def encode_batch(worker: Prepared, raw: RawPart) -> dict[str, Any]:
    """See sites.encoding_worker, as of all below."""
    from sites import encoding_worker

    return encoding_worker.encode_batch(worker, raw)


def of_the_whole(
    worker: Prepared, what: str
) -> tuple[list[Repeated], dict[str, Any], int, int] | None:
    """
    ASSEMBLE: see there. MAKE_UP: nothing is returned. Side by side: the first is one process's
    work, and while it lasts another one has nothing else to do.
    """
    from sites import encoding_worker

    if what == MAKE_UP:
        encoding_worker.make_up(worker)
        return None
    return encoding_worker.assemble(worker)


def find_repeats(worker: Prepared, place: int) -> tuple[int, int, int]:
    from sites import encoding_worker

    return encoding_worker.find_repeats(worker, place)


def mark_rows(worker: Prepared, rows: Stretch) -> int:
    from sites import encoding_worker

    return encoding_worker.mark_rows(worker, rows)


def seal_part(worker: Prepared, part: PartOrder) -> Part:
    from sites import encoding_worker

    return encoding_worker.seal_part(worker, part)
