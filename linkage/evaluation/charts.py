"""
Geometry of the plots in reports: plain numbers for an SVG in a template.

    people = Axis(1_000, 10_000_000, 62, 704, logarithmic=True)
    people.at(300_000), polyline(points, people, shares)

No script, no outside address: a page prints as it shows. Colours and type are those of
templates/style.css.j2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from low to high, drawn from start to end in pixels; what lies outside, at an end."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return where a value is drawn, to a tenth of a pixel."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = (math.log10(max(one, 1e-300)) for one in (value, low, high))
        place = min(max((value - low) / (high - low), 0.0), 1.0)
        return round(self.start + (self.end - self.start) * place, 1)

    def ticks(self, values: Iterable[float], form: str = "{:g}") -> list[dict[str, Any]]:
        """Return places and texts of ticks."""
        return [{"at": self.at(value), "text": form.format(value)} for value in values]


def polyline(points: Iterable[tuple[float, float]], x: Axis, y: Axis) -> str:
    """Return the attribute `points` of a line."""
    return " ".join(f"{x.at(one)},{y.at(other)}" for one, other in points)


def floor_of(shares: Iterable[float]) -> tuple[float, Sequence[float]]:
    """
    Return where an axis of shares up to 1 begins so that all of `shares` show, and its ticks.

    An axis that begins at 0 hides how .98 differs from .99.
    """
    least = min(shares, default=0.0)
    for step in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
        if (low := 1 - 5 * step) <= least:
            return low, [round(low + k * step, 3) for k in range(6)]
    return 0.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def bars(rows: Sequence[tuple[str, int]], *, width: float) -> list[dict[str, Any]]:
    """Return one bar a row, the longest `width` pixels long; 28 pixels a row."""
    most = max((count for _, count in rows), default=0)
    return [
        {
            "y": 28 * i + 4,
            "name": name,
            "width": round(width * count / most, 1) if most else 0.0,
            "text": f"{count:,}",
        }
        for i, (name, count) in enumerate(rows)
    ]
