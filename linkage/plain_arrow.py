"""
Reading Arrow IPC streams of others: uncompressed ones only.

    schema, batches = read_stream(data)

Arrow allocates whatever size a compressed buffer claims, before anything can be checked, so a
few kilobytes can ask for terabytes. What this project writes is never compressed.
"""

from __future__ import annotations

import struct

import pyarrow as pa

_RECORD_BATCH_FIELD = 2
"""Place of `header` in Message, format/Message.fbs of Apache Arrow."""
_COMPRESSION_FIELD = 3
"""Place of `compression` in RecordBatch, same file."""


def read_stream(data: bytes) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """
    Return the schema and the fully validated record batches of an Arrow IPC stream.

    Raises ValueError for anything malformed or compressed; callers say what it was.
    """
    try:
        for message in pa.ipc.MessageReader.open_stream(data):
            if message.type == "dictionary":
                raise ValueError("dictionaries are not used here")
            if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
                raise ValueError("the stream is compressed")
        with pa.ipc.open_stream(data) as reader:
            batches = list(reader)
            for batch in batches:
                batch.validate(full=True)
            return reader.schema, batches
    except (pa.ArrowException, OSError, struct.error, TypeError, KeyError):
        raise ValueError("no Arrow stream") from None


def _is_compressed(metadata: bytes) -> bool:
    """Look up RecordBatch.compression in the message's flatbuffer, without a flatbuffer library."""
    (root,) = struct.unpack_from("<I", metadata, 0)
    header = _field(metadata, root, _RECORD_BATCH_FIELD)
    if not header:
        raise ValueError("a record batch without a header")
    (offset,) = struct.unpack_from("<I", metadata, header)
    return bool(_field(metadata, header + offset, _COMPRESSION_FIELD))


def _field(metadata: bytes, table: int, number: int) -> int:
    """Return the position of a field of a flatbuffer table, 0 if it is not there."""
    (back,) = struct.unpack_from("<i", metadata, table)
    vtable = table - back
    if vtable < 0:
        raise ValueError("a table points outside its message")
    (size,) = struct.unpack_from("<H", metadata, vtable)
    place = 4 + 2 * number
    if place + 2 > size:
        return 0
    (at,) = struct.unpack_from("<H", metadata, vtable + place)
    return table + at if at else 0
