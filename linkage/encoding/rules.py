"""What every normalisation rule shares: its type, its reasons, and how "nothing" is written."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

MISSING = "missing"
PLACEHOLDER = "placeholder"
INVALID = "invalid"

Rule = Callable[[str], tuple[str, str]]
"""From text without outer blanks to (value, "") or ("", reason)."""

_SAID_MISSING = frozenset(
    {"n/a", "n.a.", "#n/a", "null", "(null)", "none", "unknown", "unk",
     "unkn", "not known", "not available", "not provided", "not given", "missing", "?", "-",
     "--", "---", ".", "*", "xxx", "xxxx", "declined", "refused", "withheld", "[redacted]",
     "redacted", "not applicable", "undefined", "not reported", "not recorded"}
)  # fmt: skip

# Letters that NFKD leaves whole: Scandinavian, Polish, Icelandic, Turkish, Maltese, Sami.
_FOLDED = {
    0xF8: "o",
    0x142: "l",
    0x111: "d",
    0xF0: "d",
    0xFE: "th",
    0xE6: "ae",
    0x153: "oe",
    0x131: "i",
    0x14B: "n",
    0x127: "h",
    **dict.fromkeys((0x2018, 0x2019, 0x201B, 0x60, 0xB4, 0x2B9, 0x2BB, 0x2BC), "'"),
    **dict.fromkeys(range(0x2010, 0x2016), "-"),
}


def null(reason: str) -> tuple[str, str]:
    """Return the null of `reason`."""
    return "", reason


def word_set(text: str) -> frozenset[str]:
    """Return the blank-separated words of a table of words."""
    return frozenset(text.split())


def said_missing(text: str) -> bool:
    """Return whether the text says, for any field, that there is no value."""
    return text.casefold() in _SAID_MISSING or text in ("nan", "NaN")  # "Nan" is a name


def fold(text: str) -> str:
    """Return the text case-folded, without accents and in ASCII as far as letters have one."""
    if text.isascii():
        return text.lower()
    folded = text.casefold().translate(_FOLDED)
    decomposed = unicodedata.normalize("NFKD", folded).translate(_FOLDED)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
