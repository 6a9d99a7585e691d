"""
Link rates by group, as a rehearsal's report tells them: estimates from marks, as in a real run.

    table = groups_table(strata)         strata: `strata` of the run's report, and of report.json
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def groups_table(strata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the table of the report's page; None where no site marks its records."""
    if not strata or not strata["datasets"]:
        return None
    rows = [
        [one["uploader"], f"{variable['id']}: {rate['group']}", *_told(rate), _share(one)]
        for one in strata["datasets"]
        for variable in one["variables"]
        for rate in variable["groups"]
    ]
    note = (
        "Estimated from marks that are mostly chance, as a real broker would; 95 % intervals."
        f" Too few: fewer than {strata['minimum']} people, or a number uncertain by half of itself."
    )
    if strata["without_marks"]:
        note += f" Without marks: {', '.join(strata['without_marks'])}."
    columns = ["party", "group", "people, about", "linked", "of everybody"]
    return {"columns": columns, "rows": rows, "note": note}


def _told(rate: Mapping[str, Any]) -> tuple[str, str]:
    if rate["few"]:
        return "too few", "too few to say"
    behind = ", BEHIND" if rate["behind"] else ""
    share = f"{rate['share']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}){behind}"
    return f"{rate['people']:,.0f}", share


def _share(one: Mapping[str, Any]) -> str:
    return f"{one['linked'] / max(1, one['people']):.1%}"
