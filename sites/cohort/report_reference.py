"""
How like a reference population a cohort is, by Jensen-Shannon distance.

    representativeness({"sex": shown, "age": shown}, total, load_reference())

Compared are the report's own tables as they may be read; no second table of the same people is
made, for two cuts of one variable would give away what lies between them. Persons of unknown group
are left out. A reference is a file of counts with its source, as configs/reference/ has them.
After Whitney et al. 2023, doi:10.1117/1.JMI.10.6.061105, who measure MIDRC so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from linkage import strict_toml
from linkage.errors import SiteRefused
from linkage.strict_toml import Strict
from sites.cohort.disclosure import Shown
from sites.cohort.report_numbers import distance, readable

DEFAULT = "us-census-2020.toml"
_UNKNOWN = "unknown"


class Category(Strict):
    """One group of the reference. is: the report's groups that belong to it."""

    label: str = Field(min_length=1)
    is_: tuple[str, ...] = Field(min_length=1, alias="is")
    count: int = Field(gt=0)


class Variable(Strict):
    """One variable of the reference; its categories share no group."""

    name: Literal["sex", "age", "race", "ethnicity"]
    note: str = ""
    category: tuple[Category, ...] = Field(min_length=2)


class Reference(Strict):
    """A reference population. source: where its counts can be looked up."""

    name: str = Field(min_length=1)
    year: int
    source: str = Field(min_length=10)
    variable: tuple[Variable, ...] = Field(min_length=1)


def load_reference(path: Path | None = None) -> Reference:
    """Read a reference population, by default the one shipped. Raises SiteRefused."""
    return strict_toml.load(path or shipped(), Reference, SiteRefused)


def shipped() -> Path:
    """Return the shipped reference: inside an installed package, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "reference", package.parent / "configs" / "reference")
    return next((folder / DEFAULT for folder in places if folder.is_dir()), places[0] / DEFAULT)


def representativeness(
    tables: Mapping[str, Mapping[str, Shown] | None], total: Shown, reference: Reference
) -> dict[str, Any]:
    """Return, for each variable of the reference, the shares of both sides and their distance."""
    compared = [_compared(one, tables.get(one.name), total) for one in reference.variable]
    return {
        "reference": reference.name,
        "year": reference.year,
        "source": reference.source,
        "variables": compared,
    }


def _compared(
    variable: Variable, shown: Mapping[str, Shown] | None, total: Shown
) -> dict[str, Any]:
    told: dict[str, Any] = {"name": variable.name, "note": variable.note, "groups": []}
    told |= {"left_out": [], "why_not": ""}
    if not (cells := readable(shown, total)) or shown is None:
        return told | {"why_not": "the cohort's own table is not shown"}
    hidden = {name for name, count in shown.items() if not isinstance(count, int)}
    apart, together = _split(variable, shown, hidden)
    seen = {one.label: sum(int(shown[g]) for g in one.is_ if g in shown) for one in apart}
    rows = [(one.label, seen[one.label], one.count) for one in apart]
    # Shown cells of a category that has hidden ones too are with the hidden ones.
    partly = sum(int(shown[g]) for one in together for g in one.is_ if g in set(shown) - hidden)
    left_out: list[str] = []
    if together and _UNKNOWN not in hidden:
        rest = sum(cells.values()) - sum(int(shown[g]) for g in set(shown) - hidden)
        label = " or ".join(one.label for one in together)
        rows.append((label, rest + partly, sum(one.count for one in together)))
    else:
        left_out = [one.label for one in together]
    known = sum(count for _, count, _ in rows)
    if not known:
        return told | {"why_not": "it is known of nobody"}
    if len(rows) < 2:
        return told | {"why_not": "too many of its groups are hidden"}
    whole = sum(count for _, _, count in rows)
    found = distance([n for _, n, _ in rows], [n / whole for _, _, n in rows])
    groups = [
        {"group": label, "cohort": round(n / known, 4), "reference": round(count / whole, 4)}
        for label, n, count in rows
    ]
    unknown = shown.get(_UNKNOWN, 0)
    return told | found | {"groups": groups, "left_out": left_out, "unknown": unknown or 0}


def _split(
    variable: Variable, shown: Mapping[str, Shown], hidden: set[str]
) -> tuple[list[Category], list[Category]]:
    """Return the categories whose every group is shown, and the others."""
    together = [one for one in variable.category if set(one.is_) & hidden]
    return [one for one in variable.category if one not in together], together
