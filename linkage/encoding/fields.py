"""
Normalisation rules by field, and the transforms of match-key rules and CLKs.

    values, reasons = normalise("last_name", column, date_format=None)
    sounds = apply("last_name:sound", values)

A value that cannot identify anybody becomes "" with a reason, never a key of an empty string:
    missing       nothing there
    placeholder   stands for "not known": "unknown", "baby boy", 01/01/1900, 999-99-9999
    invalid       cannot be a value of its field, even after the repairs below
The rules, with examples, are the table in docs/formats-encoding.md; a change to any of them
is a new NORMALISATION_VERSION, which is in the schema hash.
"""

from __future__ import annotations

import datetime as dt
import math
import numbers
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import jellyfish

from linkage.encoding import dates, names, streets
from linkage.encoding.rules import INVALID, MISSING, PLACEHOLDER, Rule, null, said_missing, word_set
from linkage.errors import EncodingRefused
from linkage.schema import NORMALISATION_VERSION as NORMALISATION_VERSION
from linkage.study import parse_field

REASONS: Final = (MISSING, PLACEHOLDER, INVALID)

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

_LOOKALIKE_DIGITS = str.maketrans("oOlI|izZsSGB", "001111225568")
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_EMAIL_LOCAL = word_set("none na n/a no noemail no-email unknown test declined refused nomail")
_EMAIL_DOMAIN = word_set("example.com example.org example.net none.com noemail.com")
_EXTENSION = re.compile(r"\s*(x|ext\.?|extension|#)\s*\d+\s*$", re.IGNORECASE)


def normalise(
    field: str,
    values: Iterable[object],
    *,
    date_format: str | None,
    today: dt.date | None = None,
) -> tuple[list[str], list[str]]:
    """
    Return N normalised values ("" where null) and N reasons ("" where there is a value).

    values: text, or what pandas, Arrow and OMOP give: None, NaN, numbers, dates.
    date_format: strptime format of date_of_birth as text, None for ISO %Y-%m-%d; of no concern
    to other fields. today: a later birth date is invalid; None does not ask.

    Each different value is worked out once. Raises EncodingRefused for an unknown field, and
    for a date format that most dates do not fit.
    """
    rule = _rule(field, date_format, today)
    known: dict[object, tuple[str, str]] = {}
    found: list[tuple[str, str]] = []
    given = list(values)
    for value in given:
        # 1 == 1.0 == True in a dict; their text differs, so their type is part of the key.
        cached = value if type(value) is str else (type(value), value)
        if (pair := known.get(cached)) is None:
            pair = known[cached] = _one(rule, value)
        found.append(pair)
    if isinstance(rule, dates.DateRule):
        rule.require_fit(given, found)
    return [value for value, _ in found], [reason for _, reason in found]


def apply(field_ref: str, values: Sequence[str]) -> list[str]:
    """
    Return N values of `field` or `field:transform`, "" where `values` is or has no such part.

    values: N normalised values of the field. Raises EncodingRefused for an unknown reference.
    """
    try:
        _, transform = parse_field(field_ref)
    except ValueError as fault:
        raise EncodingRefused(
            f"{field_ref!r} {fault}", hint="see linkage.study.TRANSFORMS"
        ) from None
    if not transform:
        return list(values)
    if transform.isdigit():
        size = int(transform)
        return [value[:size] for value in values]
    change = _TRANSFORMS[transform]
    known = {value: change(value) if value else "" for value in set(values)}
    return [known[value] for value in values]


def require_normalised(field: str, values: Sequence[str]) -> None:
    """Raise EncodingRefused unless every value has the shape that `normalise` gives."""
    fits = _SHAPES[field].fullmatch
    for row, value in enumerate(values):
        if type(value) is not str or (value and not fits(value)):
            raise EncodingRefused(
                f"row {row + 1} of column {field!r} is not normalised",
                hint="pass columns through linkage.encoding.fields.normalise first",
            )


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
