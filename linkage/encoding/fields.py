"""
Normalisation rules by field, and the transforms of match-key rules and CLKs.

    normaliser = Normaliser("last_name", Reading())
    found = normaliser.column(batch)             # found.column: values, found.why: reasons
    sounds = apply("last_name:sound", found.column)

A value that cannot identify anybody becomes "" with a reason, never a key of an empty string:
    missing       nothing there
    placeholder   stands for "not known": "unknown", "baby boy", 01/01/1900, 999-99-9999
    invalid       cannot be a value of its field, even after the repairs below
The rules, with examples, are the tables in docs/normalisation.md; a change to any of them
is a new NORMALISATION_VERSION, which is in the schema hash.
"""

from __future__ import annotations

import datetime as dt
import math
import numbers
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import jellyfish
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.encoding import dates, names, streets
from linkage.encoding.columns import Coded
from linkage.encoding.rules import INVALID, MISSING, PLACEHOLDER, Rule, null, said_missing, word_set
from linkage.errors import EncodingRefused
from linkage.schema import NORMALISATION_VERSION as NORMALISATION_VERSION
from linkage.study import parse_field

REASONS: Final = (MISSING, PLACEHOLDER, INVALID)
REMEMBERED = 200_000
"""Different values that a Normaliser keeps over its batches, at most."""

_SEX = {
    "m": "m", "male": "m", "man": "m", "8507": "m",
    "f": "f", "female": "f", "woman": "f", "8532": "f",
}  # fmt: skip
_SEX_UNKNOWN = word_set(
    "o other u unknown unk un x a ambiguous undifferentiated i intersex nonbinary 0 8521 8551 8570"
)
"""HL7, DICOM and OMOP codes for neither m nor f: told as such, compared as missing."""

_SSN_PLACEHOLDERS = frozenset(
    {"123456789", "987654321", "012345678", "078051120", "219099999", "123121234"}
    | {digit * 9 for digit in "0123456789"}
)
"""078-05-1120 and 219-09-9999 were printed on sample cards (SSA, ssa.gov/history/ssn)."""

_LONG = {
    PLACEHOLDER: "placeholder: stands for not known",
    INVALID: "invalid: no value of its field",
}
_LOOKALIKE_DIGITS = str.maketrans("oOlI|izZsSGB", "001111225568")
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_EMAIL_LOCAL = word_set("none na n/a no noemail no-email unknown test declined refused nomail")
_EMAIL_DOMAIN = word_set("example.com example.org example.net none.com noemail.com")
_EXTENSION = re.compile(r"\s*(x|ext\.?|extension|#)\s*\d+\s*$", re.IGNORECASE)


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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Normalised:
    """
    A normalised column of N records, and why each value is what it is.

    column: "" where null. why: of a fixed list of texts, "" for a plain value; the kind is the
    text before ":". A value is "" where the kind is missing, placeholder or invalid, only there.
    """

    column: Coded
    why: Coded


class Normaliser:
    """
    The rule of one field for one source. Each different value is worked out once, and up to
    REMEMBERED of them are kept from batch to batch.

    Raises EncodingRefused for an unknown field, and for a date format that cannot serve.
    """

    def __init__(self, field: str, reading: Reading = Reading()) -> None:
        self.field = field
        self._rule = _rule(field, reading.date_format, reading.today)
        self._known: dict[object, tuple[str, str]] = {}

    def column(self, values: pa.Array | Sequence[object]) -> Normalised:
        """
        Normalise N values: text, or what frames and Arrow give (None, NaN, numbers, dates).
        """
        codes, different = _different(values)
        found = [self._found(value) for value in different]
        column, why = (Coded.of([pair[part] for pair in found]) for part in (0, 1))
        return Normalised(
            Coded(column.codes[codes], column.values), Coded(why.codes[codes], why.values)
        )

    def _found(self, value: object) -> tuple[str, str]:
        # 1 == 1.0 == True in a dict; their text differs, so their type is part of the key.
        cached = value if type(value) is str else (type(value), value)
        if (pair := self._known.get(cached)) is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            made, why = _one(self._rule, value)
            pair = self._known[cached] = made, _LONG.get(why, why)
        return pair


def _different(values: pa.Array | Sequence[object]) -> tuple[npt.NDArray[np.int64], list[object]]:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        different = [*coded.dictionary.to_pylist(), None]
        codes = coded.indices.fill_null(len(different) - 1).to_numpy(zero_copy_only=False)
        return codes, different
    number: dict[object, int] = {}
    different: list[object] = []
    codes = np.empty(len(values), np.int64)
    for row, value in enumerate(values):
        key = value if type(value) is str else (type(value), value)
        code = number.setdefault(key, len(different))
        if code == len(different):
            different.append(value)
        codes[row] = code
    return codes, different


def require_fit(field: str, tally: Mapping[str, int], reading: Reading) -> None:
    """
    Raise EncodingRefused where a source's dates plainly do not fit its date format.

    tally: number of records by `why` over the whole source, "" included.
    """
    if field == "date_of_birth":
        dates.require_fit(tally, reading.date_format or "%Y-%m-%d")


def apply(field_ref: str, column: Coded) -> Coded:
    """
    Return `field` or `field:transform` of N values, "" where a value is or has no such part.

    column: normalised values of the field. Raises EncodingRefused for an unknown reference.
    """
    try:
        _, transform = parse_field(field_ref)
    except ValueError as fault:
        raise EncodingRefused(
            f"{field_ref!r} {fault}", hint="see linkage.study.TRANSFORMS"
        ) from None
    if not transform:
        return column
    if transform.isdigit():
        size = int(transform)
        return column.changed(lambda value: value[:size])
    return column.changed(_TRANSFORMS[transform])


def require_normalised(field: str, column: Coded) -> None:
    """Raise EncodingRefused unless every value has the shape that a Normaliser gives."""
    fits = _SHAPES[field].fullmatch
    for value in column.values:
        if type(value) is not str or (value and not fits(value)):
            raise EncodingRefused(
                f"column {field!r} is not normalised",
                hint="pass columns through linkage.encoding.fields.Normaliser first",
            )


def normalise(
    field: str, values: Sequence[object], *, date_format: str | None, today: dt.date | None = None
) -> tuple[list[str], list[str]]:
    """Return N normalised values and N reasons. Goes when its last caller has."""
    reading = Reading(date_format=date_format, today=today)
    found = Normaliser(field, reading).column(list(values))
    why = found.why.texts()
    require_fit(field, Counter(why), reading)
    return found.column.texts(), [
        "" if one.startswith("repaired") else one.partition(":")[0] for one in why
    ]


def text_of(value: object) -> str:
    """
    Return a cell as text without outer blanks; "" for None, NaN and NaT.

    A whole float loses its ".0": pandas makes 2139.0 of a column with gaps.
    """
    if isinstance(value, str):
        return value.strip()
    if value is None or str(value) in ("nan", "NaT", "<NA>"):
        return ""
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        number = float(value)
        return str(int(number)) if math.isfinite(number) and number.is_integer() else str(value)
    return str(value).strip()


def _one(rule: Rule, value: object) -> tuple[str, str]:
    text = text_of(value)
    if not text:
        return null(MISSING)
    if said_missing(text):
        return null(PLACEHOLDER)
    if isinstance(value, dt.date) and isinstance(rule, dates.DateRule):
        return rule.of_date(value)
    if isinstance(value, numbers.Number) and rule in (_ssn, _zip_code):
        text = text.zfill(9 if rule is _ssn else 5)  # a number has lost its leading zeros
    return rule(text)


def _sex(text: str) -> tuple[str, str]:
    code = text.casefold().rstrip(".")
    if code in _SEX:
        return _SEX[code], ""
    return null(PLACEHOLDER if code.replace("-", "") in _SEX_UNKNOWN else INVALID)


def _ssn(text: str) -> tuple[str, str]:
    """
    Nine digits. Areas 000 and 666, group 00 and serial 0000 were never issued (SSA); 9xx are
    kept, for they are taxpayer numbers (ITIN), which name a person as well.
    """
    digits = re.sub(r"[\s.-]", "", text).translate(_LOOKALIKE_DIGITS)
    if not (len(digits) == 9 and digits.isascii() and digits.isdigit()):
        return null(INVALID)
    if digits in _SSN_PLACEHOLDERS:
        return null(PLACEHOLDER)
    if digits[:3] in ("000", "666") or digits[3:5] == "00" or digits[5:] == "0000":
        return null(INVALID)
    return digits, ""


def _zip_code(text: str) -> tuple[str, str]:
    """Five digits of ZIP or ZIP+4. Four digits have lost a leading zero, as spreadsheets do."""
    digits = re.sub(r"[\s-]", "", text)
    if not (digits.isascii() and digits.isdigit() and len(digits) in (4, 5, 8, 9)):
        return null(INVALID)
    if len(digits) in (4, 8):
        digits = "0" + digits
    if digits[:5] in ("00000", "11111", "99999"):
        return null(PLACEHOLDER)
    return digits[:5], ""


def _phone(text: str) -> tuple[str, str]:
    """The last ten digits, without country code and extension; seven of a local number."""
    digits = re.sub(r"\D", "", _EXTENSION.sub("", text), flags=re.ASCII)
    if not digits.isascii() or not (len(digits) == 7 or 10 <= len(digits) <= 15):
        return null(INVALID)
    digits = digits[-10:]
    if len(set(digits)) == 1 or digits in ("1234567890", "1234567", "0123456789"):
        return null(PLACEHOLDER)
    if digits[-7:] in ("5551212", "0000000", "9999999"):
        return null(PLACEHOLDER)
    return digits, ""


def _email(text: str) -> tuple[str, str]:
    address = text.casefold().removeprefix("mailto:").strip("<>;, ")
    local, _, domain = address.partition("@")
    if local in _EMAIL_LOCAL or domain in _EMAIL_DOMAIN:
        return null(PLACEHOLDER)
    return (address, "") if _EMAIL.fullmatch(address) else null(INVALID)


def _rule(field: str, date_format: str | None, today: dt.date | None) -> Rule:
    if field == "date_of_birth":
        return dates.DateRule(date_format or "%Y-%m-%d", today, _LOOKALIKE_DIGITS)
    if field not in _RULES:
        known = ", ".join([*_RULES, "date_of_birth"])
        raise EncodingRefused(f"there is no field {field!r}", hint=f"known fields: {known}")
    return _RULES[field]


_RULES: dict[str, Rule] = {
    "first_name": names.first_name,
    "middle_name": names.middle_name,
    "last_name": names.last_name,
    "sex": _sex,
    "ssn": _ssn,
    "zip": _zip_code,
    "phone": _phone,
    "email": _email,
    "street": streets.street,
}

_TRANSFORMS: dict[str, Callable[[str], str]] = {
    "initial": lambda value: value[0],
    "sound": jellyfish.soundex,
    "year": lambda value: value[:4],
    "month": lambda value: value[4:6],
    "day": lambda value: value[6:8],
    "year_month": lambda value: value[:6],
    "month_day": lambda value: value[4:8],
    "first5": lambda value: value[:5],
    "last4": lambda value: value[-4:],
    "last7": lambda value: value[-7:],
    "house_number": streets.house_number,
    "street_name": streets.street_name,
}

_NAME = re.compile(r"[a-z]+")
_SHAPES = {
    "first_name": _NAME,
    "middle_name": _NAME,
    "last_name": _NAME,
    "date_of_birth": re.compile(r"[0-9]{8}"),
    "sex": re.compile(r"[fm]"),
    "ssn": re.compile(r"[0-9]{9}"),
    "zip": re.compile(r"[0-9]{5}"),
    "phone": re.compile(r"[0-9]{7}|[0-9]{10}"),
    "email": _EMAIL,
    "street": re.compile(r"[a-z0-9]+( [a-z0-9]+)*"),
}
