"""What the pages of runs say: stages, states, warnings and failures, in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from broker.run_progress import FIRST, REST
from broker.web.drawings import grouped
from linkage.run_messages import RunState

KINDS = {"queued": "wait", "running": "busy", "done": "good", "failed": "bad", "cancelled": "off"}
"""Look of a badge by the run's state."""
STAGES = {
    "open": ("Open the datasets", "check seals and signatures, and read what the sites encoded"),
    FIRST: ("Look for candidates", "compare records; this is the long part"),
    "rest": ("Choose the rest", "set aside whom the first comparison linked for certain"),
    REST: ("Compare the rest", "everybody else once more, more widely"),
    "weights": ("Weigh the pairs", "work out how likely each pair is one person"),
    "second look": ("Second look", "ask the sites about single doubtful pairs"),
    "solve": ("Make persons of pairs", "at most one record of a dataset each"),
    "identity": ("Keep the person IDs", "so that whoever is known keeps its ID"),
}
"""By stage, in order: what is done, and what that means."""
_ADVICE = (
    (r"has no records", "Ask that party's operator to submit its records, then start a run anew."),
    (
        r"nearly empty or full",
        "Ask that party's operator to run linkage-site profile: a field is missing in many records,"
        " or holds the same for all. Submit again once it is mended.",
    ),
    (
        r"share no CLK and no match key",
        "These two are linked through others at best. If they must be linked with each other, agree"
        " with the custodian on fields that both hold.",
    ),
    (
        r"matches expected",
        "If few people in common are to be expected, read the figures as rough, and have pairs"
        " reviewed before you rely on them. If not, compare what both parties encoded.",
    ),
    (
        r"look like one person",
        "Ask that party's operator to group its duplicates and to submit again, then start a run"
        " anew.",
    ),
)
"""What to do about a warning of linkage.matching.weights, by words in it."""


@dataclass(frozen=True, slots=True)
class StageShown:
    """A stage of a run. state: done, now, next. seconds: None where nobody is told, or none."""

    name: str
    meaning: str
    state: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a person should know, and what to do about it."""

    cause: str
    remedy: str


def stages(run: RunState) -> list[StageShown]:
    """Return the stages of a run: those it went through, the one it is in, and what is to come."""
    names = list(STAGES)
    here = names.index(run.stage) if run.stage in STAGES else -1
    over = run.state == "done"
    shown = []
    for number, name in enumerate(names):
        passed = number < here or over
        if (passed and run.seconds and name not in run.seconds) or _left_out(run, name, passed):
            continue
        state = "done" if passed else "now" if number == here else "next"
        if state == "next" and run.state in ("failed", "cancelled"):
            continue
        shown.append(StageShown(*STAGES[name], state, run.seconds.get(name)))
    return shown


def _left_out(run: RunState, name: str, passed: bool) -> bool:
    """Is it a stage that this run has not, or of which nobody can know yet whether it has it?"""
    if name == run.stage or name in run.seconds:
        return False
    if name in ("rest", REST):
        return run.work is None or run.work.phases == 1
    if name == "second look":
        return passed or (run.basis is not None and not run.basis.second_look)
    return run.of is not None and name in ("open", FIRST)


def warnings(found: Sequence[str]) -> list[tuple[list[str], str]]:
    """Return a report's warnings: those with the same remedy together, "" where none is known."""
    by_remedy: dict[str, list[str]] = {}
    for text in found:
        by_remedy.setdefault(_advice(text), []).append(_sentence(text))
    return [(texts, remedy) for remedy, texts in by_remedy.items()]


def failure(text: str) -> Told:
    """Return why a run failed, and the remedy."""
    cause, _, remedy = text.partition(". Hint: ")
    remedy = remedy.replace("allow_missing=true", "“Link whoever is there”")
    return Told(_sentence(cause), _sentence(remedy) if remedy else "")


def silent(report: dict[str, object]) -> list[str]:
    """Return who did not answer a second look, or not rightly."""
    look = report.get("second_look")
    if not isinstance(look, dict):
        return []
    return sorted([*look.get("silent", ()), *look.get("refused", ())])


def duration(seconds: float) -> str:
    """Return a time in words of one or two units."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 10 and isinstance(seconds, float):
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return " ".join(_units(round(seconds / 60)))


def _units(minutes: int) -> Iterator[str]:
    days, rest = divmod(minutes, 1440)
    hours, left = divmod(rest, 60)
    if days:
        yield f"{days} d"
    if hours:
        yield f"{hours} h"
    if left and not days:
        yield f"{left} min"


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def _advice(text: str) -> str:
    return next((remedy for words, remedy in _ADVICE if re.search(words, text)), "")


def short(count: float) -> str:
    """Return a large number in few characters: 12.3 million."""
    for unit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return grouped(round(count))
