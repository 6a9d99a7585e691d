"""
What is counted of every field and of whole records, batch after batch, in bounded memory.

    tally = SourceTally(fields, hashing=Hashing())
    tally.add(record_ids, normalised)
    tally.fields["last_name"].summary()

Exact, whatever the number of records: everything that is a count. Bounded: the texts of common
values (`counting.CommonValues`). Of record ids, SSN, telephone and e-mail no text is kept at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.encoding import whys
from linkage.encoding.columns import Coded
from linkage.encoding.fields import Normalised
from sites.exchanged import usual_given
from sites.profiling.cells import small
from sites.profiling.counting import (
    CommonValues,
    CountSummary,
    Hashes,
    Hashing,
    ValueCounts,
    kinds_of,
    mixed,
)
from sites.profiling.dates import DateShape

NEVER_SHOWN = frozenset({"ssn", "phone", "email"})
"""Fields whose values are never shown, however many records hold one; nor are record ids."""

SHOWN_VALUES = 3
"""Common values shown of a field."""

OTHER_OR_UNKNOWN = f"{whys.OTHER_SEX} or unknown"

_NAMES = ("first_name", "middle_name", "last_name")


@dataclass(frozen=True, slots=True)
class CommonValue:
    """A normalised value that ten different records or more hold."""

    value: str
    records: int


class FieldTally:
    """
    One field. why: records by why-text of the Normaliser ("" is a plain value). one_letter:
    records whose value is one letter (names). given: records whose name is a usual first name in
    the United States. dates: the spread of a date of birth.
    """

    def __init__(self, field: str, hashing: Hashing) -> None:
        self.field = field
        self.why: Counter[str] = Counter()
        self.counts = ValueCounts()
        self.one_letter = self.given = 0
        self.dates = DateShape() if field == "date_of_birth" else None
        self._hashing = hashing
        self._common = None if field in NEVER_SHOWN else CommonValues()

    def hashes(self, column: Coded) -> Hashes:
        """Return the hash of each value of a column; 0 of an empty one."""
        made = self._hashing.of(column.values)
        made[[i for i, value in enumerate(column.values) if not value]] = 0
        return made

    def add(self, found: Normalised, hashes: Hashes, records: Hashes) -> None:
        """Add N records. hashes: of the column's values. records: uint64[N] of whole records."""
        _count_into(self.why, found.why)
        column = found.column
        counts = np.bincount(column.codes, minlength=len(column.values))
        used = [i for i in np.flatnonzero(counts).tolist() if column.values[i]]
        if not used:
            return
        values, held = [column.values[i] for i in used], counts[used]
        self.counts.add(hashes[used], held)
        if self._common is not None:
            self._common.add(values, held, kinds_of(column.codes, len(counts), records)[used])
        if self.field in _NAMES:
            self.one_letter += int(held[[len(value) == 1 for value in values]].sum())
            self.given += int(held[[value in usual_given() for value in values]].sum())
        if self.dates is not None:
            self.dates.add(values, held)

    def kinds(self) -> dict[str, int]:
        """Return records by kind: plain, repaired, missing, placeholder, invalid."""
        made = dict.fromkeys(("plain", "repaired", "missing", "placeholder", "invalid"), 0)
        for why, count in self.why.items():
            made[why.partition(":")[0] or "plain"] += count
        return made

    def told_why(self) -> dict[str, int]:
        """
        Return records by why-text as it may be told: fewer than ten people of another sex are
        not told from those whose sex is unknown, for that is a value of theirs.
        """
        made = dict(self.why)
        if small(made.get(whys.OTHER_SEX, 0)):
            both = made.pop(whys.OTHER_SEX) + made.pop(whys.UNKNOWN_SEX, 0)
            made[OTHER_OR_UNKNOWN] = both
        return made

    @property
    def present(self) -> int:
        """Records that have a value."""
        kinds = self.kinds()
        return kinds["plain"] + kinds["repaired"]

    def summary(self) -> tuple[CountSummary, tuple[CommonValue, ...]]:
        """Return the exact counts, and the commonest values that may be shown, commonest first."""
        texts = self._common.showable() if self._common else []
        summary = self.counts.summary(self._hashing.of(texts))
        ranked = sorted(
            zip(texts, summary.looked_up.tolist(), strict=True), key=lambda one: (-one[1], one[0])
        )
        shown = tuple(CommonValue(text, count) for text, count in ranked[:SHOWN_VALUES])
        return summary, shown


class SourceTally:
    """
    A whole source. empty: records without any value. same_name: records whose first and last name
    are equal. record_ids: of all records. copies: of records with a value, over all fields.
    """

    def __init__(self, fields: Sequence[str], hashing: Hashing) -> None:
        self.records = self.empty = self.same_name = 0
        self.fields = {name: FieldTally(name, hashing) for name in fields}
        self.record_ids, self.copies = ValueCounts(), ValueCounts()
        self._hashing = hashing

    def add(self, record_ids: pa.StringArray, columns: Mapping[str, Normalised]) -> None:
        """Add a batch of N records: their ids, and by field what the Normaliser made of it."""
        if not len(record_ids):
            return
        self.records += len(record_ids)
        _count_hashes(self.record_ids, self._hashing.of(record_ids.to_pylist()))
        by_value = {name: one.hashes(columns[name].column) for name, one in self.fields.items()}
        by_field = {name: made[columns[name].column.codes] for name, made in by_value.items()}
        filled = np.any(np.stack([hashes != 0 for hashes in by_field.values()]), axis=0)
        records = mixed(list(by_field.values()))
        self.empty += int((~filled).sum())
        _count_hashes(self.copies, records[filled])
        if {"first_name", "last_name"} <= set(by_field):
            first, last = by_field["first_name"], by_field["last_name"]
            self.same_name += int(((first == last) & (first != 0)).sum())
        for name, one in self.fields.items():
            one.add(columns[name], by_value[name], records)

    def close(self) -> None:
        """Drop temporary files."""
        for counts in (self.record_ids, self.copies, *(f.counts for f in self.fields.values())):
            counts.close()


def _count_into(into: Counter[str], column: Coded) -> None:
    counts: npt.NDArray[np.int64] = np.bincount(column.codes, minlength=len(column.values))
    for value, count in zip(column.values, counts.tolist(), strict=True):
        if count:
            into[value] += count


def _count_hashes(into: ValueCounts, hashes: Hashes) -> None:
    different, counts = np.unique(hashes, return_counts=True)
    into.add(different, counts)
