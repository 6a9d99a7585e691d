"""
Normalisation of telephone numbers: digits of E.164 without the plus (16172531000).

Numbers of the North American plan are read here, by its own rule (area and exchange begin with
2 to 9); all others by phonenumbers (Google's libphonenumber), for length only: which prefixes are
in service changes with every release of it, and a key must not. Seven digits are a local number,
kept in part. Weakness: numbers of seven digits in all (a few islands) pass for local ones.
"""

from __future__ import annotations

import re

from linkage.encoding import whys
from linkage.encoding.rules import Found, null
from linkage.errors import EncodingRefused

_NORTH_AMERICA = frozenset({"US", "CA", "PR"})
_AMERICAN = re.compile(r"1?([2-9][0-9]{2}[2-9][0-9]{6})")
_EXTENSION = re.compile(r"\s*(?:x|ext\.?|extension|#|;ext=)\s*[0-9]+\s*$", re.IGNORECASE)
_NO_DIGIT = re.compile(r"[^0-9]")
_WRITTEN = re.compile(r"[0-9()+./\s-]+")
_LEAST, _MOST = 7, 15
"""Digits of E.164, with country code."""
_SAMPLES = frozenset({"1234567890", "0123456789", "1234567", "9876543210", "11234567890"})
_NOBODYS_LOCAL = frozenset({"5551212", "0000000", "9999999", "1111111", "1234567"})
"""555-1212 is directory assistance in every area."""


class PhoneRule:
    """
    The rule for one source. region: country of numbers without a country code (ISO 3166).

    Raises EncodingRefused for a region that nobody can call.
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._american = region in _NORTH_AMERICA
        if not self._american:
            import phonenumbers

            if region not in phonenumbers.SUPPORTED_REGIONS:
                raise EncodingRefused(
                    "the telephone region is no country with telephone numbers",
                    hint='use two letters of ISO 3166: phone_region = "US"',
                )

    def __call__(self, text: str) -> Found:
        written = text.removeprefix("tel:")
        if not _WRITTEN.fullmatch(written):
            written = _EXTENSION.sub("", written)
        digits = _NO_DIGIT.sub("", written)
        if placeholder := _placeholder(digits):
            return null(placeholder)
        if not _WRITTEN.fullmatch(written) or not 4 <= len(digits) <= 18:
            return null(whys.NOT_A_PHONE)
        if self._american and "+" not in written:
            if found := _AMERICAN.fullmatch(digits):
                return f"1{found[1]}", ""
            if len(digits) == 7:
                return digits, whys.LOCAL_NUMBER
            if len(digits) <= 10:
                return null(whys.NOT_A_PHONE)
        return self._international(written, digits)

    def _international(self, written: str, digits: str) -> Found:
        # E.164 without its plus, as the normal form is, comes second.
        for attempt in (written, f"+{digits}"):
            value = self._e164(attempt)
            # Some plans drop a zero on a second reading; such a number is not to be trusted.
            if value and self._e164(f"+{value}") == value:
                return value, ""
        return null(whys.NOT_A_PHONE)

    def _e164(self, text: str) -> str:
        import phonenumbers

        try:
            found = phonenumbers.parse(text, self._region)
        except phonenumbers.NumberParseException:
            return ""
        reason = phonenumbers.is_possible_number_with_reason(found)
        value: str = phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)[1:]
        if reason != phonenumbers.ValidationResult.IS_POSSIBLE or not _LEAST <= len(value) <= _MOST:
            return ""
        return value if found.country_code != 1 or _AMERICAN.fullmatch(value) else ""


def _placeholder(digits: str) -> str:
    if len(digits) >= 7 and len(set(digits)) == 1:
        return whys.ONE_CHARACTER
    if digits in _SAMPLES or (len(digits) >= 7 and digits[-7:] in _NOBODYS_LOCAL):
        return whys.SAMPLE_NUMBER
    return ""
