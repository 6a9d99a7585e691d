"""
Tables of fixed-width bytes that travel sealed: crosswalks, question IDs, answers.

Arrow IPC stream, uncompressed: compressed sizes could tell contents apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.answer_cells import CELL_BYTES
from linkage.errors import PackageRefused
from linkage.plain_arrow import read_stream

Columns = Mapping[str, npt.NDArray[np.uint8]]

CROSSWALK = {"record_pseudonym": 16, "cross_commons_id": 16}
"""What a release gives a party: every record, random order."""
QUESTION_IDS = {"record_pseudonym": 16, "question_id": 16, "answer_key": 32}
"""What a question gives a party: every record, random order. answer_key: linkage.answer_cells."""
QUALIFYING = {"question_id": 16}
"""What the imaging party tells the enclave: the question IDs that fit the imaging criteria."""
QUALIFYING_DAYS = {"question_id": 16, "days": CELL_BYTES}
"""Likewise, where the question counts days from the image: with a cell of study days."""
DELIVERY_CROSSWALK = {"record_pseudonym": 16, "cohort_id": 16, "row_id": 16, "row_key": 32}
"""What a delivery gives the enclave: every record; random row IDs and keys where unmatched."""
LINK_METHODS = {"cross_commons_id": 16, "tier": 1, "model": 2}
"""
How the enclave's IDs were linked: tier: its place in linkage.matching.links.TIERS; model: the
version of the match model, big-endian. IDs without a link have no row.
"""


def pack(columns: Columns, widths: Mapping[str, int]) -> bytes:
    """Return the columns, each uint8[N, width], as an Arrow IPC stream."""
    arrays = []
    for name, width in widths.items():
        values = np.ascontiguousarray(columns[name], dtype=np.uint8)
        if values.ndim != 2 or values.shape[1] != width:
            raise PackageRefused(f"column {name!r} is not {width} bytes wide")
        data = pa.py_buffer(values.tobytes())
        arrays.append(
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, data])
        )
    batch = pa.record_batch(arrays, schema=_schema(widths))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def unpack(data: bytes, widths: Mapping[str, int]) -> dict[str, npt.NDArray[np.uint8]]:
    """Return what `pack` packed. Raises PackageRefused for anything else."""
    try:
        schema, batches = read_stream(data)
        table = pa.Table.from_batches(batches, schema).combine_chunks()
    except ValueError:
        raise PackageRefused("a table of IDs is malformed", hint="it must be sent again") from None
    if not table.schema.equals(_schema(widths)):
        raise PackageRefused(
            "a table of IDs has other columns", hint="both sides need the same software version"
        )
    n = table.num_rows
    return {
        name: np.frombuffer(table.column(name).chunk(0).buffers()[1], np.uint8)[: n * width]
        .reshape(n, width)
        .copy()
        if n
        else np.zeros((0, width), np.uint8)
        for name, width in widths.items()
    }


def _schema(widths: Mapping[str, int]) -> pa.Schema:
    return pa.schema([pa.field(n, pa.binary(w), nullable=False) for n, w in widths.items()])
