"""
Why a normalised value is what it is: the fixed list of texts that summaries and logs may hold.

The kind is the text before ":". Nothing of a value is ever in a text, so that they can be counted,
shown and sent. docs/normalisation.md explains each.
"""

from __future__ import annotations

from typing import Final

PLAIN: Final = ""
MISSING: Final = "missing"

NOT_KNOWN: Final = "placeholder: says that it is not known"
PUNCTUATION: Final = "placeholder: no letter or digit"
ONE_CHARACTER: Final = "placeholder: one character repeated"
STANDS_FOR_PERSON: Final = "placeholder: a word that stands for a person"
TEST_RECORD: Final = "placeholder: test record"
TITLE: Final = "placeholder: title alone"
ONE_LETTER: Final = "placeholder: one letter as a last name"
DEFAULT_DATE: Final = "placeholder: default date"
OTHER_SEX: Final = "placeholder: told as other"
UNKNOWN_SEX: Final = "placeholder: told as unknown"
SAMPLE_NUMBER: Final = "placeholder: sample number"
WITHHELD: Final = "placeholder: withheld digits"
NOBODYS_EMAIL: Final = "placeholder: address of nobody"
NO_FIXED_ADDRESS: Final = "placeholder: no fixed address"

TOO_LONG: Final = "invalid: longer than 200 characters"
NO_LETTERS: Final = "invalid: no letters"
NOT_LATIN: Final = "invalid: not in Latin letters"
NOT_A_DATE: Final = "invalid: not a date in this format"
NOT_A_FULL_DATE: Final = "invalid: not a full date"
TWO_DIGIT_YEAR: Final = "invalid: year of two digits"
DAY_NUMBER: Final = "invalid: day number of a spreadsheet"
IN_THE_FUTURE: Final = "invalid: date in the future"
TOO_EARLY: Final = "invalid: date before 1880"
TOO_OLD: Final = "invalid: older than 120 years"
UNKNOWN_CODE: Final = "invalid: unknown code"
NOT_AN_SSN: Final = "invalid: not nine digits"
NEVER_ISSUED: Final = "invalid: never issued"
NOT_A_ZIP: Final = "invalid: not a ZIP code"
NOT_A_PHONE: Final = "invalid: not a telephone number"
NOT_AN_EMAIL: Final = "invalid: not an e-mail address"
NOT_A_STREET: Final = "invalid: not a street address"

OTHER_FORMATS: Final = {
    tokens: f"invalid: date written as {tokens}"
    for tokens in (
        "YYYY-MM-DD", "YYYYMMDD", "YYYY/MM/DD", "MM/DD/YYYY", "DD/MM/YYYY", "MM-DD-YYYY",
        "DD-MM-YYYY", "DD.MM.YYYY", "DD-MON-YYYY", "DD MON YYYY", "MMDDYYYY", "DDMMYYYY",
    )
}  # fmt: skip

EXCHANGED: Final = "repaired: day and month exchanged"
ISO_DATE: Final = "repaired: ISO date in a column of another format"
CENTURY: Final = "repaired: year of two digits completed"
TIME_OF_DAY: Final = "repaired: time of day left out"
DIGITS_READ: Final = "repaired: letters read as digits"
ZERO_RESTORED: Final = "repaired: leading zeros restored"
CONTROL: Final = "repaired: control characters left out"
MOJIBAKE: Final = "repaired: text decoded with the wrong character set"
STRAY: Final = "repaired: stray characters in a name"
AFTER_COMMA: Final = "repaired: given name after a comma left out"
INITIAL_LEFT_OUT: Final = "repaired: initial after the first name left out"
ONLY_INITIAL: Final = "repaired: only an initial"
LAST_FOUR: Final = "repaired: only the last four digits"
THREE_DIGITS: Final = "repaired: only the first three digits"
LOCAL_NUMBER: Final = "repaired: only the local number"
FIRST_OF_SEVERAL: Final = "repaired: first of several addresses"

WHYS: Final = (
    PLAIN, MISSING,
    NOT_KNOWN, PUNCTUATION, ONE_CHARACTER, STANDS_FOR_PERSON, TEST_RECORD, TITLE, ONE_LETTER,
    DEFAULT_DATE, OTHER_SEX, UNKNOWN_SEX, SAMPLE_NUMBER, WITHHELD, NOBODYS_EMAIL,
    NO_FIXED_ADDRESS,
    TOO_LONG, NO_LETTERS, NOT_LATIN, NOT_A_DATE, NOT_A_FULL_DATE, TWO_DIGIT_YEAR, DAY_NUMBER,
    *OTHER_FORMATS.values(), IN_THE_FUTURE, TOO_EARLY, TOO_OLD, UNKNOWN_CODE, NOT_AN_SSN,
    NEVER_ISSUED, NOT_A_ZIP, NOT_A_PHONE, NOT_AN_EMAIL, NOT_A_STREET,
    EXCHANGED, ISO_DATE, CENTURY, TIME_OF_DAY, DIGITS_READ, ZERO_RESTORED, CONTROL, MOJIBAKE,
    STRAY, AFTER_COMMA, INITIAL_LEFT_OUT, ONLY_INITIAL, LAST_FOUR, THREE_DIGITS, LOCAL_NUMBER,
    FIRST_OF_SEVERAL,
)  # fmt: skip
"""Every text there is."""

KINDS: Final = ("", "missing", "placeholder", "invalid", "repaired")
NULL_KINDS: Final = frozenset({"missing", "placeholder", "invalid"})
"""Kinds whose value is empty."""


def kind_of(why: str) -> str:
    """Return the kind of a text of WHYS."""
    return why.partition(":")[0]


COLLISION_ROUNDING: Final = 5
"""How often a reason or a collision holds is attested in steps of this, rounded up, so that no one
pair shows."""
