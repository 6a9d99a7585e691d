"""
Two runs side by side, from their reports: what differs in what they are made of, and each figure.

Nothing here computes an estimate. The portal, the API and the console show the same of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from linkage.run_messages import ComparedFigure, RunChange, RunComparison, RunState

TOGETHER = ""
"""What a figure of all comparisons taken together is about."""
_ESTIMATED: tuple[Literal["links", "precision", "recall", "link_threshold"], ...] = (
    "links", "precision", "recall", "link_threshold",
)  # fmt: skip
_SETTINGS = {
    "precision": "Wanted precision",
    "of": "Decides anew about",
    "purpose": "Purpose",
    "epoch": "Epoch",
    "seed": "Seed",
    "second_look": "May ask a second look",
    "software": "Software",
    "reviewed": "Reviews that count",
}
_NUMBERED = {"inputs": "Dataset", "asserted": "Assertion list", "opted_out": "Opt-out list"}


def compared(first: RunState, second: RunState) -> RunComparison:
    """Return two runs side by side, with their reports; no links are counted."""
    return RunComparison(
        study_id=first.study_id,
        first=first.run_id,
        second=second.run_id,
        same_persons=first.result_digest == second.result_digest,
        made_of=list(_changes(first, second)),
        figures=list(_figures(first, second)),
    )


def lines(found: RunComparison) -> Iterator[str]:
    """Yield a comparison as `linkage-broker run compare` prints it."""
    yield f"{found.first}, then {found.second}, of {found.study_id}"
    yield "Both found the same persons." if found.same_persons else "They found other persons."
    if found.gained is not None and found.lost is not None:
        yield f"Links that only the second has {found.gained:,}; only the first {found.lost:,}."
    yield "What differs in what they are made of"
    for one in found.made_of:
        yield f"  {one.what:<34}{one.first:>18}  {one.second:>18}"
    if not found.made_of:
        yield "  nothing: the same datasets, lists and settings"
    yield "What came of them"
    for figure in found.figures:
        name = f"{_about(figure.about)}{figure.figure.replace('_', ' ')}"
        first = _number(figure.figure, figure.first, figure.first_interval)
        second = _number(figure.figure, figure.second, figure.second_interval)
        yield f"  {name:<34}{first:>18}  {second:>18}"


def _about(about: str) -> str:
    return f"{about.replace('+', ' + ')}: " if about else ""


def _number(figure: str, value: float | None, interval: float | None) -> str:
    if value is None:
        return "-"
    if interval is not None:
        return f"{value:.4f} ± {interval:.4f}"
    if figure == "link_threshold":
        return f"{value:.4f}"
    return f"{value:,.1f} s" if figure == "seconds" else f"{value:,.0f}"


def _changes(first: RunState, second: RunState) -> Iterator[RunChange]:
    a, b = _made_of(first), _made_of(second)
    for key, name in _SETTINGS.items():
        if a.get(key) != b.get(key):
            said, other = (_said(one.get(key), key) for one in (a, b))
            yield RunChange(what=name, first=said, second=other)
    for key, name in _NUMBERED.items():
        one, two = a.get(key, {}), b.get(key, {})
        for uploader in sorted({*one, *two}):
            if one.get(uploader) != two.get(uploader):
                yield RunChange(
                    what=f"{name} of {uploader}",
                    first=_said(one.get(uploader)),
                    second=_said(two.get(uploader)),
                )


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


def _figures(first: RunState, second: RunState) -> Iterator[ComparedFigure]:
    a, b = first.report or {}, second.report or {}
    for figure in ("persons", "candidates"):
        yield ComparedFigure.model_validate(
            {"about": TOGETHER, "figure": figure, "first": a[figure], "second": b[figure]}
        )
    yield from _estimates(TOGETHER, a["overall"], b["overall"])
    yield ComparedFigure(
        about=TOGETHER,
        figure="seconds",
        first=sum(first.seconds.values()),
        second=sum(second.seconds.values()),
    )
    one, other = (_by_two(report) for report in (a, b))
    if len(one | other) > 1:
        for about in sorted(one | other):
            yield from _estimates(about, one.get(about), other.get(about))
    held: dict[str, tuple[int, int]] = {
        names: (a["overlaps"].get(names, 0), b["overlaps"].get(names, 0))
        for names in (*a["overlaps"], *b["overlaps"])
    }
    for names in sorted(held, key=lambda name: (-max(held[name]), name)):
        yield ComparedFigure(
            about=names, figure="persons", first=held[names][0], second=held[names][1]
        )


def _by_two(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {"+".join(one["parties"]): one["estimate"] for one in report["comparisons"]}


def _estimates(
    about: str, first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> Iterator[ComparedFigure]:
    """Yield the figures at the link threshold. An estimate of no links at all says nothing."""
    points = [one["chosen"] if one else {} for one in (first, second)]
    for figure in _ESTIMATED:
        name = "threshold" if figure == "link_threshold" else figure
        told = [one if name == "links" or one.get("links") else {} for one in points]
        yield ComparedFigure(
            about=about,
            figure=figure,
            first=told[0].get(name),
            second=told[1].get(name),
            first_interval=told[0].get(f"{name}_interval"),
            second_interval=told[1].get(f"{name}_interval"),
        )
