"""
Date formats as people write them: "MM/DD/YYYY" in site files and commands, "%m/%d/%Y" inside.
"""

from __future__ import annotations

import re

from linkage.strict_toml import Fault

_YEAR = {"YYYY": "%Y", "YY": "%y"}
_MONTH = {"MM": "%m", "M": "%m", "MON": "%b"}
_DAY = {"DD": "%d", "D": "%d"}
_DIRECTIVES = {**_YEAR, **_MONTH, **_DAY}
TOKENS = {directive: token for token, directive in reversed(_DIRECTIVES.items())} | {"%B": "MON"}
"""By strptime directive its token, the first of those that mean it."""
_TOKEN = re.compile("MON|Y+|M+|D+|[A-Za-z]+")
_HOW_TO_WRITE = 'write it like "MM/DD/YYYY", "YYYY-MM-DD", "YYYYMMDD" or "DD-MON-YYYY"'


def readable_format(text: str) -> str:
    """Return a date format in tokens if dates can be read by it. Raises Fault."""
    parts = _TOKEN.findall(text)
    for token, known in (("YYYY", _YEAR), ("MM", _MONTH), ("DD", _DAY)):
        if sum(part in known for part in parts) != 1:
            raise Fault(f"date_format needs {token} exactly once", _HOW_TO_WRITE)
    if len(parts) > 3 or "%" in text:
        raise Fault("date_format holds more than year, month and day", _HOW_TO_WRITE)
    if {"M", "D"} & set(parts) and not re.fullmatch(r"\w+\W\w+\W\w+", text):
        raise Fault("a month or day of one digit needs separators", _HOW_TO_WRITE)
    return text


def strptime_format(tokens: str) -> str:
    """Return the strptime form of a date format in tokens: "MM/DD/YY" is "%m/%d/%y"."""
    return _TOKEN.sub(lambda found: _DIRECTIVES[found.group()], tokens)


def in_tokens(format: str) -> str:
    """Return a strptime format as site files write it: "%m/%d/%Y" is "MM/DD/YYYY"."""
    for directive, token in TOKENS.items():
        format = format.replace(directive, token)
    return format
