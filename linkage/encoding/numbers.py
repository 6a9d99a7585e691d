"""
Normalisation of numbers: Social Security number and ZIP code.

Each may be known in part: the last four digits of an SSN, the first three of a ZIP (HIPAA Safe
Harbor). A part is kept as it is, and only the transforms that it can answer give it.
"""

from __future__ import annotations

import re

from linkage.encoding import whys
from linkage.encoding.rules import Found, null

LOOKALIKE_DIGITS = str.maketrans("oOlI|izZsSGB", "001111225568")

_SSN = re.compile(r"([0-9]{3})[ .-]?([0-9]{2})[ .-]?([0-9]{4})")
_LAST_FOUR = re.compile(r"(?:[xX*#?_•●]{3}[ .-]?[xX*#?_•●]{2}[ .-]?)?([0-9]{4})")
_SEPARATORS = re.compile(r"[\s.-]")
_SSN_SAMPLES = frozenset(
    {"123456789", "987654321", "012345678", "078051120", "219099999", "123121234", "111223333",
     "123456780", "111111112", "999999998"}
    | {digit * 9 for digit in "0123456789"}
)  # fmt: skip
"""078-05-1120 and 219-09-9999 were printed on sample cards (SSA, ssa.gov/history/ssn)."""

_ZIP = re.compile(r"([0-9]{5})(?:[ -]?[0-9]{4}|-)?")
_SHORT_ZIP = re.compile(r"([0-9]{4})(?:-?[0-9]{4})?")
_THREE = re.compile(r"([0-9]{3})(?:[xX*#]{2})?")
_ZIP_SAMPLES = frozenset({"00000", "11111", "12345", "99999"})


def ssn(text: str) -> Found:
    """
    Normalise an SSN: nine digits, or the last four.

    Areas 000 and 666, group 00 and serial 0000 were never issued (SSA POMS RM 10201.035); 9xx
    are kept, for they are taxpayer numbers (ITIN, IRS), which name a person as well.
    """
    if full := _SSN.fullmatch(text):
        return _nine("".join(full.groups()), "")
    if part := _LAST_FOUR.fullmatch(text):
        return _four(part[1])
    return _nine(_SEPARATORS.sub("", text).translate(LOOKALIKE_DIGITS), whys.DIGITS_READ)


def ssn_of_number(text: str) -> Found:
    """Normalise an SSN from a column of numbers, which has lost its leading zeros."""
    if not (text.isascii() and text.isdigit()):
        return ssn(text)
    if len(text) <= 4:
        return _four(text.zfill(4))
    value, why = ssn(text.zfill(9))
    return value, why or (whys.ZERO_RESTORED if len(text) < 9 else "")


def zip_code(text: str) -> Found:
    """Normalise a ZIP code: five digits, also of ZIP+4, or the first three."""
    if full := _ZIP.fullmatch(text):
        return null(whys.SAMPLE_NUMBER) if full[1] in _ZIP_SAMPLES else (full[1], "")
    if short := _SHORT_ZIP.fullmatch(text):
        value, why = zip_code("0" + short[1])  # as spreadsheets lose it
        return value, why or whys.ZERO_RESTORED
    if part := _THREE.fullmatch(text):
        # Safe Harbor writes 000 for areas of 20,000 people or fewer (45 CFR 164.514(b)).
        return null(whys.WITHHELD) if part[1] == "000" else (part[1], whys.THREE_DIGITS)
    return null(whys.NOT_A_ZIP)


def zip_of_number(text: str) -> Found:
    """Normalise a ZIP code from a column of numbers: 501 is 00501, never a part."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        return zip_code(text)
    value, why = zip_code(text.zfill(5 if len(text) <= 5 else 9))
    return value, why or (whys.ZERO_RESTORED if len(text) not in (5, 9) else "")


def _nine(digits: str, why: str) -> Found:
    if not (len(digits) == 9 and digits.isascii() and digits.isdigit()):
        return null(whys.NOT_AN_SSN)
    if digits in _SSN_SAMPLES:
        return null(whys.ONE_CHARACTER if len(set(digits)) == 1 else whys.SAMPLE_NUMBER)
    if digits.startswith("00000"):  # zeros as a mask
        return _four(digits[5:])
    if digits[:3] in ("000", "666") or digits[3:5] == "00" or digits[5:] == "0000":
        return null(whys.NEVER_ISSUED)
    return digits, why


def _four(digits: str) -> Found:
    return null(whys.NEVER_ISSUED) if digits == "0000" else (digits, whys.LAST_FOUR)
