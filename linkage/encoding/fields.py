"""
Normalisation by field: what a source holds becomes one form, or null with a reason.

    normaliser = Normaliser("last_name", Reading())
    found = normaliser.column(batch)             # found.column: values, found.why: reasons
    sounds = apply("last_name:sound", found.column)

A value that cannot identify anybody becomes "" with a reason, never a key of an empty string:
    missing       nothing there
    placeholder   stands for "not known": "unknown", "baby boy", 01/01/1900, 999-99-9999
    invalid       cannot be a value of its field, even after the repairs
A repaired value is kept, and counted as such. Every reason is a text of linkage.encoding.whys.
The rules, with examples, are docs/normalisation.md; a change to any of them is a new
NORMALISATION_VERSION, which is in the schema hash.
"""

from __future__ import annotations

import datetime as dt
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from linkage.encoding import date_fit, dates, emails, names, phones, sexes, streets, whys
from linkage.encoding import numbers as codes
from linkage.encoding.columns import Coded
from linkage.encoding.rules import LONGEST, Found, Rule, clean, null, said_missing
from linkage.encoding.rules import text_of as text_of
from linkage.encoding.transforms import apply as apply
from linkage.errors import EncodingRefused
from linkage.schema import NORMALISATION_VERSION as NORMALISATION_VERSION
from linkage.study import FIELDS

if TYPE_CHECKING:
    from linkage.encoding.plain_cells import Plain

REMEMBERED = 200_000
"""Different values that a Normaliser keeps over its batches, at most."""

_SHARED = frozenset({"first_name", "middle_name", "last_name", "date_of_birth", "sex", "zip"})
"""Fields whose values people share, so that remembering them over batches pays."""


@dataclass(frozen=True, slots=True)
class Reading:
    """
    How a source writes its values.

    date_format: strptime format of dates of birth as text, None for ISO %Y-%m-%d.
    two_digit_years_until: the last year that a year of two digits can mean (2026: 26 is 2026,
    27 is 1927); None refuses such years. phone_region: country of numbers without country code
    (ISO 3166). today: a later birth date is invalid; None does not ask.
    """

    date_format: str | None = None
    two_digit_years_until: int | None = None
    phone_region: str = "US"
    today: dt.date | None = None


_ISO_HERE = Reading()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Normalised:
    """
    A normalised column of N records, and why each value is what it is.

    column: "" where null. why: texts of linkage.encoding.whys.WHYS, "" for a plain value; the
    kind is the text before ":". A value is "" where the kind is missing, placeholder or invalid,
    and only there.
    """

    column: Coded
    why: Coded


class Normaliser:
    """
    The rule of one field for one source.

    Each different value of a batch is worked out once; of fields that people share, up to
    REMEMBERED values are kept from batch to batch. Raises EncodingRefused for an unknown field, a
    date format that cannot serve, and an unknown telephone region.
    """

    def __init__(self, field: str, reading: Reading = _ISO_HERE) -> None:
        if field not in FIELDS:
            known = ", ".join(FIELDS)
            raise EncodingRefused(f"there is no field {field!r}", hint=f"known fields: {known}")
        self.field = field
        self._rule, self._of_number = _rule(field, reading)
        self._dates = self._rule if isinstance(self._rule, dates.DateRule) else None
        self._quick = _quick(field, self._rule)
        self._plain = _plain(field, self._rule)
        self._known: dict[object, Found] = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a normaliser refuses pickling: it remembers identifiers")

    def column(self, values: pa.Array | pa.ChunkedArray | Sequence[object]) -> Normalised:
        """
        Normalise N values: text, or what frames and Arrow give (None, NaN, numbers, dates).

        Raises EncodingRefused for a text column that is not UTF-8.
        """
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if self._plain and isinstance(values, pa.StringArray) and len(values):
            return self._of_cells(self._plain, values)
        rows, different = _different(values, self.field)
        found = self._each(different)
        texts, whys = zip(*found, strict=True) if found else ((), ())
        return Normalised(_coded(rows, texts), _coded(rows, whys))

    def _of_cells(self, plain: Plain, values: pa.StringArray) -> Normalised:
        """Normalise cells of text: plain ones all at once, only the others one by one."""
        coded = values.dictionary_encode()
        different = coded.dictionary
        rows = coded.indices.fill_null(len(different)).to_numpy()
        if coded.indices.null_count:
            different = pa.concat_arrays([different, pa.array([""], pa.string())])
        texts, found = plain(different)
        why = Coded(np.zeros(len(rows), np.int32), [""])
        if not found.all():
            bits = pa.py_buffer(np.packbits(~found, bitorder="little"))
            others = pa.Array.from_buffers(pa.bool_(), len(found), [None, bits])
            rest = self._each(_listed(different.filter(others), self.field))
            texts = pc.replace_with_mask(texts, others, pa.array([t for t, _ in rest], pa.string()))
            whys = Coded.of(["", *(one for _, one in rest)])
            codes = np.zeros(len(found), np.int32)
            codes[~found] = whys.codes[1:]
            why = Coded(codes[rows], whys.values)
        column = texts.dictionary_encode()
        return Normalised(Coded(column.indices.to_numpy()[rows], array=column.dictionary), why)

    def _each(self, different: list[object]) -> list[Found]:
        if self.field in _SHARED:
            return self._remembered(different)
        return [self._worked_out(value) for value in different]

    def _remembered(self, different: list[object]) -> list[Found]:
        known = self._known
        if len(known) + len(different) > REMEMBERED:
            known.clear()
        learnt = self._learnt
        return [known.get(value) or learnt(value) for value in different]

    def _learnt(self, value: object) -> Found:
        one = self._known[value] = self._worked_out(value)
        return one

    def _worked_out(self, value: object) -> Found:
        if type(value) is str:
            if quick := self._quick(value):
                return quick, ""
            return self._of_text(value, self._rule)
        return self._of_other(value[1] if isinstance(value, tuple) else value)

    def _of_other(self, value: object) -> Found:
        if self._dates is not None and isinstance(value, dt.date) and value == value:
            return self._dates.of_date(value)
        number = isinstance(value, numbers.Number)
        return self._of_text(text_of(value), self._of_number if number else self._rule)

    def _of_text(self, raw: str, rule: Rule) -> Found:
        text, repaired = raw.strip(), ""
        if len(text) > LONGEST:
            return null(whys.TOO_LONG)
        if not (text.isascii() and text.isprintable()):
            text, repaired = clean(text)
            if len(text) > LONGEST:
                return null(whys.TOO_LONG)
        if not text:
            return null(whys.MISSING)
        if said_missing(text) and self.field != "sex":
            return null(whys.NOT_KNOWN)
        if not text[0].isalnum() and not any(map(str.isalnum, text)):
            return null(whys.PUNCTUATION)
        found = rule(text)
        return (found[0], found[1] or repaired) if repaired else found


def require_fit(field: str, tally: Mapping[str, int], reading: Reading) -> None:
    """
    Raise EncodingRefused where a source's dates plainly do not fit its date format.

    tally: number of records by why-text over the whole source, "" included.
    """
    if field == "date_of_birth":
        date_fit.require_fit(tally, reading.date_format)


def require_normalised(field: str, column: Coded) -> None:
    """Raise EncodingRefused unless every value has the shape that a Normaliser gives."""
    fits = _SHAPES[field].fullmatch
    for value in column.values:
        if type(value) is not str or (value and not fits(value)):
            raise EncodingRefused(
                f"column {field!r} is not normalised",
                hint="pass columns through linkage.encoding.fields.Normaliser first",
            )


def _different(
    values: pa.Array | pa.ChunkedArray | Sequence[object], field: str
) -> tuple[npt.NDArray[np.int64], list[object]]:
    """Return int64[N] and the different values that it counts: text as it is, others tagged."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pa.Array):
        return _different_objects(values)
    coded = values
    if not pa.types.is_dictionary(values.type):
        try:
            coded = values.dictionary_encode()
        except pa.ArrowNotImplementedError:  # lists and structs are no values of a field
            return _different_objects(values.to_pylist())
    different = _listed(coded.dictionary, field)
    rows = coded.indices.fill_null(len(different)).to_numpy(zero_copy_only=False)
    tagged = [one if type(one) is str else _tagged(one) for one in [*different, None]]
    return rows.astype(np.int64, copy=False), tagged


def _listed(different: pa.Array, field: str) -> list[object]:
    try:
        listed: list[object] = different.to_pylist()
    except UnicodeDecodeError:  # its text holds the value
        raise EncodingRefused(
            f"column {field!r} is not UTF-8", hint="name the encoding of the source"
        ) from None
    return listed


def _different_objects(values: Sequence[object]) -> tuple[npt.NDArray[np.int64], list[object]]:
    number: dict[object, int] = {}
    rows = np.empty(len(values), np.int64)
    for row, value in enumerate(values):
        key = value if type(value) is str else _tagged(value)
        rows[row] = number.setdefault(key, len(number))
    return rows, list(number)


def _tagged(value: object) -> object:
    """Return a key of a value that is no text: 1, 1.0 and True are equal, but not in writing."""
    try:
        hash(value)
    except TypeError:
        return type(value), str(value)
    return type(value), value


def _coded(rows: npt.NDArray[np.int64], texts: Sequence[str]) -> Coded:
    if not any(texts):
        return Coded(np.zeros(len(rows), np.int32), [""])
    column = Coded.of(texts)
    known = column.array
    if known is None:
        return Coded(column.codes[rows], column.values)
    return Coded(column.codes[rows], array=known)


def _quick(field: str, rule: Rule) -> Callable[[str], str]:
    """
    Return what gives the value of a cell as it is read, if it is plain, else "": most cells are,
    and cleaning them and asking all that a rule asks takes several times as long.
    """
    if isinstance(rule, dates.DateRule | streets.StreetRule):
        return rule.quick
    return names.quick if field in ("first_name", "last_name") else lambda raw: ""


def _plain(field: str, rule: Rule) -> Plain | None:
    """Return what does for a whole column what `_quick` does for a cell, where there is such."""
    # Only who normalises loads what compiles loops; others need the rules' names and readings.
    from linkage.encoding.plain_cells import plain_dates, plain_names, plain_streets

    if isinstance(rule, dates.DateRule):
        return plain_dates(rule)
    if isinstance(rule, streets.StreetRule):
        return plain_streets(rule)
    return plain_names(names.NOT_PLAIN) if field in ("first_name", "last_name") else None


def _rule(field: str, reading: Reading) -> tuple[Rule, Rule]:
    """Return the rule of text and the rule of columns of numbers, which lose leading zeros."""
    if field == "date_of_birth":
        rule = dates.DateRule(reading.date_format, reading.two_digit_years_until, reading.today)
        return rule, rule.of_number
    if field == "phone":
        made: Rule = phones.PhoneRule(reading.phone_region)
        return made, made
    if field == "street":
        made = streets.StreetRule()
        return made, made
    return _RULES[field], _OF_NUMBERS.get(field, _RULES[field])


_RULES: dict[str, Rule] = {
    "first_name": names.first_name,
    "middle_name": names.middle_name,
    "last_name": names.last_name,
    "sex": sexes.sex,
    "ssn": codes.ssn,
    "zip": codes.zip_code,
    "email": emails.email,
}
_OF_NUMBERS: dict[str, Rule] = {"ssn": codes.ssn_of_number, "zip": codes.zip_of_number}

_NAME = re.compile(r"[a-z]+")
_SHAPES = {
    "first_name": _NAME,
    "middle_name": _NAME,
    "last_name": re.compile(r"[a-z]+(?:-[a-z]+)*"),
    "date_of_birth": re.compile(r"[0-9]{8}"),
    "sex": re.compile(r"[fm]"),
    "ssn": re.compile(r"[0-9]{9}|[0-9]{4}"),
    "zip": re.compile(r"[0-9]{5}|[0-9]{3}"),
    "phone": re.compile(r"[0-9]{7,15}"),
    "email": emails.SHAPE,
    "street": re.compile(r"[a-z0-9]+(?: [a-z0-9]+)*"),
}
