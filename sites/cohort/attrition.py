"""
Attrition: how many are left after each criterion.

Exact counts. They stay inside the party that made them, or travel sealed to the enclave; what a
researcher reads went through sites.cohort.disclosure first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from linkage.errors import PackageRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    Who is left after one criterion. subjects: people, or an imaging commons' subjects.

    studies, series: what is left of their images; None on the clinical side. reason: why those who
    are missing since the step before are missing; it does not travel.
    """

    label: str
    subjects: int
    studies: int | None = None
    series: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attrition:
    """
    The steps of one side, first the whole population; subjects never grow from step to step.

    notes: what was odd.
    """

    side: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    def numbered(self) -> Attrition:
        """
        Return the figures without words: labels and notes say what was asked, which the other
        party is not shown before the delivery.
        """
        steps = tuple(
            replace(step, label=f"step {number}", reason="")
            for number, step in enumerate(self.steps, start=1)
        )
        return Attrition(side=self.side, steps=steps)

    def to_bytes(self) -> bytes:
        """Return UTF-8 JSON, to be sealed to the enclave together with the rows."""
        content = {
            "side": self.side,
            "steps": [[s.label, s.subjects, s.studies, s.series] for s in self.steps],
            "notes": list(self.notes),
        }
        return json.dumps(content, sort_keys=True).encode()


def attrition_from_bytes(content: bytes) -> Attrition:
    """Read what `to_bytes` made. Raises PackageRefused for anything else."""
    try:
        raw: dict[str, Any] = json.loads(content)
        return Attrition(
            side=_text(raw["side"]),
            steps=tuple(_step(one) for one in raw["steps"]),
            notes=tuple(_text(note) for note in raw["notes"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PackageRefused(
            "the attrition of the other party cannot be read",
            hint="both ends must run the same version; ask for the delivery again",
        ) from None


def _step(raw: Sequence[Any]) -> Step:
    label, subjects, studies, series = raw
    return Step(
        label=_text(label),
        subjects=_count(subjects),
        studies=None if studies is None else _count(studies),
        series=None if series is None else _count(series),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise ValueError
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError
    return value
