"""From a run's report to what its page shows. Nothing here computes an estimate: it chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from markupsafe import Markup

from broker.web import drawings
from linkage.matching.estimates import LEAST_THRESHOLD

ALL = "all"
"""Key of all comparisons taken together."""
_POINT = (
    "threshold", "links", "precision", "precision_interval", "recall", "recall_interval", "f1",
)  # fmt: skip
_BELOW = ("threshold", "pairs", "matches", "variance")
_MOST_SETS = 200
"""Sets of datasets that a page lists."""


@dataclass(frozen=True, slots=True)
class View:
    """The estimates of two parties, or of all. wanted: what some precisions would take."""

    key: str
    name: str
    estimate: Mapping[str, Any]
    wanted: Sequence[Mapping[str, Any]] = ()

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The point at the link threshold."""
        point: Mapping[str, Any] = self.estimate["chosen"]
        return point

    @property
    def links_nothing(self) -> bool:
        """Is nothing linked, since no threshold gives what was wanted?"""
        return not self.chosen["links"]

    @property
    def drawing(self) -> Markup:
        """The histogram with both thresholds."""
        return drawings.probabilities(
            self.estimate["histogram"],
            link=self.estimate["link_threshold"],
            review=self.estimate["review"]["threshold"],
        )

    @property
    def points(self) -> list[Mapping[str, Any]]:
        """What linking from each threshold would give: those that may be chosen, ascending."""
        curve = {point["threshold"]: point for point in self.estimate["curve"]}
        curve[self.chosen["threshold"]] = self.chosen
        return [curve[t] for t in sorted(curve) if t >= LEAST_THRESHOLD]

    @property
    def figures(self) -> dict[str, Any]:
        """What static/runs.js needs for its two sliders; numbers only."""
        return {
            "expected": self.estimate["expected_matches"],
            "link": _round(self.estimate["link_threshold"]),
            "review": _round(self.estimate["review"]["threshold"]),
            "points": [[_round(point[name]) for name in _POINT] for point in self.points],
            "below": [[_round(one[name]) for name in _BELOW] for one in self._below],
        }

    @property
    def _below(self) -> Sequence[Mapping[str, Any]]:
        # Reports of earlier versions have none; then only the link threshold can be moved.
        found: Sequence[Mapping[str, Any]] = self.estimate.get("below", ())
        return found


@dataclass(frozen=True, slots=True)
class Held:
    """A dataset's part of a run. linked: persons that another dataset holds as well."""

    letter: str
    uploader: str
    records: int
    people: int
    persons: int
    linked: int

    @property
    def rate(self) -> float:
        """Share of its persons that another dataset holds as well."""
        return self.linked / self.persons if self.persons else 0.0


def views(report: Mapping[str, Any]) -> list[View]:
    """Return what can be looked at: all together, then every two parties; or just the two."""
    by_two = [
        View("+".join(one["parties"]), " and ".join(one["parties"]), one["estimate"], one["wanted"])
        for one in report["comparisons"]
    ]
    if len(by_two) == 1:
        return by_two
    return [View(ALL, "All together", report["overall"]), *by_two]


def view_of(report: Mapping[str, Any], key: str) -> View | None:
    """Return the view of this key, else the first; None of a run that compared nothing."""
    found = views(report)
    return next((one for one in found if one.key == key), found[0] if found else None)


def held(report: Mapping[str, Any]) -> list[Held]:
    """Return every dataset's part, by name."""
    names = sorted(report["records"])
    overlaps: Mapping[str, int] = report["overlaps"]
    persons = dict.fromkeys(names, 0)
    for inside, count in overlaps.items():  # once: twelve datasets make 4,095 sets
        for name in inside.split("+"):
            persons[name] += count
    return [
        Held(
            letter=letter,
            uploader=name,
            records=report["records"][name],
            people=report["people"][name],
            persons=persons[name],
            linked=persons[name] - overlaps.get(name, 0),
        )
        for letter, name in zip(drawings.letters(len(names)), names, strict=True)
    ]


def sets_of(report: Mapping[str, Any]) -> tuple[list[tuple[list[str], int]], int]:
    """
    Return how many persons are in just these datasets, the most first: of the largest sets; and how
    many sets are left out.
    """
    overlaps: Mapping[str, int] = report["overlaps"]
    largest = nsmallest(_MOST_SETS, overlaps.items(), key=lambda one: (-one[1], one[0]))
    sets = [(names.split("+"), count) for names, count in largest]
    return sets, len(overlaps) - len(sets)


def overlap_drawing(parts: Sequence[Held], sets: Sequence[tuple[list[str], int]]) -> Markup:
    """Draw which persons are in which datasets. sets: of `sets_of`."""
    at = {part.uploader: number for number, part in enumerate(parts)}
    shown = sets[: drawings.MOST_SETS]
    places = [([at[one] for one in inside], count) for inside, count in shown]
    return drawings.overlaps(places, [part.letter for part in parts])


def size_drawing(report: Mapping[str, Any]) -> Markup | None:
    """Draw how many records persons have; None for a report of an earlier version."""
    sizes: Mapping[str, int] | None = report.get("cluster_sizes")
    if not sizes:
        return None
    return drawings.bars(
        drawings.sizes_as_bars(sizes),
        "Persons by their number of records; the table tells the same",
    )


def rate_drawing(parts: Sequence[Held]) -> Markup:
    """Draw which share of each dataset's persons another one holds as well."""
    texts = [f"{100 * one.rate:.1f}\N{NARROW NO-BREAK SPACE}%" for one in parts]
    rows = [drawings.Bar(p.letter, p.rate, text) for p, text in zip(parts, texts, strict=True)]
    return drawings.bars(rows, "Share of each dataset's persons that another dataset holds as well")


def _round(value: float) -> float:
    """Six decimals are more than anybody reads, and keep the page small."""
    return round(value, 6) if isinstance(value, float) else value
