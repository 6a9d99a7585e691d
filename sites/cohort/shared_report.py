"""
The report of a delivered cohort as it may be read beside the question's counts: for the researcher,
outside the enclave.

    report = shared_report(ledger, asked, cohort)

The report in the folder is exact where it is not small, so beside blurred counts it would tell by
how much these were moved. This one is an answer like a count: every number in it is what
sites.cohort.shown_sets lets be read of the very persons counted, given all that the ledger says was
shown before, and is entered there before it is shown. Persons who are delivered and were counted
therefore read the same in both. Every other figure is computed from the numbers that are shown.

What it leaves out because it would be further sets of the same persons, or no persons: who was
lost, counts of studies and rows, plausibility. Those are in the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sites.cohort.config_counts import Variable
from sites.cohort.counts import CountAsked
from sites.cohort.disclosure import TOO_FEW, Shown
from sites.cohort.ledger import Entry, Ledger
from sites.cohort.one_way import Cell, categorized, cells_of
from sites.cohort.report_links import LinkQuality
from sites.cohort.report_numbers import distance
from sites.cohort.report_reference import Reference
from sites.cohort.report_reference import Variable as Compared
from sites.cohort.shown_sets import SMALL, ShownSets
from sites.cohort.spent import Ints

VERSION = 1
OTHER = "another, or not said"
"""Stands for all groups that few share: which these are would be told by naming them."""

_DELIVERED = "delivered: their images came, and are nobody else's"
_TOO_FEW = "too few persons for a table"
_TOO_MUCH = "much was told of these persons in this epoch, and the rest is for counts"
NOTES = (
    "Image dates are as the imaging commons gives them; compare none with a clinical date unless"
    " side/image_occurrence_provenance says that its frame is true.",
    "Persons whom no link found are not here, and nobody knows how many have fitting images. Where"
    " a link is wrong, a person has another person's images.",
    "A cohort of patients need not be like the population; who reads results of it should know"
    " where it is not.",
    "Exact figures, who was lost on the way, and what is not plausible are in report.html, beside"
    " the cohort, inside the enclave.",
)

Show = Callable[[Ints], Shown]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedCohort:
    """
    What a shared report is made of. Exact; it stays inside.

    about: title, purpose, study and the like, as they are. people: one row a delivered person:
    name, sex, age, race, ethnicity. groups: further one-way groups by name, parallel to people,
    such as the modality. variables: of people, which of them may be shown. counted: the steps that
    were shown of the question, none where it was not counted; tabled: the variables of its tables.
    """

    about: Mapping[str, Any]
    people: pa.Table
    groups: Mapping[str, Sequence[str]]
    variables: Sequence[Variable]
    counted: Sequence[Mapping[str, Any]]
    tabled: Collection[str]
    links: LinkQuality
    reference: Reference


def shared_report(
    ledger: Ledger, asked: CountAsked, cohort: SharedCohort, *, keep: bool = True
) -> dict[str, Any]:
    """
    Return the report, and enter it in the ledger; one that was made before stays as it was.

    asked: question is the delivery's ID. keep: False to see what would be shown; then nothing is
    written, not even which persons are new. Raises Conflict while another process counts, unless
    nothing is kept; NotAllowed where the epoch's questions are used up.
    """
    with ledger.held() if keep else nullcontext(ledger.looked_at()) as book:
        if before := book.answered(asked.question):
            return dict(before.answer["report"])
        book.require_room()
        numbers = book.numbers(cohort.people["name"].to_pylist())
        sets = book.shown_sets()
        report = _told(cohort, numbers, sets, ledger)
        if keep:
            answer = {"persons": report["persons"], "attrition": [], "report": report}
            entry = Entry(
                question=asked.question,
                run=asked.run,
                epoch=ledger.epoch,
                at=asked.at,
                asked=hashlib.sha256(asked.question.encode()).hexdigest(),
                answer=answer,
                exact=len(numbers),
            )
            book.keep(entry, sets.added)
        return report


def _told(cohort: SharedCohort, numbers: Ints, sets: ShownSets, ledger: Ledger) -> dict[str, Any]:
    persons = sets.show(numbers)
    tables: dict[str, list[Cell] | None] = {}
    # As with counts: a table of few persons would use up what may be told of them.
    large = isinstance(persons, int) and persons >= SMALL * ledger.minimum
    for variable in cohort.variables:
        # What stands beside the counts costs no more when it is told again.
        if large and (variable in cohort.tabled or sets.may_cut(numbers)):
            values = cohort.people[variable].combine_chunks()
            tables[variable] = cells_of(categorized(variable, values, numbers), sets.show)
        else:
            tables[variable] = None
    distances = [_distance(one, tables) for one in cohort.reference.variable]
    for name, groups in cohort.groups.items():
        cut = large and sets.may_cut(numbers)
        tables[name] = _open_groups(groups, numbers, sets.show) if cut else None
    evidence = tables.pop("evidence", None)
    why_not = _TOO_MUCH if large else _TOO_FEW
    return {
        "version": VERSION,
        **cohort.about,
        "rules": {
            "minimum_cell": ledger.minimum,
            "rounding": ledger.rules.rounding,
            "noise": ledger.rules.noise,
        },
        "persons": persons,
        "flow": [*cohort.counted, {"step": _DELIVERED, "persons": persons}],
        "tables": [_table(name, cells, why_not) for name, cells in tables.items()],
        "representativeness": {
            "reference": cohort.reference.name,
            "year": cohort.reference.year,
            "source": cohort.reference.source,
            "variables": distances,
        },
        "links": {
            "release": cohort.links.release,
            "estimated_precision": cohort.links.precision,
            "estimated_recall": cohort.links.recall,
            "evidence": _table("evidence", evidence, why_not)["groups"],
            "why_not": cohort.links.why_not,
        },
        "notes": list(NOTES),
    }


def _open_groups(groups: Sequence[str], numbers: Ints, show: Show) -> list[Cell] | None:
    """
    Return cells of groups that come with the data: those of few are OTHER, whether or not there
    are any, so that a name is shown only of enough persons; the largest first.
    """
    found = np.array(groups, dtype=object)
    members = {name: numbers[found == name] for name in sorted(set(groups) - {OTHER})}
    enough = {name: who for name, who in members.items() if show(who) != TOO_FEW}
    named = np.isin(found.astype(str), list(enough))
    cells = cells_of(enough | {OTHER: numbers[~named]}, show)
    return cells and sorted(cells, key=lambda one: (-_number(one.persons), one.names))


def _number(shown: Shown) -> int:
    return shown if isinstance(shown, int) else 0


def _table(name: str, cells: Sequence[Cell] | None, why_not: str) -> dict[str, Any]:
    if cells is None:
        return {"name": name, "groups": None, "why_not": why_not}
    rows = [{"group": " or ".join(one.names), "persons": one.persons} for one in cells]
    return {"name": name, "groups": rows, "why_not": ""}


def _distance(variable: Compared, tables: Mapping[str, Sequence[Cell] | None]) -> dict[str, Any]:
    """Return how far a table, as it is shown, is from the reference; categories that share a cell
    are compared as one."""
    told: dict[str, Any] = {"name": variable.name, "note": variable.note, "groups": []}
    cells = tables.get(variable.name)
    if cells is None:
        return told | {"why_not": "the cohort's own table is not shown"}
    groups = [{name.casefold() for name in one.is_} for one in variable.category]
    rows: list[tuple[str, int, int]] = []
    for which, persons in _together(groups, cells):
        if persons:
            labels = [variable.category[n].label for n in which]
            whole = sum(variable.category[n].count for n in which)
            rows.append((" or ".join(labels), persons, whole))
    if len(rows) < 2:
        return told | {"why_not": "too many of its groups are hidden"}
    known, whole = sum(n for _, n, _ in rows), sum(n for _, _, n in rows)
    found = distance([n for _, n, _ in rows], [n / whole for _, _, n in rows])
    shares = [
        {"group": label, "cohort": round(n / known, 4), "reference": round(m / whole, 4)}
        for label, n, m in rows
    ]
    return told | found | {"groups": shares, "why_not": ""}


def _together(categories: Sequence[set[str]], cells: Sequence[Cell]) -> list[tuple[list[int], int]]:
    """
    Return sets of categories that no cell tells apart, and how many persons they have as shown;
    0 where a cell of theirs has no number.
    """
    parts: list[set[int]] = [{n} for n in range(len(categories))]
    touched = []
    for cell in cells:
        names = {name.casefold() for name in cell.names}
        mine = {n for n, one in enumerate(categories) if one & names}
        touched.append(mine)
        joined = {n for part in parts if part & mine for n in part}
        parts = [part for part in parts if not part & mine] + ([joined] if joined else [])
    found = []
    for part in sorted(parts, key=min):
        shown = [c.persons for c, mine in zip(cells, touched, strict=True) if mine & part]
        numbers = [one for one in shown if isinstance(one, int)]
        found.append((sorted(part), sum(numbers) if len(numbers) == len(shown) else 0))
    return found
