"""From a run's report to what its page shows. Nothing here computes an estimate: it chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from broker.web import drawings
from broker.web.drawings import MINUS, grouped
from linkage.matching.estimates import LEAST_THRESHOLD
from linkage.run_messages import RunState

ALL = "all"
"""Key of all comparisons taken together."""
_POINT = (
    "threshold", "links", "precision", "precision_interval", "recall", "recall_interval", "f1",
)  # fmt: skip
_MOST_SETS = 60
"""Sets of datasets in a comparison; a dozen datasets have thousands."""
_BELOW = ("threshold", "pairs", "matches", "variance")


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
    sets = _sets(report)
    return [
        Held(
            letter=letter,
            uploader=name,
            records=report["records"][name],
            people=report["people"][name],
            persons=sum(count for inside, count in sets if name in inside),
            linked=sum(count for inside, count in sets if name in inside and len(inside) > 1),
        )
        for letter, name in zip(drawings.letters(len(names)), names, strict=True)
    ]


def sets_of(report: Mapping[str, Any]) -> list[tuple[tuple[str, ...], int]]:
    """Return how many persons are in just these datasets, the most first."""
    return sorted(_sets(report), key=lambda one: (-one[1], one[0]))


def overlap_drawing(report: Mapping[str, Any]) -> Markup:
    """Draw which persons are in which datasets."""
    names = sorted(report["records"])
    sets = [([names.index(one) for one in inside], count) for inside, count in sets_of(report)]
    return drawings.overlaps(sets, drawings.letters(len(names)))


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
    rows = [drawings.Bar(one.letter, one.rate, f"{one.rate:.1%}") for one in parts]
    return drawings.bars(rows, "Share of each dataset's persons that another dataset holds as well")


def differences(first: RunState, second: RunState) -> Iterator[tuple[str, str, str]]:
    """Yield what differs between what two runs are made of: its name, and of each run."""
    a, b = _made_of(first), _made_of(second)
    names = {
        "precision": "Wanted precision", "of": "Decides anew about", "purpose": "Purpose",
        "epoch": "Epoch", "seed": "Seed", "second_look": "May ask a second look",
        "software": "Software", "reviewed": "Reviews that count",
    }  # fmt: skip
    flat = {"inputs": "Dataset", "asserted": "Assertion list", "opted_out": "Opt-out list"}
    for key, name in names.items():
        if a[key] != b[key]:
            yield name, _said(a[key], key), _said(b[key], key)
    for key, name in flat.items():
        for uploader in sorted({*a[key], *b[key]}):
            one, other = a[key].get(uploader), b[key].get(uploader)
            if one != other:
                yield f"{name} of {uploader}", _said(one), _said(other)


def _made_of(run: RunState) -> dict[str, Any]:
    asked = {"precision": run.precision, "of": run.of, "purpose": run.purpose}
    return asked | (run.basis.model_dump() if run.basis else {})


def _said(value: Any, key: str = "") -> str:
    if key == "precision" and value is None:
        return "the best F1"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "none" if value in (None, "") else f"{value}"


def _sets(report: Mapping[str, Any]) -> list[tuple[tuple[str, ...], int]]:
    return [(tuple(names.split("+")), count) for names, count in report["overlaps"].items()]


def _round(value: float) -> float:
    """Six decimals are more than anybody reads, and keep the page small."""
    return round(value, 6) if isinstance(value, float) else value


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of two runs. change: of the second against the first, "" where none is said."""

    name: str
    first: str
    second: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Figures of one kind. more: rows that are left out, being small."""

    name: str
    rows: Sequence[Row]
    more: int = 0


def side_by_side(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the figures of two reports, all together first, then every two parties, then sets."""
    yield Table(
        "All together",
        [
            _counted("Persons", a["persons"], b["persons"]),
            _counted("Candidate pairs", a["candidates"], b["candidates"]),
            *_estimated("", {ALL: a["overall"]}, {ALL: b["overall"]}, ALL),
        ],
    )
    one, other = ({v.key: v.estimate for v in views(r) if v.key != ALL} for r in (a, b))
    if len(one | other) > 1:
        by_two = (
            row
            for key in sorted(one | other)
            for row in _estimated(f"{key.replace('+', ' and ')}: ", one, other, key)
        )
        yield Table("By two parties", list(by_two))
    sets = {
        names: (a["overlaps"].get(names, 0), b["overlaps"].get(names, 0))
        for names in (*a["overlaps"], *b["overlaps"])
    }
    largest = sorted(sets, key=lambda names: (-max(sets[names]), names))
    rows = [
        _counted(f"{' and '.join(n.split('+'))}{'' if '+' in n else ' only'}", *sets[n])
        for n in largest[:_MOST_SETS]
    ]
    yield Table("Persons by the datasets that hold them", rows, max(0, len(sets) - len(rows)))


def _estimated(before: str, a: Mapping[str, Any], b: Mapping[str, Any], key: str) -> Iterator[Row]:
    if key not in a or key not in b:
        yield Row(_named(before, "Compared"), *("yes" if key in one else "no" for one in (a, b)))
        return
    one, other = a[key]["chosen"], b[key]["chosen"]
    yield _counted(_named(before, "Links"), one["links"], other["links"])
    if not one["links"] and not other["links"]:
        return
    both = bool(one["links"] and other["links"])
    for name in ("precision", "recall"):
        yield Row(
            _named(before, f"Estimated {name}"),
            _share(one, name),
            _share(other, name),
            f"{other[name] - one[name]:+.4f}".replace("-", MINUS) if both else "",
        )
    yield Row(_named(before, "Link threshold"), *(f"{p['threshold']:.4f}" for p in (one, other)))


def _named(before: str, text: str) -> str:
    return f"{before}{text.lower()}" if before else text


def _share(point: Mapping[str, Any], name: str) -> str:
    """An estimate of no links at all says nothing."""
    if not point["links"]:
        return "nothing linked"
    return f"{point[name]:.4f} ± {point[f'{name}_interval']:.4f}"


def _counted(name: str, first: int, second: int) -> Row:
    change = grouped(second - first, "+") if first != second else ""
    return Row(name, grouped(first), grouped(second), change)
