"""How the profile writes shares, counts and dates: one way in the terminal, the page and JSON."""

from __future__ import annotations

from sites.profiling.cells import SMALL, Cell

FEW = f"<{SMALL}"
NO_VALUE = "(no value)"
SMALL_GROUPS = f"(groups below {SMALL})"

_SEX = {"f": "female", "m": "male"}


def percent(part: int, whole: int) -> str:
    """Return a share as text: "8.2 %", never "0.0 %" or "100.0 %" where that is not quite so."""
    if not whole:
        return "-"
    share = part / whole
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{100 * share:.1f} %"


def cell(told: Cell, whole: int) -> str:
    """Return the share that a cell is of `whole` people, as it may be told."""
    if whole < SMALL:
        return FEW
    if told.exact:
        return percent(told.low, whole)
    if (told.low, told.high) == (0, SMALL - 1):
        return FEW
    if (told.low, told.high) == (whole - SMALL + 1, whole):
        return f"all but {FEW}"
    low, high = round(100 * told.low / whole), round(100 * told.high / whole)
    return "hidden" if (low, high) == (0, 100) else f"{low}-{high} %"


def count(told: Cell) -> str:
    """Return a number of people as it may be told."""
    if told.exact:
        return f"{told.low:,}"
    return FEW if told.high < SMALL else f"{told.low:,}-{told.high:,}"


def shown_value(field: str, value: str) -> str:
    """Return a normalised value as people read it: 1942-04-09, female."""
    if field == "date_of_birth" and len(value) == 8:
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    return _SEX.get(value, value) if field == "sex" else value


def group_name(dimension: str, value: str) -> str:
    """Return a group of people as people read it."""
    if not value:
        return NO_VALUE
    return _SEX.get(value, value) if dimension == "sex" else value


def records(number: int) -> str:
    """Return "1 record", "3,204 records"."""
    return f"{number:,} record{'' if number == 1 else 's'}"
