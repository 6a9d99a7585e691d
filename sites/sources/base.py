"""
What every source of identifiers gives, whatever it is: batches of records as they stand there.

    for batch in open_source(site.source, fields).batches(): ...

A source reads forward once, in memory that does not grow with the number of its records. It
leaves a bad record out and says so in the batch; whoever reads decides whether to go on. What
it names a record by (row 12, line 7, patient 3) never holds a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BATCH_RECORDS = 100_000
"""Records in a batch, at most. A worker encodes one batch at a time."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """
    A record left out. number: as the source counts (`Source.unit`), rule: what is wrong, hint:
    what to do. field: the study's field, "record_id", or "" for the record as a whole.
    """

    number: int
    field: str
    rule: str
    hint: str = ""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RawBatch:
    """
    Up to BATCH_RECORDS records of a source, in its order.

    record_ids: pa.string()[N], without outer blanks, never null or empty; that no two are equal
    in the whole source, its reader checks. columns: by field, N values of any Arrow type that
    the source has (text, numbers, dates), null or "" where missing. numbers: int64[N], what the
    source counts each record by. bad: records of this stretch that were left out.
    done, total: how far the source is read, in any unit of its own; total 0 while unknown.
    """

    record_ids: pa.StringArray
    columns: dict[str, pa.Array]
    numbers: npt.NDArray[np.int64]
    bad: list[BadRow] = field(default_factory=list)
    done: int = 0
    total: int = 0

    def __len__(self) -> int:
        return len(self.record_ids)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a batch of records refuses pickling: it holds identifiers")


class Source(Protocol):
    """
    name: for errors, without folder or value ("patients.csv"). unit: "row", "line", "patient".
    """

    name: str
    unit: str

    def batches(self) -> Iterator[RawBatch]:
        """
        Read the source once, from its start.

        Raises SourceRefused where it cannot be read as its site file says.
        """
        ...
