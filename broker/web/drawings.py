"""
Charts as SVG, drawn by the server: they need no script, print as they show, and hold no style of
their own (static/runs.css). Every chart has its numbers as a table beside it; that is the page's.

Coordinates are units of the viewBox, 480 wide; a phone shows about half of them, so texts have room
to be drawn larger there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_WIDTH = 480.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 470.0, 42.0, 190.0
MINUS = "\N{MINUS SIGN}"
MOST_SETS = 24
"""Rows of an overlap plot; what is smaller is summed up in the table beside it."""
_ROW = 26.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. share: of the longest, 0 to 1. text: what is written at its end. soft: paler."""

    label: str
    share: float
    text: str
    soft: bool = False


def probabilities(counts: Sequence[int], *, link: float, review: float) -> Markup:
    """
    Draw a histogram over [0, 1] of equal bins, its height logarithmic, with both thresholds.

    A bar is of what lies in the middle of its bin: linked, in doubt or apart. The thresholds can be
    moved by static/runs.js, which needs where 0 and 1 are.
    """
    top = max(10.0, 10.0 ** math.ceil(math.log10(max(1, *counts))))
    said = f"Candidate pairs by match probability: {grouped(sum(counts))} in {len(counts)} bins"
    return Markup(
        '<svg class="chart histogram" viewBox="0 0 480 236" role="img" aria-label="{}"'
        ' data-left="{:g}" data-width="{:g}">{}{}{}{}</svg>'
    ).format(
        said,
        _LEFT,
        _RIGHT - _LEFT,
        Markup("").join(_grid(top)),
        Markup("").join(_bins(counts, top, link, review)),
        Markup("").join(_probability_axis()),
        Markup("").join((_threshold("review", review), _threshold("link", link))),
    )


def overlaps(sets: Sequence[tuple[Sequence[int], int]], columns: Sequence[str]) -> Markup:
    """
    Draw an UpSet plot: a row for each set of columns, the largest first, with a bar of its size.

    sets: numbers of the columns that are in, and how many. columns: short names, as few characters
    as can be. Sets beyond the largest 24 are not drawn.
    """
    shown = sets[:MOST_SETS]
    step = min(26.0, 220.0 / max(1, len(columns)))
    start = 14.0 + step * len(columns) + 8
    widest = max((count for _, count in shown), default=1)
    height = 26 + _ROW * len(shown) + 4
    heads = Markup("").join(
        Markup('<text class="head" x="{:.1f}" y="17" text-anchor="middle">{}</text>').format(
            14 + step * i, name
        )
        for i, name in enumerate(columns)
    )
    rows = Markup("").join(
        _set_row(number, inside, count, len(columns), step, start, count / max(1, widest))
        for number, (inside, count) in enumerate(shown)
    )
    return Markup(
        '<svg class="chart upset" viewBox="0 0 480 {:.0f}" role="img" aria-label="{}">{}{}</svg>'
    ).format(
        height, "Persons by the datasets that hold them; the table tells the same", heads, rows
    )


def bars(rows: Sequence[Bar], said: str) -> Markup:
    """Draw horizontal bars, in the order given. said: what they show, for who cannot see it."""
    drawn = Markup("").join(
        Markup(
            '<text x="112" y="{y:.1f}" text-anchor="end">{label}</text>'
            '<rect class="{kind}" x="120" y="{at:.1f}" width="{width:.1f}" height="15"/>'
            '<text x="{end:.1f}" y="{y:.1f}">{text}</text>'
        ).format(
            y=_ROW * i + 18,
            at=_ROW * i + 5,
            label=row.label,
            kind="fill-soft" if row.soft else "fill",
            width=max(1.0, 250 * row.share),
            end=126 + max(1.0, 250 * row.share),
            text=row.text,
        )
        for i, row in enumerate(rows)
    )
    return Markup(
        '<svg class="chart bars" viewBox="0 0 480 {:.0f}" role="img" aria-label="{}">{}</svg>'
    ).format(_ROW * len(rows) + 4, said, drawn)


def grouped(count: int, sign: str = "") -> str:
    """Return a number as the portal writes it, its thousands apart. sign: "+" for a change."""
    return f"{count:{sign},}".replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", MINUS)


def letters(count: int) -> list[str]:
    """Return short names of columns: A to Z, then numbers."""
    return [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(count)]


def sizes_as_bars(sizes: Mapping[str, int], *, most: int = 12) -> list[Bar]:
    """Return bars of how many persons have so many records; what is larger is one bar."""
    ordered = sorted((int(size), count) for size, count in sizes.items())
    head, tail = ordered[:most], ordered[most:]
    named = [(f"{size} record{'s' if size > 1 else ''}", count) for size, count in head]
    if tail:
        named.append((f"{tail[0][0]} or more", sum(count for _, count in tail)))
    widest = max((count for _, count in named), default=1)
    return [
        Bar(label, count / max(1, widest), grouped(count), soft=label == "1 record")
        for label, count in named
    ]


def _grid(top: float) -> Iterator[Markup]:
    powers = range(round(math.log10(top)) + 1)
    every = 2 if len(powers) > 5 else 1
    for power in powers[::every]:
        y = _height(10.0**power, top)
        yield Markup('<line class="grid" x1="{:g}" x2="{:g}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
            _LEFT, _RIGHT, y=y
        )
        yield Markup('<text class="soft" x="{:g}" y="{:.1f}" text-anchor="end">{}</text>').format(
            _LEFT - 5, y + 4, _short(10**power)
        )


def _bins(counts: Sequence[int], top: float, link: float, review: float) -> Iterator[Markup]:
    for number, count in enumerate(counts):
        low, high = number / len(counts), (number + 1) / len(counts)
        middle = (low + high) / 2
        kind = "linked" if middle >= link else "doubt" if middle >= review else "apart"
        y = _height(float(count), top)
        yield Markup(
            '<rect class="bin {}" data-at="{:g}" x="{:.1f}" y="{:.1f}" width="{:.1f}"'
            ' height="{:.1f}"><title>{:.2f} to {:.2f}: {} pairs</title></rect>'
        ).format(
            kind,
            middle,
            _at(low) + 0.5,
            y,
            _at(high) - _at(low) - 1,
            _BOTTOM - y,
            low,
            high,
            grouped(count),
        )


def _probability_axis() -> Iterator[Markup]:
    yield Markup('<line class="axis" x1="{:g}" x2="{:g}" y1="{y:g}" y2="{y:g}"/>').format(
        _LEFT, _RIGHT, y=_BOTTOM
    )
    for tenth in range(0, 11, 2):
        yield Markup(
            '<text class="soft" x="{:.1f}" y="{:g}" text-anchor="middle">{:g}</text>'
        ).format(_at(tenth / 10) - (4 if tenth == 10 else 0), _BOTTOM + 18, tenth / 10)
    yield Markup('<text class="soft" x="{:.1f}" y="{:g}" text-anchor="middle">{}</text>').format(
        _at(0.5), _BOTTOM + 40, "match probability"
    )


def _threshold(name: str, value: float) -> Markup:
    """Draw a line with its name. The names are at two heights, so that they never meet."""
    x = _at(value)
    left_of = value > 0.5
    return Markup(
        '<g class="threshold {name}" data-threshold="{name}" transform="translate({x:.1f} 0)">'
        '<line x1="0" x2="0" y1="{y:g}" y2="{end:g}"/>'
        '<text x="{dx:g}" y="{ty:g}" text-anchor="{anchor}">{name}</text></g>'
    ).format(
        name=name,
        x=x,
        y=22 if name == "review" else 4,
        end=_BOTTOM,
        dx=-5 if left_of else 5,
        ty=34 if name == "review" else 15,
        anchor="end" if left_of else "start",
    )


def _set_row(
    number: int,
    inside: Sequence[int],
    count: int,
    columns: int,
    step: float,
    start: float,
    share: float,
) -> Markup:
    y = 26 + _ROW * number + _ROW / 2
    radius = min(7.0, step * 0.36)
    dots = Markup("").join(
        Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(
            "on" if i in inside else "off", 14 + step * i, y, radius
        )
        for i in range(columns)
    )
    tie = Markup("")
    if len(inside) > 1:
        tie = Markup(
            '<line class="tie" x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        ).format(14 + step * min(inside), 14 + step * max(inside), y=y)
    width = max(1.0, (385 - start) * share)
    return Markup(
        '{stripe}{dots}{tie}<rect class="{kind}" x="{start:.1f}" y="{top:.1f}" width="{width:.1f}"'
        ' height="15"/><text x="{end:.1f}" y="{base:.1f}">{text}</text>'
    ).format(
        stripe=_stripe(number),
        dots=dots,
        tie=tie,
        kind="fill" if len(inside) > 1 else "fill-soft",
        start=start,
        top=y - 7.5,
        width=width,
        end=start + width + 6,
        base=y + 5,
        text=grouped(count),
    )


def _stripe(number: int) -> Markup:
    if number % 2:
        return Markup("")
    return Markup('<rect class="stripe" x="0" y="{:.1f}" width="{:g}" height="{:g}"/>').format(
        26 + _ROW * number, _WIDTH, _ROW
    )


def _at(value: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * value


def _height(count: float, top: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * math.log10(count + 1) / math.log10(top + 1)


def _short(count: int) -> str:
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count // unit}{name}"
    return str(count)
