"""
Geometry of the plots of the profile's page: plain numbers for SVG in a template.

No script, no outside address, prints as it shows; every plot stands beside a table or text with
the same figures. All widths in the units of a view box 720 wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sites.profiling.report import Bar, Effect, FieldReport
from sites.profiling.subgroups import SubgroupTable
from sites.profiling.words import percent

WIDTH = 720.0
_LEFT, _RIGHT, _ROW = 130.0, 660.0, 26.0
_SCALES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_LOST = ("missing", "placeholder", "invalid", "repaired")
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_ORDINARY_DAY = 12 / 365.25


def lost_by_field(fields: Sequence[FieldReport], total: int) -> dict[str, Any]:
    """Return stacked bars: by field, the share missing, placeholder, invalid, repaired."""
    shares = [[getattr(one, kind) / max(1, total) for kind in _LOST] for one in fields]
    top = next(s for s in _SCALES if s >= min(1.0, max((sum(x) for x in shares), default=0)))
    rows = []
    for i, (one, parts) in enumerate(zip(fields, shares, strict=True)):
        at, bars = _LEFT, []
        for kind, share in zip(_LOST, parts, strict=True):
            width = (_RIGHT - _LEFT) * share / top
            if share:
                number = getattr(one, kind)
                title = f"{one.field}: {number:,} {kind} ({percent(number, total)})"
                bars.append({"x": _r(at), "width": _r(width), "kind": kind, "title": title})
            at += width
        lost = sum(getattr(one, kind) for kind in _LOST)
        label = percent(lost, total) if lost else "none"
        rows.append(
            {"y": 20 + _ROW * i, "name": one.field, "bars": bars, "end": _r(at), "label": label}
        )
    steps = 4 if top in (0.02, 1.0) else 5
    ticks = [
        {"x": _r(_LEFT + (_RIGHT - _LEFT) * i / steps), "text": _tick(top * i / steps)}
        for i in range(steps + 1)
    ]
    return {"rows": rows, "ticks": ticks, "height": 40 + _ROW * len(rows), "kinds": _LOST}


def histogram(bars: Sequence[Bar], first: int, last: int, step: int = 1) -> dict[str, Any]:
    """
    Return bars over whole numbers from `first` to `last` by `step`; labels begin with the number.

    What has fewer than ten records has no bar.
    """
    left, right, top, bottom = 52.0, 700.0, 10.0, 190.0
    number = (last - first) // step + 1
    width = (right - left) / number
    highest = _round_up(max((one.records for one in bars), default=1))
    made = []
    for one in bars:
        place = (int(one.label.rstrip("s")) - first) // step
        height = (bottom - top) * one.records / highest
        made.append(
            {
                "x": _r(left + place * width + 0.5),
                "width": _r(max(1.0, width - 1)),
                "y": _r(bottom - height),
                "height": _r(height),
                "title": f"{one.label}: {one.records:,} to {one.records + 9:,} records",
            }
        )
    every = max(1, -(-number // 12))
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100) if n >= every) if step == 1 else every
    labels = [
        {
            "x": _r(left + (i + 0.5) * width),
            "text": str(first + i * step) + ("s" if step > 1 else ""),
        }
        for i in range(number)
        if (first + i * step) % (every * step) == 0 or (first == 1 and i == 0)
    ]
    ticks = [
        {"y": _r(bottom - (bottom - top) * i / 2), "text": f"{highest * i // 2:,}"}
        for i in range(3)
    ]
    return {"bars": made, "labels": labels, "ticks": ticks, "top": top, "highest": highest}


def birth_years(bars: Sequence[Bar]) -> dict[str, Any] | None:
    """Return the histogram of birth years, or of decades where the report has these."""
    if not bars:
        return None
    step = 10 if bars[0].label.endswith("s") else 1
    years = [int(one.label.rstrip("s")) for one in bars]
    return {**histogram(bars, min(years), max(years), step), "by": "decade" if step > 1 else "year"}


def days(bars: Sequence[Bar], dated: int) -> dict[str, Any] | None:
    """Return the histogram of days of the month, with the height of an ordinary day."""
    if not bars:
        return None
    made = histogram(bars, 1, 31)
    made["ordinary"] = _r(190.0 - 180.0 * min(1.0, dated * _ORDINARY_DAY / made["highest"]))
    return made


def calendar(bars: Sequence[Bar] | None) -> dict[str, Any] | None:
    """Return twelve rows of days shaded in five steps; None where most days have under ten."""
    if not bars or len(bars) < 300:
        return None
    usual = sorted(one.records for one in bars)[len(bars) // 2]
    cells = []
    for one in bars:
        month, day = int(one.label[:2]), int(one.label[3:])
        shade = next((i for i, f in enumerate((0.6, 0.9, 1.15, 2.0)) if one.records < f * usual), 4)
        said = ("far below", "below", "as usual", "above", "twice and more of")[shade]
        title = f"{day} {_MONTHS[month - 1]}: {said}" + (" the usual" if shade != 2 else "")
        cells.append(
            {"x": 40 + 21.5 * (day - 1), "y": 20 + 17 * (month - 1), "shade": shade, "title": title}
        )
    months = [{"y": 32 + 17 * i, "text": name} for i, name in enumerate(_MONTHS)]
    labels = [{"x": 50 + 21.5 * (day - 1), "text": str(day)} for day in (1, 5, 10, 15, 20, 25, 31)]
    return {"cells": cells, "months": months, "labels": labels}


def subgroup(table: SubgroupTable, effect: Effect, total: int) -> list[dict[str, Any]]:
    """Return one plot a party: by group, the span of the share that can be linked to it."""
    plots = []
    for party in effect.parties:
        if not party.clks and not party.match_keys:
            continue
        told = [(line, line.linkable[party.party]) for line in table.groups]
        overall = party.linkable / max(1, total)
        known = [one.low for _, one in told if one.high - one.low < 0.5]
        low = _floor(min([overall, *known], default=0.0))
        rows = []
        for i, (line, one) in enumerate(told):
            start, end = _at(max(low, one.low), low), _at(one.high, low)
            title = f"{line.group}: {one.text}"
            rows.append(
                {
                    "y": 20 + _ROW * i, "name": _short(line.group), "x": start,
                    "width": _r(max(0.0, end - start)), "text": one.text, "title": title,
                    "point": one.low == one.high, "wide": one.high - one.low >= 0.5,
                }
            )  # fmt: skip
        steps = 4 if low > 0.95 else 5
        places = [low + (1 - low) * i / steps for i in range(steps + 1)]
        ticks = [{"x": _at(place, low), "text": _tick(place)} for place in places]
        plots.append(
            {
                "party": party.party, "rows": rows, "ticks": ticks, "overall": _at(overall, low),
                "height": 40 + _ROW * len(rows), "label": percent(party.linkable, total),
            }
        )  # fmt: skip
    return plots


def _at(share: float, low: float) -> float:
    return _r(_LEFT + (_RIGHT - 90 - _LEFT) * (share - low) / (1 - low))


def _floor(share: float) -> float:
    return next((s for s in (0.98, 0.95, 0.9, 0.8, 0.5) if share >= s + (1 - s) * 0.1), 0.0)


def _tick(share: float) -> str:
    return f"{100 * share:.4g} %"


def _round_up(number: int) -> int:
    size = int(10 ** (len(str(number)) - 1))
    return next(n for n in (size, 2 * size, 3 * size, 5 * size, 10 * size) if n >= number)


def _short(text: str) -> str:
    return text if len(text) <= 18 else f"{text[:17]}…"


def _r(number: float) -> float:
    return round(number, 1)
