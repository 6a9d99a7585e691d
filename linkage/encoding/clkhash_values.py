"""
What clkhash asks of a value and makes of it before it is cut: formats and missing values.

    rule = broken_rule(text, feature)      "" if the value fits its format
    text = formatted(text, feature)        what is cut into tokens
    tokens = numeric_tokens(text, comparison)

Source: clkhash 0.17.0, field_formats.py and comparators.py. Departure: clkhash shows the value
in its errors; a rule here never does.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from linkage.encoding.clkhash_schema import ClkhashFeature, Comparison, ValueFormat

NO_NUMBER: Final = "is no number, and its comparison is numeric"


def broken_rule(text: str, feature: ClkhashFeature) -> str:
    """Return the rule of its format that a value breaks, "" if none; missing values break none."""
    form = feature.format
    if form is None or _is_missing(text, feature):
        return ""
    if not _writable(text, form.encoding):
        return f"cannot be written in {form.encoding}"
    if form.type == "string":
        return _broken_by_string(text, form)
    if form.type == "integer":
        return _broken_by_integer(text, form)
    if form.type == "date":
        return "" if _date(text, form.date) else f"is no date of the format {form.date!r}"
    return "" if text in form.values else "is not one of the values of its enum"


def formatted(text: str, feature: ClkhashFeature) -> str:
    """
    Return what clkhash cuts into tokens: a missing value's replacement, an integer in plain
    digits, a date as %Y%m%d, other text as it is. The value must fit its format.
    """
    hashing, form = feature.hashing, feature.format
    if hashing is None or form is None:
        return ""
    if hashing.missing is not None and _is_missing(text, feature):
        return hashing.missing.replace_with
    if form.type == "integer":
        return str(int(text, base=10))
    if form.type == "date" and (date := _date(text, form.date)):
        return date.strftime("%Y%m%d")
    return text


def unencodable(text: str, feature: ClkhashFeature) -> str:
    """
    Return why a formatted value cannot become tokens, "" if it can: text in a numeric
    comparison, a replacement that its encoding does not have. clkhash breaks off there.
    """
    hashing, form = feature.hashing, feature.format
    if hashing is None or form is None:
        return ""
    if not _writable(text, form.encoding):
        return f"its replacement cannot be written in {form.encoding}"
    if hashing.comparison.type == "numeric":
        try:
            numeric_tokens(text, hashing.comparison)
        except (ValueError, OverflowError):
            return NO_NUMBER
    return ""


def numeric_tokens(text: str, comparison: Comparison) -> list[str]:
    """
    Return the 2 x resolution + 1 tokens around a number; none of "".

    With v the number times 10^fractional_precision, as an integer: the multiple of interval
    that is nearest to 2 x resolution x v, ties upwards, and its neighbours. Raises ValueError or
    OverflowError for text that is no finite number.
    Source: Vatsalan and Christen 2016, doi:10.1016/j.jbi.2015.12.004.
    """
    if not text:
        return []
    interval, resolution = comparison.interval, comparison.resolution
    scaled = _scaled(text, comparison.fractional_precision) * 2 * resolution
    over = scaled % interval
    middle = scaled - over if over < interval / 2 else scaled + interval - over
    return [str(middle + i * interval) for i in range(-resolution, resolution + 1)]


def _scaled(text: str, precision: int) -> int:
    try:
        whole = int(text, base=10)
    except ValueError:
        number = float(text)
        return round(number * pow(10, precision)) if precision else int(number)
    return int(whole * pow(10, precision))


def _is_missing(text: str, feature: ClkhashFeature) -> bool:
    hashing = feature.hashing
    return hashing is not None and hashing.missing is not None and hashing.missing.sentinel == text


def _writable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _broken_by_string(text: str, form: ValueFormat) -> str:
    if form.pattern is not None:
        return "" if form.pattern.fullmatch(text) else "does not match the pattern of its format"
    if form.min_length is not None and len(text) < form.min_length:
        return f"has fewer than {form.min_length} characters"
    if form.max_length is not None and len(text) > form.max_length:
        return f"has more than {form.max_length} characters"
    if form.case == "upper" and text.upper() != text:
        return "is not in upper case"
    if form.case == "lower" and text.lower() != text:
        return "is not in lower case"
    return ""


def _broken_by_integer(text: str, form: ValueFormat) -> str:
    try:
        value = int(text, base=10)
    except ValueError:
        return "is no whole number"
    if form.minimum is not None and value < form.minimum:
        return f"is below the minimum of {form.minimum}"
    if form.maximum is not None and value > form.maximum:
        return f"is above the maximum of {form.maximum}"
    return ""


def _date(text: str, form: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(text, form)
    except (ValueError, re.error, OverflowError):  # a format may itself be impossible
        return None
