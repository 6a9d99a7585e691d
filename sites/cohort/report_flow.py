"""
Geometry of the flow diagram: a box a step, and beside it who left and why.

Plain numbers and lines of text for an SVG in a template, after CONSORT's diagram (Schulz, Altman
and Moher 2010, doi:10.1136/bmj.c332): no script, prints as it shows. The steps stand in a table
too, which is what a screen reader is sent to.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 720
_MAIN_X, _MAIN_WIDTH = 1, 400
_SIDE_X, _SIDE_WIDTH = 450, 269
_MIDDLE = 40.0
_LINE, _PAD, _GAP = 17, 9, 20
_MAIN_CHARS, _SIDE_CHARS = 56, 37
_MOST_LINES = 4


def flow(
    steps: Sequence[Mapping[str, Any]], lost: Sequence[Mapping[str, Any]], noun: str
) -> dict[str, Any]:
    """
    Return boxes and arrows. steps: `step` and `persons`, as shown; lost: `reason` and `persons`
    lost between a step and the one before. noun: whom the counts are of.
    """
    boxes: list[dict[str, Any]] = []
    sides: list[dict[str, Any]] = []
    y = 1.0
    for n, step in enumerate(steps):
        if n and (gone := lost[n - 1]["persons"]) != 0:
            why = _wrapped(lost[n - 1]["reason"], _SIDE_CHARS)
            side = _box(_SIDE_X, y - _GAP / 2, _SIDE_WIDTH, [f"{said(gone, noun)} less", *why])
            sides.append(side | {"from": _MIDDLE, "at": side["y"] + side["height"] / 2})
            y += side["height"]
        label = _wrapped(str(step["step"]), _MAIN_CHARS)
        boxes.append(_box(_MAIN_X, y, _MAIN_WIDTH, [said(step["persons"], noun), *label]))
        y += boxes[-1]["height"] + _GAP
    arrows = [
        {"x": _MIDDLE, "from": one["y"] + one["height"], "to": other["y"]}
        for one, other in itertools.pairwise(boxes)
    ]
    return {
        "width": WIDTH,
        "height": round(y - _GAP + 2, 1),
        "boxes": boxes,
        "sides": sides,
        "arrows": arrows,
        "told": in_words(steps, lost, noun),
    }


def in_words(
    steps: Sequence[Mapping[str, Any]], lost: Sequence[Mapping[str, Any]], noun: str
) -> str:
    """Return the diagram as one sentence a step, for who does not see it."""
    told = []
    for n, step in enumerate(steps):
        less = lost[n - 1]["persons"] if n else 0
        why = f", {said(less, noun)} less: {lost[n - 1]['reason']}" if less != 0 else ""
        told.append(f"{step['step']}: {said(step['persons'], noun)}{why}.")
    return " ".join(told)


def said(count: int | str, noun: str) -> str:
    """Return a count as it is shown, with its noun."""
    if isinstance(count, int):
        return f"{count:,} {noun}"
    return f"{noun}: {count}"


def _wrapped(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width, break_long_words=True) or [""]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1][: width - 1] + "…"]
    return lines


def _box(x: float, y: float, width: float, lines: Sequence[str]) -> dict[str, Any]:
    return {
        "x": x,
        "y": y,
        "width": width,
        "height": len(lines) * _LINE + 2 * _PAD,
        "lines": [
            {"text": text, "x": x + 12, "y": y + _PAD + _LINE * (n + 1) - 4}
            for n, text in enumerate(lines)
        ],
    }
