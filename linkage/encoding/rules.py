"""What every normalisation rule shares: its type, how a cell is cleaned, how "nothing" is said."""

from __future__ import annotations

import math
import numbers
import unicodedata
from collections.abc import Callable
from decimal import Decimal

from linkage.encoding import whys

Found = tuple[str, str]
"""A value and why: ("ann", ""), ("19710705", "repaired: ..."), ("", "invalid: ...")."""

Rule = Callable[[str], Found]
"""From cleaned text (neither empty nor overlong) to what was found."""

LONGEST = 200
"""Characters of a value, at most: no field of a person is longer, a slipped column is."""

_SAID_MISSING = frozenset(
    {"n/a", "n.a.", "#n/a", "null", "(null)", "<null>", "none", "unknown", "unk", "unkn",
     "not known", "not available", "not provided", "not given", "missing", "xxx", "xxxx",
     "declined", "refused", "withheld", "[redacted]", "redacted", "not applicable", "undefined",
     "not reported", "not recorded", "not on file", "not specified", "no information", "tbd",
     "to be determined", "pending", "(blank)", "[none]", "declined to answer"}
)  # fmt: skip

MISSING_WORDS = frozenset(word for word in _SAID_MISSING if word.isalpha()) | {"nan"}
"""What says that there is no value, as far as it is a word."""

APOSTROPHES = dict.fromkeys(
    (0x60, 0xB4, 0x2B9, 0x2BB, 0x2BC, 0x2BD, 0x2BE, 0x2BF, 0x2C8, 0x2CA, 0x2CB, 0x2018, 0x2019,
     0x201A, 0x201B, 0x2032, 0x2035, 0x55A, 0x5F3, 0xA78C, 0xFF07), "'"
)  # fmt: skip
"""Grave, acute, prime, turned and modifier apostrophes (okina, hamza), Armenian and Hebrew."""
_HYPHENS = dict.fromkeys(
    (*range(0x2010, 0x2016), 0x2043, 0x2212, 0x58A, 0x5BE, 0x1806, 0xFE58, 0xFE63, 0xFF0D), "-"
)
_QUOTES = dict.fromkeys((0x201C, 0x201D, 0x201E, 0x201F, 0xAB, 0xBB, 0x2033, 0xFF02, 0x301D), '"')
_BLANKS = dict.fromkeys((0x9, 0xA, 0xB, 0xC, 0xD, 0x85, 0x2028, 0x2029), " ")
_MARKS = {**APOSTROPHES, **_HYPHENS, **_QUOTES, **_BLANKS}

# Letters that NFKD leaves whole: Scandinavian, Polish, Icelandic, Turkish, Maltese, Sami, Azeri.
_FOLDED = {
    0xF8: "o", 0x142: "l", 0x111: "d", 0xF0: "d", 0xFE: "th", 0xE6: "ae", 0x153: "oe",
    0x131: "i", 0x14B: "n", 0x127: "h", 0x167: "t", 0x138: "k", 0x259: "e", 0x19A: "l",
    0x253: "b", 0x257: "d", 0x199: "k", 0x1B4: "y",
}  # fmt: skip


def null(why: str) -> Found:
    """Return the null of `why`."""
    return "", why


def word_set(text: str) -> frozenset[str]:
    """Return the blank-separated words of a table of words."""
    return frozenset(text.split())


def said_missing(text: str) -> bool:
    """Return whether the text says, for any field, that there is no value."""
    return text.lower() in _SAID_MISSING or text in ("nan", "NaN")  # "Nan" is a name


def clean(text: str) -> Found:
    """
    Return the text without outer blanks, in one form of each character, and what was repaired.

    All apostrophes, hyphens, quotes and blanks become the ASCII one; compatibility forms (full
    width) and digits of other scripts become plain (NFKC); marks that are not seen (direction,
    zero width) go quietly, control characters and unpaired surrogates with a remark.
    """
    if text.isascii() and text.isprintable():
        return text.strip(), ""
    plain = unicodedata.normalize("NFKC", text.translate(_MARKS)).translate(_MARKS)
    if plain.isascii() and plain.isprintable():
        return plain.strip(), ""
    kept: list[str] = []
    lost = False
    for letter in plain:
        category = unicodedata.category(letter)
        if category in ("Cc", "Cs"):
            lost = True
        elif category == "Nd":
            kept.append(str(unicodedata.digit(letter)))
        elif category not in ("Cf", "Co", "Cn"):
            kept.append(letter)
    return "".join(kept).strip(), whys.CONTROL if lost else ""


def fold(text: str) -> str:
    """Return the text case-folded, without accents and in ASCII as far as letters have one."""
    if text.isascii():
        return text.lower()
    folded = text.casefold().translate(_FOLDED)
    decomposed = unicodedata.normalize("NFKD", folded).translate(_FOLDED)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def without_mojibake(text: str) -> str:
    """
    Return what UTF-8 bytes read as Windows-1252 meant ("JosÃ©" is "José"), else the text.

    Only where the whole text turns into valid UTF-8, which real text never does by chance.
    """
    if text.isascii() or not any("\xc2" <= letter <= "\xf4" for letter in text):
        return text
    try:
        return text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return text


def text_of(value: object) -> str:
    """
    Return a cell as text; "" for None, NaN and NaT.

    A whole float or decimal loses its ".0": pandas makes 2139.0 of a column with gaps.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if value is None or str(value) in ("nan", "NaT", "<NA>", "NaN"):
        return ""
    if isinstance(value, Decimal):
        whole = value.is_finite() and abs(value) < 10**30 and value == value.to_integral_value()
        return str(int(value)) if whole else str(value)
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        number = float(value)
        whole = math.isfinite(number) and number.is_integer() and abs(number) < 1e30
        return str(int(number)) if whole else str(value)
    return str(value)
