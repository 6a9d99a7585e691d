"""
How well a model predicts in a delivered cohort, and for whom it does not, inside the enclave.

    predictions = read_predictions(Path("predictions.csv"), cohort)
    found = performance(cohort, predictions, threshold=0.5)        fit to be read

predictions.csv: one row a person with `cohort_id` (or `person_id`), `score` (higher: more likely)
and `label` (1 or 0: what is true). An empty score is the lowest of all, and no finding.

Counts are of persons and rounded. The file decides what is counted, so who has the rows could have
any of their facts counted: this keeps figures that are taken out of the enclave from telling of
few people by accident; it does not stop a researcher who means to. That is what the enclave's
download review is for.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linkage.errors import RowRejected, SourceRefused
from sites.cohort.disclosure import HIDDEN, CellRule
from sites.cohort.performance_numbers import EVERYBODY, Flags, Floats, auroc, shares_told
from sites.cohort.report_images import OTHER
from sites.cohort.saved import SavedCohort

VERSION = 1
ROUNDING = 5
_MOST_GROUPS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """
    One prediction a person, ordered by person_id. persons: of the cohort's person_ids; scores:
    float64[N], -inf where there was none; labels: bool[N]. missing: persons without a row.
    """

    persons: Sequence[int]
    scores: Floats
    labels: Flags
    missing: int


def read_predictions(path: Path, cohort: SavedCohort) -> Predictions:
    """
    Read a file of predictions. Raises SourceRefused for another file, RowRejected for a row that
    is nobody of the cohort, repeats a person, or holds no number; never with a value.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = set(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise SourceRefused(
            file=path.name,
            rule=f"cannot be read ({type(fault).__name__})",
            hint="it is a UTF-8 text with commas: cohort_id,score,label",
        ) from None
    key = next((name for name in ("cohort_id", "person_id") if name in columns), None)
    if key is None or not {"score", "label"} <= columns:
        raise SourceRefused(
            file=path.name,
            rule="has not the columns cohort_id (or person_id), score and label",
            hint=_first_line(columns),
        )
    if not rows:
        raise SourceRefused(
            file=path.name,
            rule="holds no prediction",
            hint="one row a person follows the first line",
        )
    by_number = {str(number): number for number in cohort.persons.values()}
    names = cohort.persons if key == "cohort_id" else by_number
    found: dict[int, tuple[float, bool]] = {}
    for number, row in enumerate(rows, start=2):
        person = names.get((row[key] or "").strip())
        if person is None:
            raise _bad(
                path, number, key, "is nobody of this cohort", "side/cohort_person lists all"
            )
        if person in found:
            raise _bad(path, number, key, "occurs twice", "give one prediction a person")
        found[person] = (_score(path, number, row["score"]), _label(path, number, row["label"]))
    order = sorted(found)
    return Predictions(
        persons=order,
        scores=np.array([found[one][0] for one in order], np.float64),
        labels=np.array([found[one][1] for one in order], np.bool_),
        missing=len(cohort.persons) - len(order),
    )


def _first_line(columns: Collection[str]) -> str:
    """Return what to do about it, and none of what stands there: it may be a first row."""
    alone = len(columns) == 1 and any(mark in next(iter(columns)) for mark in ";\t|")
    commas = ", parted by commas and by nothing else" if alone else ""
    return f"the first line names them{commas}: cohort_id,score,label"


def _score(path: Path, row: int, text: str | None) -> float:
    if not (text or "").strip():
        return -math.inf
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        hint = "a number such as 0.87, without a sign; empty means: no prediction"
        raise _bad(path, row, "score", "is no number", hint)
    return value


def _label(path: Path, row: int, text: str | None) -> bool:
    said = (text or "").strip().lower()
    if said not in ("0", "1", "true", "false"):
        raise _bad(path, row, "label", "is neither 1 nor 0", "1: the person has it, 0: has it not")
    return said in ("1", "true")


def _bad(path: Path, row: int, field: str, rule: str, hint: str) -> RowRejected:
    return RowRejected(file=path.name, row=row, field=field, rule=rule, hint=hint)


def performance(
    cohort: SavedCohort, predictions: Predictions, *, threshold: float
) -> dict[str, Any]:
    """
    Return AUROC, sensitivity and specificity of everybody and by group, as they may be read.

    threshold: inclusive; a score that reaches it is a finding.
    """
    rule = CellRule(cohort.minimum_cell)
    coarse = CellRule(rule.minimum, min(ROUNDING, rule.minimum))
    groups = {EVERYBODY: dict.fromkeys(predictions.persons, EVERYBODY), **cohort.groups()}
    variables = [
        _by_group(name, of, predictions, threshold, rule, coarse) for name, of in groups.items()
    ]
    return {
        "version": VERSION,
        "title": cohort.report.get("title", ""),
        "study": cohort.report.get("study", ""),
        "trace": cohort.report.get("trace", {}),
        "minimum_cell": rule.minimum,
        "rounding": coarse.rounding,
        "threshold": threshold,
        "notes": _notes(predictions, threshold),
        "persons": coarse.show(len(predictions.persons)),
        "without_prediction": coarse.show(predictions.missing),
        "without_score": coarse.show(int(np.isneginf(predictions.scores).sum())),
        "overall": variables[0]["groups"][0] if predictions.persons else None,
        "variables": [one for one in variables[1:] if len(one["groups"]) > 1],
    }


def _notes(predictions: Predictions, threshold: float) -> list[str]:
    """Say where a threshold parts nobody from anybody: seldom is that meant."""
    given = predictions.scores[np.isfinite(predictions.scores)]
    if not len(given) or float(given.min()) < threshold <= float(given.max()):
        return []
    which = "no score reaches" if float(given.max()) < threshold else "every score reaches"
    return [f"{which} the threshold of {threshold:g}: is it on the scale of the scores?"]


def _by_group(
    name: str,
    of: Mapping[int, str],
    predictions: Predictions,
    threshold: float,
    rule: CellRule,
    coarse: CellRule,
) -> dict[str, Any]:
    names = _merged([of[person] for person in predictions.persons], rule)
    labels, said = predictions.labels, predictions.scores >= threshold
    at = {group: np.array([one == group for one in names], np.bool_) for group in _order(names)}
    counts = {
        group: _Counts(
            int((here & labels).sum()),
            int((here & ~labels).sum()),
            int((here & labels & said).sum()),
            int((here & ~labels & ~said).sum()),
        )
        for group, here in at.items()
    }
    # How many persons a group has stands in the cohort's report: one count gives the other.
    few = {g for g, n in counts.items() if rule.small(n.positive) or rule.small(n.negative)}
    sensitivity = shares_told(
        {g: n.found for g, n in counts.items()}, {g: n.positive for g, n in counts.items()}, rule
    )
    specificity = shares_told(
        {g: n.cleared for g, n in counts.items()}, {g: n.negative for g, n in counts.items()}, rule
    )
    groups = [
        {
            "group": group,
            "with": HIDDEN if group in few else coarse.show(n.positive),
            "without": HIDDEN if group in few else coarse.show(n.negative),
            "auroc": None
            if group in few
            else auroc(predictions.scores[at[group]], labels[at[group]]),
            "sensitivity": None if group in few else sensitivity[group],
            "specificity": None if group in few else specificity[group],
        }
        for group, n in counts.items()
    ]
    return {"name": name, "groups": groups}


@dataclass(frozen=True, slots=True)
class _Counts:
    """Persons of one group: who has it, who has not, and of them who is found, who is cleared."""

    positive: int
    negative: int
    found: int
    cleared: int


def _merged(names: Sequence[str], rule: CellRule) -> list[str]:
    """Put groups of too few persons, which may be rare names, together with the smallest others."""
    sizes = Counter(names)
    order = sorted(sizes, key=lambda one: (-sizes[one], one))
    kept = {one for one in order[:_MOST_GROUPS] if not rule.small(sizes[one])}
    return [name if name in kept else OTHER for name in names]


def _order(names: Sequence[str]) -> list[str]:
    sizes = Counter(names)
    return sorted(sizes, key=lambda one: (one == OTHER, -sizes[one], one))
