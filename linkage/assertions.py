"""
What travels of asserted links: which of an uploader's records stand behind which shared assertion.

Two parties agree by letter or telephone on an **assertion id**, such as a random UUID, and on a
verdict: their two records are one person, or are different persons. Neither learns the other's
record: each sends to the broker, sealed, its own record pseudonym and a token of the assertion id.
An uploader's newest list is all it asserts; what is not in it any more is withdrawn.

A row each (an Arrow record batch, `list_schema`), in the order of the tokens:
    record_pseudonym    16 bytes, the uploader's own record
    token               16 bytes: HMAC-SHA-256 of the assertion id under a key that the sites
                        derive from the study key (sites.asserting), cut to 128 bits
    different           true where the verdict is "different", false where it is "same"
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from linkage.errors import EncodingRefused
from linkage.messages import Hex256, Message, Name
from linkage.plain_arrow import read_stream
from linkage.records import PSEUDONYM_BYTES, Bytes2D

TOKEN_BYTES = 16
MOST_ASSERTIONS = 150_000
"""Rows of a list: with their seal they stay below messages.PART_BYTES."""

_REMEDY = "make and send the list again: linkage-site assert"


class AssertionListState(Message):
    """One uploader's assertion list; its newest one counts. digest, size: of the sealed list."""

    uploader: Name
    number: int = Field(ge=1, le=1_000_000)
    epoch: int = Field(ge=1)
    size: int
    digest: Hex256


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AssertionList:
    """
    All that one uploader asserts: A parallel rows.

    pseudonyms, tokens: uint8[A, 16], every token once. different: bool[A].
    Raises EncodingRefused for other shapes, too many rows, or a token that comes twice.
    """

    uploader: str
    pseudonyms: Bytes2D
    tokens: Bytes2D
    different: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        shapes = [one.shape for one in (self.pseudonyms, self.tokens)]
        if shapes != [(len(self.different), TOKEN_BYTES)] * 2:
            raise EncodingRefused("the columns of an assertion list differ in length or width")
        if len(self) > MOST_ASSERTIONS:
            raise EncodingRefused(
                f"the assertion list of {self.uploader!r} has more than {MOST_ASSERTIONS} rows",
                hint="withdraw what is of no use any more",
            )
        if len({row.tobytes() for row in self.tokens}) != len(self):
            raise EncodingRefused(
                f"the assertion list of {self.uploader!r} names one assertion twice", hint=_REMEDY
            )

    def __len__(self) -> int:
        return len(self.different)


def list_schema() -> pa.Schema:
    """Return the Arrow schema of an assertion list, the same for every uploader."""
    return pa.schema(
        [
            pa.field("record_pseudonym", pa.binary(PSEUDONYM_BYTES), nullable=False),
            pa.field("token", pa.binary(TOKEN_BYTES), nullable=False),
            pa.field("different", pa.bool_(), nullable=False),
        ]
    )


def to_bytes(made: AssertionList) -> bytes:
    """Return a list as an Arrow stream, in the order of its tokens: not that of the steward."""
    order = sorted(range(len(made)), key=lambda row: made.tokens[row].tobytes())
    columns = [
        pa.array([made.pseudonyms[row].tobytes() for row in order], pa.binary(PSEUDONYM_BYTES)),
        pa.array([made.tokens[row].tobytes() for row in order], pa.binary(TOKEN_BYTES)),
        pa.array(made.different[order].tolist(), pa.bool_()),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, list_schema()) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=list_schema()))
    return bytes(sink.getvalue())


def from_bytes(data: bytes, uploader: str) -> AssertionList:
    """
    Read what `to_bytes` wrote. uploader: who sealed it.

    Raises EncodingRefused for anything that is no such table, and as AssertionList does.
    """
    said = f"what {uploader!r} sent as its assertion list"
    try:
        schema, batches = read_stream(data)
    except ValueError:
        raise EncodingRefused(f"{said} is no table", hint=_REMEDY) from None
    if not schema.equals(list_schema()):
        raise EncodingRefused(f"{said} has other columns than this program's", hint=_REMEDY)
    table = pa.Table.from_batches(batches, schema).combine_chunks()
    # Arrow's own validation lets nulls stand in columns that are declared without.
    if any(column.null_count for column in table.columns):
        raise EncodingRefused(f"{said} has nulls", hint=_REMEDY)
    names, tokens = (
        np.frombuffer(b"".join(table[name].to_pylist()), np.uint8).reshape(-1, TOKEN_BYTES).copy()
        for name in ("record_pseudonym", "token")
    )
    different = np.array(table["different"].to_pylist(), np.bool_)
    return AssertionList(uploader, names, tokens, different)
