"""
Geometry of the two charts in the rehearsal's report: a histogram and an overlap plot.

Plain numbers for an SVG in a template: no script, no outside address, prints as it shows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 710.0, 10.0, 210.0


def histogram(
    edges: Sequence[float], counts: Sequence[int], thresholds: Sequence[float]
) -> dict[str, Any]:
    """
    Return bars, ticks and marks of a histogram over [0, 1] with a logarithmic height.

    edges: B + 1 bounds; counts: B. A bar right of the lowest threshold is drawn as linked.
    """
    top = max(10, 10 ** math.ceil(math.log10(max(1, *counts))))
    lowest = min(thresholds, default=1.0)
    bars = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        height = (_BOTTOM - _TOP) * math.log10(count + 1) / math.log10(top + 1)
        bars.append(
            {
                "x": round(_at(low) + 0.5, 1),
                "width": round(max(1.0, _at(high) - _at(low) - 1), 1),
                "y": round(_BOTTOM - height, 1),
                "height": round(height, 1),
                "below": high <= lowest,
                "title": f"{low:.2f} to {high:.2f}: {count:,} pairs",
            }
        )
    powers = [10**p for p in range(int(math.log10(top)) + 1)]
    return {
        "bars": bars,
        "ticks": [{"y": round(_height(p, top), 1), "label": f"{p:,}"} for p in powers],
        "marks": [{"x": round(_at(t), 1)} for t in sorted(set(thresholds))],
        "labels": [{"x": round(_at(t / 10), 1), "text": f"{t / 10:.1f}"} for t in range(0, 11, 2)],
        "caption": "Pairs below the dashed threshold were not linked; the scale is logarithmic.",
    }


def overlap(holders: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """
    Return the rows of an overlap plot, the largest set of parties first (ties by name).

    holders: by person, the parties that hold a record of the person.
    """
    names = sorted({party for held in holders.values() for party in held})
    counted = Counter(holders.values()).most_common()
    counted.sort(key=lambda pair: (-pair[1], sorted(pair[0])))
    step, left = 90.0, 60.0 + 90.0 * len(names)
    widest = max((count for _, count in counted), default=1)
    rows = []
    for i, (held, count) in enumerate(counted):
        rows.append(
            {
                "y": 42 + 28 * i,
                "dots": [{"x": 60 + step * j, "on": name in held} for j, name in enumerate(names)],
                "width": round((640 - left) * count / widest + 2, 1),
                "count": f"{count:,}",
                "title": f"{', '.join(sorted(held))}: {count:,} persons",
            }
        )
    return {
        "rows": rows,
        "left": left,
        "height": 50 + 28 * len(rows),
        "names": [{"x": 60 + step * j, "text": name} for j, name in enumerate(names)],
    }


def _at(value: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * value


def _height(count: int, top: int) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * math.log10(count + 1) / math.log10(top + 1)
