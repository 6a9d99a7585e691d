"""
Which share of each group is linked, as a run's page shows it: intervals drawn, and plain words.

Nothing is estimated here (linkage.matching.group_rates); it is chosen, worded and drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

_ROW, _LEFT, _RIGHT = 44.0, 8.0, 472.0
_LABEL = 26
"""Letters of a group's name in the drawing; the table has all of them."""
_PARTS = (
    (1 / 20, "a twentieth"), (1 / 10, "a tenth"), (1 / 5, "a fifth"), (1 / 4, "a quarter"),
    (1 / 3, "a third"), (1 / 2, "half"), (2 / 3, "two thirds"), (3 / 4, "three quarters"),
    (9 / 10, "nine tenths"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """A group: its people as estimated, and the share that is linked; or few: nothing is told."""

    group: str
    few: bool
    people: str = ""
    share: str = ""
    interval: str = ""
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a dataset. drawing: None where no group is told."""

    name: str
    lines: Sequence[Line]
    drawing: Markup | None

    @property
    def few(self) -> list[str]:
        """Groups of which nothing is told."""
        return [one.group for one in self.lines if one.few]


@dataclass(frozen=True, slots=True)
class Marked:
    """A dataset whose records bear marks. share: of all its people that are linked."""

    uploader: str
    share: str
    variables: Sequence[Variable]
    behind: Sequence[str]


@dataclass(frozen=True, slots=True)
class Groups:
    """What the page shows. silent: uploaders without marks."""

    datasets: Sequence[Marked]
    silent: Sequence[str]
    minimum: int

    @property
    def behind(self) -> list[str]:
        """A sentence for each group that is clearly linked less."""
        return [text for one in self.datasets for text in one.behind]


def shown(report: Mapping[str, Any]) -> Groups | None:
    """Return what a report says of groups; None where the study has none, or did not then."""
    found = report.get("strata")
    if not found:
        return None
    datasets = [_marked(one) for one in found["datasets"]]
    return Groups(datasets, found["without_marks"], found["minimum"])


def _marked(found: Mapping[str, Any]) -> Marked:
    of_all = found["linked"] / found["people"] if found["people"] else 0.0
    variables = [_variable(found["uploader"], one, of_all) for one in found["variables"]]
    behind = [
        _sentence(found["uploader"], one["id"], rate, of_all)
        for one in found["variables"]
        for rate in one["groups"]
        if rate["behind"]
    ]
    return Marked(found["uploader"], _percent(of_all), variables, behind)


def _variable(uploader: str, found: Mapping[str, Any], of_all: float) -> Variable:
    told = [rate for rate in found["groups"] if not rate["few"]]
    name = found["id"].replace("-", " ")
    said = f"{name} in {uploader}: share linked of each group; the table tells the same"
    drawing = _drawn(told, of_all, said) if told else None
    return Variable(name, [_line(rate) for rate in found["groups"]], drawing)


def _line(rate: Mapping[str, Any]) -> Line:
    if rate["few"]:
        return Line(rate["group"], few=True)
    return Line(
        rate["group"],
        few=False,
        people=_about(rate["people"]),
        share=_percent(rate["share"]),
        interval=_interval(rate),
        behind=rate["behind"],
    )


def _sentence(uploader: str, variable: str, rate: Mapping[str, Any], of_all: float) -> str:
    return (
        f"In {uploader}, about {_part((of_all - rate['share']) / of_all)} fewer of"
        f" \N{LEFT DOUBLE QUOTATION MARK}{rate['group']}\N{RIGHT DOUBLE QUOTATION MARK}"
        f" ({variable.replace('-', ' ')}) are linked than of everybody: about"
        f" {_percent(rate['share'])} ({_interval(rate)}), of everybody {_percent(of_all)}."
    )


def _part(share: float) -> str:
    """Return a share in words, the nearest that people say."""
    return min(_PARTS, key=lambda one: abs(one[0] - share))[1]


def _percent(share: float) -> str:
    return f"{share * 100:.0f}\N{NO-BREAK SPACE}%"


def _interval(rate: Mapping[str, Any]) -> str:
    return f"{rate['low'] * 100:.0f} to {rate['high'] * 100:.0f}\N{NO-BREAK SPACE}%"


def _about(people: float) -> str:
    """Return a number in as many digits as it deserves: two."""
    digits = 10 ** max(0, len(str(int(people))) - 2)
    rounded = round(people / digits) * digits
    return f"{rounded:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _drawn(rates: Sequence[Mapping[str, Any]], of_all: float, said: str) -> Markup:
    height = _ROW * len(rates) + 30
    return Markup(
        '<svg class="chart groups" viewBox="0 0 480 {:.0f}" role="img" aria-label="{}">{}{}</svg>'
    ).format(
        height,
        said,
        Markup("").join(_all(of_all, height - 28)),
        Markup("").join(part for i, rate in enumerate(rates) for part in _row(i, rate)),
    )


def _all(of_all: float, bottom: float) -> Iterator[Markup]:
    x = _at(of_all)
    yield Markup('<line class="all" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{y:.1f}"/>').format(
        x=x, y=bottom
    )
    anchor = "end" if of_all > 0.5 else "start"
    yield Markup('<text class="head" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, bottom + 20, anchor, f"everybody {_percent(of_all)}"
    )


def _row(number: int, rate: Mapping[str, Any]) -> Iterator[Markup]:
    y = _ROW * number
    name = rate["group"]
    short = name if len(name) <= _LABEL else f"{name[: _LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"
    yield Markup('<text class="over" x="{:g}" y="{:.1f}">{}</text>').format(_LEFT, y + 17, short)
    yield Markup('<text class="over" x="{:g}" y="{:.1f}" text-anchor="end">{}</text>').format(
        _RIGHT, y + 17, f"{_interval(rate)}{', behind' if rate['behind'] else ''}"
    )
    yield Markup('<line class="grid" x1="{:g}" x2="{:g}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
        _LEFT, _RIGHT, y=y + 31
    )
    kind = "range behind" if rate["behind"] else "range"
    yield Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="8" rx="4"/>'
        '<circle class="on" cx="{:.1f}" cy="{:.1f}" r="5"/>'
    ).format(
        kind,
        _at(rate["low"]),
        y + 27,
        max(4.0, _at(rate["high"]) - _at(rate["low"])),
        _at(rate["share"]),
        y + 31,
    )


def _at(share: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * share
