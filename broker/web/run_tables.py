"""Two runs side by side as tables: the words and signs of what `broker.run_compared` tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from broker.run_compared import TOGETHER
from broker.web import run_words
from broker.web.drawings import MINUS, grouped
from linkage.run_messages import ComparedFigure, RunComparison

_MOST_SETS = 60
"""Sets of datasets in a comparison; a dozen datasets have thousands."""
_NAMES = {
    "persons": "Persons",
    "candidates": "Candidate pairs",
    "links": "Links",
    "precision": "Estimated precision",
    "recall": "Estimated recall",
    "link_threshold": "Link threshold",
    "seconds": "All stages",
}
_COUNTED = ("persons", "candidates", "links")


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


def tables(found: RunComparison) -> Iterator[Table]:
    """Yield the figures of two runs: all together first, then every two datasets, then sets."""
    every = [one for one in found.figures if one.about == TOGETHER]
    yield Table("All together", list(_rows(every)))
    by_two = [one for one in found.figures if one.about and one.figure != "persons"]
    if by_two:
        yield Table("By two parties", list(_rows(by_two)))
    sets = [one for one in found.figures if one.about and one.figure == "persons"]
    rows = [_set(one) for one in sets[:_MOST_SETS]]
    yield Table("Persons by the datasets that hold them", rows, max(0, len(sets) - len(rows)))


def _rows(figures: Sequence[ComparedFigure]) -> Iterator[Row]:
    links = {one.about: one for one in figures if one.figure == "links"}
    for one in figures:
        beside = links[one.about]
        if beside.first is None or beside.second is None:
            if one is beside:
                said = ("no" if count is None else "yes" for count in (one.first, one.second))
                yield Row(_named(one.about, "Compared"), *said)
        elif one.figure in _COUNTED:
            yield _counted(_named(one.about, _NAMES[one.figure]), one)
        elif one.figure == "seconds":
            took = (run_words.duration(seconds or 0) for seconds in (one.first, one.second))
            yield Row(_NAMES[one.figure], *took)
        elif beside.first or beside.second:
            yield _estimated(one)


def _estimated(one: ComparedFigure) -> Row:
    both = one.first is not None and one.second is not None
    change = ""
    if both and one.first_interval is not None:
        change = f"{(one.second or 0) - (one.first or 0):+.4f}".replace("-", MINUS)
        change = change if change.strip(f"+{MINUS}.0") else ""  # none that is read
    return Row(
        _named(one.about, _NAMES[one.figure]),
        _share(one.first, one.first_interval),
        _share(one.second, one.second_interval),
        change,
    )


def _share(value: float | None, interval: float | None) -> str:
    if value is None:
        return "nothing linked"
    return f"{value:.4f}" + (f" ± {interval:.4f}" if interval is not None else "")


def _set(one: ComparedFigure) -> Row:
    names = one.about.split("+")
    return _counted(f"{' and '.join(names)}{'' if len(names) > 1 else ' only'}", one)


def _named(about: str, text: str) -> str:
    return f"{about.replace('+', ' and ')}: {text.lower()}" if about else text


def _counted(name: str, one: ComparedFigure) -> Row:
    first, second = int(one.first or 0), int(one.second or 0)
    change = grouped(second - first, "+") if first != second else ""
    return Row(name, grouped(first), grouped(second), change)
