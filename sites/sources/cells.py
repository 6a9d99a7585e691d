"""
Typed columns of a table, made ready: what every source with columns shares.

Types are kept (dates, numbers, text); what no identifier can be (lists, bytes) is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from linkage.errors import SourceRefused
from sites.sources.base import BadRow, RawBatch
from sites.sources.columns import RECORD_ID

NO_ID = ("has no record id", "give it one at the source")
_LAST_DAY = 2_932_896  # 9999-12-31, in days since 1970: no later day is a date in Python
_FIRST_DAY = -719_162  # 0001-01-01


def made_ready(source: str, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Return columns as a `RawBatch` holds them, record ids as text. Raises SourceRefused."""
    return {
        name: ids_of(source, column) if name == RECORD_ID else values_of(source, name, column)
        for name, column in columns.items()
    }


def values_of(source: str, name: str, column: pa.Array) -> pa.Array:
    """Return a column of identifiers: text without outer blanks, numbers, dates, or null."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if _is_text(kind):
        return _text(source, name, column)
    if pa.types.is_timestamp(kind):
        # The day as the clock there showed it, not as that moment is called in Greenwich.
        local = pc.local_timestamp(column) if kind.tz else column
        return _real_days(local.cast(pa.timestamp("s"), safe=False).cast(pa.date32(), safe=False))
    if pa.types.is_date(kind):
        return _real_days(column.cast(pa.date32()))
    if _is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column
    raise _wrong_type(source, name, kind)


def ids_of(source: str, column: pa.Array) -> pa.StringArray:
    """Return record ids as text; "" where there is none. Raises SourceRefused for other types."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        try:
            column = column.cast(pa.int64())  # a table with gaps makes 12.0 of 12
        except pa.ArrowInvalid:
            rule = "holds numbers that are not whole as record ids"
            raise SourceRefused(file=source, rule=rule, hint="write record ids as text") from None
    elif not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise _wrong_type(source, RECORD_ID, kind)
    return _text(source, RECORD_ID, pc.fill_null(column.cast(pa.string()), ""))


def batch_of(
    columns: dict[str, pa.Array],
    numbers: npt.NDArray[np.int64],
    *,
    bad: Sequence[BadRow] = (),
    done: int = 0,
    total: int = 0,
) -> RawBatch:
    """Make a batch of ready columns, without the records that have no record id."""
    ids = columns[RECORD_ID]
    left_out = list(bad)
    nameless = pc.equal(ids, "")
    if pc.any(nameless).as_py():
        gone = nameless.to_numpy(zero_copy_only=False)
        left_out += [BadRow(int(n), RECORD_ID, *NO_ID) for n in numbers[gone]]
        columns = {name: column.filter(pc.invert(nameless)) for name, column in columns.items()}
        numbers = numbers[~gone]
    return RawBatch(
        record_ids=columns[RECORD_ID],
        columns={name: column for name, column in columns.items() if name != RECORD_ID},
        numbers=numbers,
        bad=sorted(left_out, key=lambda one: one.number),
        done=done,
        total=total,
    )


def array_of(source: str, name: str, values: Sequence[Any]) -> pa.Array:
    """Make a column of what a database driver gives. Raises SourceRefused for bytes and lists."""
    try:
        return pa.array([_plain(value) for value in values])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        pass
    # Numbers and text in one column, as SQLite allows.
    if any(isinstance(value, bytes | bytearray | memoryview | list | dict) for value in values):
        raise _wrong_type(source, name, "bytes or lists")
    return pa.array([None if v is None else str(_plain(v)) for v in values], pa.string())


def _text(source: str, name: str, column: pa.Array) -> pa.StringArray:
    try:
        text = column.cast(pa.string())
        text.validate(full=True)
    except pa.ArrowInvalid:
        raise SourceRefused(
            file=source,
            rule=f"its column for {name} holds text that is not UTF-8",
            hint="export it again as UTF-8",
        ) from None
    return pc.utf8_trim_whitespace(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return str(value) if isinstance(value, UUID) else value


def _real_days(days: pa.Array) -> pa.Array:
    """Null days that no calendar of ours has; Arrow could not even show them."""
    number = days.cast(pa.int32())
    real = pc.and_(pc.greater_equal(number, _FIRST_DAY), pc.less_equal(number, _LAST_DAY))
    return pc.if_else(real, days, pa.scalar(None, pa.date32()))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _wrong_type(source: str, name: str, kind: object) -> SourceRefused:
    return SourceRefused(
        file=source,
        rule=f"its column for {name} holds {kind}, which is no identifier",
        hint="make it text, a number or a date, or name another column",
    )
