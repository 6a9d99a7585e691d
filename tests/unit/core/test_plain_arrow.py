"""Streams of others: what is compressed is refused before anything of its size is allocated."""

from __future__ import annotations

import contextlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage import idtables
from linkage.errors import PackageRefused
from linkage.plain_arrow import read_stream
from linkage.pseudonyms import random_ids

TABLE = pa.record_batch({"a": pa.array(range(500)), "b": pa.array(["x", None] * 250)})


def stream(batch: pa.RecordBatch, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def test_a_plain_stream_is_read_whole() -> None:
    schema, batches = read_stream(stream(TABLE))
    assert schema.equals(TABLE.schema)
    assert pa.Table.from_batches(batches).equals(pa.Table.from_batches([TABLE]))


@pytest.mark.threat("P08")
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_bomb_is_refused_unopened(compression: str) -> None:
    zeros = pa.py_buffer(bytes(16 << 20))
    ids = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), 1 << 20, [None, zeros])
    schema = pa.schema([pa.field("question_id", pa.binary(16), nullable=False)])
    bomb = stream(pa.record_batch([ids], schema=schema), compression)
    assert len(bomb) < 1 << 20
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match="compressed"):
        read_stream(bomb)
    assert pa.total_allocated_bytes() - before < 1 << 20
    with pytest.raises(PackageRefused, match="malformed"):
        idtables.unpack(bomb, idtables.QUALIFYING)


def test_a_dictionary_is_refused() -> None:
    coded = pa.record_batch({"a": pa.array(["x", "y", "x"]).dictionary_encode()})
    with pytest.raises(ValueError, match="dictionaries"):
        read_stream(stream(coded))


@pytest.mark.threat("P07")
@given(st.data())
def test_a_damaged_stream_never_ends_in_another_error(data: st.DataObject) -> None:
    damaged = bytearray(stream(TABLE))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    # Refused, as it should be, or intact enough to be read.
    with contextlib.suppress(ValueError):
        read_stream(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


def test_ids_come_back_from_several_batches() -> None:
    ids = random_ids(7)
    packed = idtables.pack({"question_id": ids}, idtables.QUALIFYING)
    assert np.array_equal(idtables.unpack(packed, idtables.QUALIFYING)["question_id"], ids)
