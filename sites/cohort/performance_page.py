"""A model's performance as one page, and the geometry of its forest plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from linkage.evaluation.charts import Axis
from sites.cohort.report_page import page

MEASURES = ("auroc", "sensitivity", "specificity")
TITLES = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}
WIDEST = 0.5
"""An interval wider than this tells nothing; the page says so instead of drawing it."""

_ROW, _TOP, _LABELS, _PANEL, _GAP = 24, 44, 200, 150, 24


def performance_page(found: Mapping[str, Any]) -> str:
    """Return what `performance` found as a page; nothing fetched, no script."""
    groups = [(None, found["overall"])] if found["overall"] else []
    groups += [(one["name"], group) for one in found["variables"] for group in one["groups"]]
    return page("performance.html.j2", found=found, plot=_forest(groups), rows=_rows(groups))


def summary(found: Mapping[str, Any]) -> dict[str, object]:
    """Return what a terminal shows: one line a group."""
    groups = [(None, found["overall"])] if found["overall"] else []
    groups += [(one["name"], group) for one in found["variables"] for group in one["groups"]]
    told: dict[str, object] = {"persons with a prediction": found["persons"]}
    for row in _rows(groups):
        name = f"{row['variable']}: {row['group']}" if row["variable"] else str(row["group"])
        told[name] = ", ".join(f"{TITLES[measure]} {row[measure]}" for measure in MEASURES)
    if found["notes"]:
        told["CAUTION"] = " ".join(found["notes"])
    return told


def figure(told: Mapping[str, Any] | None, name: str) -> tuple[float, float, float] | None:
    """Return estimate, low and high of a measure; None: too few persons to say anything."""
    if told is None or told["high"] - told["low"] > WIDEST:
        return None
    return told["auroc" if name == "auroc" else "share"], told["low"], told["high"]


def in_words(told: Mapping[str, Any] | None, name: str) -> str:
    """Return a measure as the table has it: "0.84 (0.80 to 0.88)"."""
    found = figure(told, name)
    return "too few" if found is None else "{:.2f} ({:.2f} to {:.2f})".format(*found)


def _rows(groups: Sequence[tuple[str | None, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {
            "variable": variable,
            "group": group["group"],
            "with": group["with"],
            "without": group["without"],
            **{name: in_words(group[name], name) for name in MEASURES},
        }
        for variable, group in groups
    ]


def _forest(groups: Sequence[tuple[str | None, Mapping[str, Any]]]) -> dict[str, Any]:
    lows = [f[1] for _, group in groups for m in MEASURES if (f := figure(group[m], m))]
    low = min(int(min(lows, default=0.5) * 10) / 10, 0.9)
    panels = []
    for n, name in enumerate(MEASURES):
        start = _LABELS + n * (_PANEL + _GAP)
        axis = Axis(low, 1.0, start, start + _PANEL)
        panels.append({"name": TITLES[name], "x": start, "ticks": axis.ticks((low, 1.0), "{:.1f}")})
    rows: list[dict[str, Any]] = []
    y, before = float(_TOP), None
    for variable, group in groups:
        if variable != before:
            y += 10
        dots = []
        for n, name in enumerate(MEASURES):
            found = figure(group[name], name)
            if found is None:
                continue
            start = _LABELS + n * (_PANEL + _GAP)
            axis = Axis(low, 1.0, start, start + _PANEL)
            estimate, at_least, at_most = found
            dots.append(
                {
                    "x": axis.at(estimate),
                    "from": axis.at(at_least),
                    "to": axis.at(at_most),
                }
            )
        rows.append(
            {
                "y": y,
                "name": group["group"],
                "variable": variable if variable != before else None,
                "dots": dots,
            }
        )
        y, before = y + _ROW, variable
    return {"panels": panels, "rows": rows, "height": y + 4, "right": _PANEL}
