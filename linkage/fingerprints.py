"""
Fingerprints that people compare by telephone: 32 hex digits, read out in eight groups of four.

What was typed may have spaces, hyphens or colons anywhere, and capitals; a typing mistake is told
from another key by the group where it is.
"""

from __future__ import annotations

import re

from linkage.errors import PackageRefused

GROUPS = 8
_DIGITS = 4 * GROUPS
_FEW = 2
HOW = "type it as it was read out: eight groups of four, digits 0 to 9 and letters a to f"


def compare(given: str, wanted: str, whose: str) -> None:
    """
    Raises PackageRefused unless `given` is the fingerprint `wanted`; whose: for the error.

    The error shows which groups differ, which helps nobody to find the rest: the comparison is of
    two values that both sides have before them.
    """
    typed, real = plain(given), plain(wanted)
    if not re.fullmatch(f"[0-9a-f]{{{_DIGITS}}}", typed):
        strange = sorted(set(typed) - set("0123456789abcdef"))
        rule = f"it has {len(typed)} digits instead of {_DIGITS}"
        if strange:
            rule = "it holds characters that are no digits from 0 to 9 or letters from a to f"
        raise PackageRefused(f"this is no fingerprint of {whose}: {rule}", hint=HOW)
    wrong = [
        number + 1
        for number in range(GROUPS)
        if typed[4 * number : 4 * number + 4] != real[4 * number : 4 * number + 4]
    ]
    if 0 < len(wrong) <= _FEW:
        groups = " and ".join(map(str, wrong))
        raise PackageRefused(
            f"the fingerprint of {whose} differs in group {groups} of {GROUPS}",
            hint=f"have it read out again by telephone; {HOW}. If it still differs, it is another"
            " key: stop",
        )
    if wrong:
        raise PackageRefused(
            f"the fingerprint is that of another {whose} than the one you named",
            hint=f"compare it with {whose} by telephone, and use what you hear there",
        )


def plain(text: str) -> str:
    """Return a typed fingerprint without what separates its groups, in small letters."""
    return re.sub(r"[\s:.-]", "", text).lower()
