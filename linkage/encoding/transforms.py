"""
What match-key rules and CLKs take of a field: the field itself, or a transform of it.

    apply("last_name:sound", column)

A normalised value may hold more, or less, than the field gives. Last names keep several surnames
apart ("smith-jones"); the field joins them. A first name of one letter, the last four digits of an
SSN, a ZIP of three digits and a local telephone number are parts: the field gives "" for them,
and only the transforms that a part can answer give something.
"""

from __future__ import annotations

from collections.abc import Callable

import jellyfish
import pyarrow.compute as pc

from linkage.encoding import nicknames, streets
from linkage.encoding.columns import Coded
from linkage.errors import EncodingRefused
from linkage.study import parse_field

Change = Callable[[str], str]


def apply(field_ref: str, column: Coded) -> Coded:
    """
    Return `field` or `field:transform` of N values, "" where a value is or has no such part.

    column: normalised values of the field. Raises EncodingRefused for an unknown reference.
    """
    try:
        field, transform = parse_field(field_ref)
    except ValueError as fault:
        raise EncodingRefused(
            f"{field_ref!r} {fault}", hint="see linkage.study.TRANSFORMS"
        ) from None
    if not transform:
        return _whole(field, column)
    if transform.isdigit():
        return column.changed(_first(field, int(transform)))
    if transform in _PARTS:
        return column.cut(_PARTS[transform])
    # Only who encodes loads what compiles loops; others need the names of transforms.
    from linkage.encoding.plain_transforms import plain_change

    plain = plain_change(transform)
    made = plain(column) if plain else None
    return column.changed(_CHANGES[transform]) if made is None else made


def _whole(field: str, column: Coded) -> Coded:
    """Return what the field gives; the column itself where that is what it holds already."""
    if field == "last_name" and column.array is not None:
        if not (column.letters[0] == ord("-")).any():
            return column
        return Coded(column.codes, array=pc.replace_substring(column.array, "-", ""))
    return column.changed(_WHOLE[field]) if field in _WHOLE else column


def _first(field: str, size: int) -> Change:
    """Return the change to the first `size` characters of a field."""
    if field == "last_name":
        return lambda value: value.replace("-", "")[:size]
    if field == "zip":
        return lambda value: value[:size] if size <= len(value) or len(value) == 5 else ""
    if field == "first_name":
        return lambda value: value[:size] if len(value) > 1 or size == 1 else ""
    if whole := _WHOLE.get(field):
        return lambda value: whole(value)[:size]
    return lambda value: value[:size]


def _only(length: int) -> Change:
    return lambda value: value if len(value) == length else ""


_WHOLE: dict[str, Change] = {
    "first_name": lambda value: value if len(value) > 1 else "",
    "last_name": lambda value: value.replace("-", ""),
    "ssn": _only(9),
    "zip": _only(5),
    "phone": lambda value: value if len(value) != 7 else "",
}
"""What a field gives where that is not its normalised value."""


def _sound(value: str) -> str:
    """American Soundex of the joined name; a letter alone has no sound."""
    return jellyfish.soundex(value.replace("-", "")) if len(value) > 1 else ""


_PARTS = {
    "initial": slice(1),
    "year": slice(4),
    "month": slice(4, 6),
    "day": slice(6, 8),
    "year_month": slice(6),
    "month_day": slice(4, 8),
    "last4": slice(-4, None),
    "last7": slice(-7, None),
}

_CHANGES: dict[str, Change] = {
    "sound": _sound,
    "formal": lambda value: nicknames.formal_name(value) if len(value) > 1 else "",
    "first_surname": lambda value: value.partition("-")[0],
    "last_surname": lambda value: value.rpartition("-")[2],
    "first5": lambda value: value[:5] if len(value) == 9 else "",
    "house_number": streets.house_number,
    "street_name": streets.street_name,
}
