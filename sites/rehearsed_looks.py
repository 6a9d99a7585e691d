"""
What a rehearsal's second look gave: pairs asked, and quality with and without, for its report.

    found = looks_of(report, quality, without)        numbers["second_look"] of report.json

Per pair of parties: pairs_asked, uncertain (the others are decoys), pairs_answered, and under
`with` and `without` the program's own estimates; with a truth also what was measured, `without`
in a linkage of the same packages that asked nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linkage.evaluation.quality import Quality

_MEASURED = ("precision", "recall", "f1")
_TOLD = (
    "pairs_asked",
    "uncertain",
    "decoys",
    "pairs_answered",
    "silent",
    "links_gained",
    "links_lost",
    "waited_seconds",
)
"""Of the run's own report, what a rehearsal passes on."""


def looks_of(
    report: Mapping[str, Any], quality: Quality | None, without: Quality | None
) -> dict[str, Any] | None:
    """
    Return what the run's second look did; None where the study or the run allowed none.

    report: of the run. quality, without: against the truth, with and without the second look.
    """
    told = report.get("second_look")
    if not told:
        return None
    if "before" not in told:  # it may ask, and had nothing to ask
        return {"pairs_asked": 0, "reason": told.get("reason", ""), "comparisons": []}
    asked = {frozenset(one["parties"]): one for one in told["comparisons"]}
    before = {frozenset(one["parties"]): one["estimate"] for one in told["before"]["comparisons"]}
    comparisons = []
    for one in report["comparisons"]:
        parties = frozenset(one["parties"])
        counts = asked.get(parties, {"pairs_asked": 0, "uncertain": 0, "pairs_answered": 0})
        found = {
            "with": _estimated(one["estimate"]) | _measured(quality, parties),
            "without": _estimated(before[parties]) | _measured(without, parties),
        }
        comparisons.append({**counts, "parties": one["parties"], **found})
    return {name: told[name] for name in _TOLD} | {"comparisons": comparisons}


def looks_table(looks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of the report's page: columns, rows of text, and a note."""
    measured = any("f1" in one["without"] for one in looks["comparisons"])
    columns = ["parties", "pairs asked", "uncertain", "answered", "est. F1 without", "with"]
    columns += ["true F1 without", "with"] if measured else []
    rows = []
    for one in looks["comparisons"]:
        row = [" - ".join(one["parties"])]
        row += [f"{one[name]:,}" for name in ("pairs_asked", "uncertain", "pairs_answered")]
        for kind in ("estimated_f1", "f1") if measured else ("estimated_f1",):
            row += [_shown(one[side].get(kind)) for side in ("without", "with")]
        rows.append(row)
    note = (
        f"Of {looks['pairs_asked']:,} pairs the sites were asked for filters field by field,"
        " each under a key of its own; the others of those asked are decoys."
        f" Links gained: {looks.get('links_gained', 0):,}, lost: {looks.get('links_lost', 0):,}."
    )
    if looks.get("reason"):
        note = f"Nothing was asked: {looks['reason']}."
    return {"columns": columns, "rows": rows, "note": note}


def looks_summary(looks: Mapping[str, Any]) -> str:
    """Return the line that a terminal shows."""
    if not looks["pairs_asked"]:
        return f"nothing asked: {looks.get('reason') or 'no pair was uncertain'}"
    return (
        f"{looks['pairs_asked']:,} pairs asked, {looks['uncertain']:,} of them uncertain;"
        f" {looks['links_gained']:,} links gained, {looks['links_lost']:,} lost"
    )


def unlooked_f1(looks: Mapping[str, Any] | None, parties: frozenset[str]) -> str:
    """Return what F1 two parties had without the second look, in words; "" if not measured."""
    for one in looks["comparisons"] if looks else ():
        if frozenset(one["parties"]) == parties and "f1" in one["without"]:
            return f" ({one['without']['f1']:.4f} without second look)"
    return ""


def _estimated(estimate: Mapping[str, Any]) -> dict[str, float]:
    chosen = estimate["chosen"]
    return {f"estimated_{name}": chosen[name] for name in _MEASURED}


def _measured(quality: Quality | None, parties: frozenset[str]) -> dict[str, float]:
    # A truth has a column a party; two contributors' comparison has none of its own.
    for one in quality.as_json()["pairs"] if quality else ():
        if frozenset((one["left"], one["right"])) == parties:
            return {name: one[name] for name in _MEASURED}
    return {}


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
