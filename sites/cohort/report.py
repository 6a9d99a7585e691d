"""
The report of a delivery: report.json for programs, report.html for people.

    write_report(folder, Delivered(...))

Every count of persons in it went through the small-cell rule, and every other figure is computed
from counts that did, so the report may leave the enclave after its usual download review; the
tables beside it may not. What it says of whom: report_people (who is in, who was lost),
report_reference, report_links, report_images, report_checks; how it looks: report_page.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sites.cohort.attrition import Attrition, Step
from sites.cohort.delivered import TableFacts
from sites.cohort.disclosure import HIDDEN, CellRule, Shown
from sites.cohort.refreshed import hold_back
from sites.cohort.report_checks import plausibility
from sites.cohort.report_groups import AGE_GROUPS, SEX_GROUPS, age_group, table_of
from sites.cohort.report_images import imaging_characteristics
from sites.cohort.report_links import LinkQuality, link_quality
from sites.cohort.report_page import html_of, readable_count
from sites.cohort.report_people import who_is_in, who_was_lost
from sites.cohort.report_reference import load_reference, representativeness

VERSION = 2

_TRACE = (
    "Every row of a table carries a person_id that exists in this folder only. "
    "side/cohort_person gives its cohort ID, which the broker issued for this delivery alone and "
    "can trace, in its signed log, to the run and the record pseudonyms; only the enclave and the "
    "imaging commons can turn their own pseudonym back into a person. "
    "No link leads from this folder to a local record id."
)
_UIDS = (
    "Study and series UIDs are the originals, so two deliveries can be joined on them whatever "
    "their person ids; do not combine deliveries unless the stewards approved it."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delivered:
    """
    What the report tells, with exact counts; `report_of` makes them fit to be read.

    steps: of the enclave, from matched to delivered. described: ClinicalResult.persons of the
    delivered. table_rows: rows by path in the folder. facts: by OMOP table. ambiguous: series left
    out because two persons claim them or their study. people: the matched persons
    (report_people.describe), links: how they were linked; None where nobody can tell. reference:
    the file of another reference population than the shipped one. earlier: of a refreshed cohort,
    the counts that its earlier reports showed (refreshed.shown_figures).
    """

    title: str
    purpose: str
    spec_hash: str
    imaging_words: Sequence[str]
    clinical_words: Sequence[str]
    study_id: str
    minimum_cell: int
    image_retrieval: str
    trace: Mapping[str, str]
    imaging: Attrition | None
    steps: Sequence[Step]
    described: pa.Table
    has_age: bool
    table_rows: Mapping[str, int]
    facts: Mapping[str, TableFacts]
    studies: int
    ambiguous: int
    without_concept: int
    without_date: int
    unknown_persons: Mapping[str, int]
    notes: Sequence[str]
    made_at: dt.datetime
    people: pa.Table | None = None
    links: LinkQuality | None = None
    reference: Path | None = None
    earlier: Sequence[Mapping[str, int]] = ()


def write_report(folder: Path, delivered: Delivered) -> dict[str, Any]:
    """Write report.json and report.html into `folder`; return what report.json holds."""
    files = {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    report = report_of(delivered, folder)
    if delivered.earlier:
        report = hold_back(report, delivered.earlier)
    report |= {"files": files, "earlier": [dict(one) for one in delivered.earlier]}
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(html_of(report), encoding="utf-8")
    return report


def report_of(made: Delivered, folder: Path | None = None) -> dict[str, Any]:
    """
    Return the report without its file digests, every count as it may be read.

    folder: the delivered tables; without them nothing is said of images and plausibility.
    """
    rule = CellRule(made.minimum_cell)
    persons = made.steps[-1].subjects
    sexes = made.described["sex"].to_pylist()
    ages = [age_group(age) for age in made.described["age"].to_pylist()]
    steps = steps_shown([(s.label, s.subjects, {}) for s in made.steps], rule)
    reasons = [step.reason for step in made.steps[1:]]
    last = len(made.steps) - 1
    tables: dict[str, dict[str, Shown] | None] = {
        "sex": table_of(sexes, SEX_GROUPS, rule),
        "age": table_of(ages, AGE_GROUPS, rule) if made.has_age else None,
        "race": None,
        "ethnicity": None,
    }
    if made.people is not None:
        tables |= who_is_in(made.people, last, rule)
    units = made.described.column_names.count("unit")
    delivered = frozenset(made.described["unit"].to_pylist()) if units else frozenset()
    return {
        "version": VERSION,
        "title": made.title,
        "purpose": made.purpose,
        "study": made.study_id,
        "made_at": made.made_at.replace(microsecond=0).isoformat(),
        "specification": {
            "hash": made.spec_hash,
            "imaging": list(made.imaging_words),
            "clinical": list(made.clinical_words),
        },
        "minimum_cell": made.minimum_cell,
        "persons": rule.show(persons),
        "studies": _unless_few(made.studies, persons, rule),
        "series": _unless_few(made.table_rows["omop/image_occurrence"], persons, rule),
        **tables,
        "attrition": {
            "imaging": _imaging_steps(made.imaging, rule),
            "enclave": steps,
        },
        "lost_links": lost_links(steps, reasons),
        "lost_groups": []
        if made.people is None
        else who_was_lost(made.people, made.steps, rule, today=made.made_at.date()),
        "links": link_quality(made.links, delivered, rule),
        "representativeness": representativeness(
            tables, rule.show(persons), load_reference(made.reference)
        ),
        "images": imaging_characteristics(folder, rule) if folder else [],
        "plausibility": plausibility(folder, rule) if folder else [],
        "tables": _tables(made, rule, folder),
        "image_retrieval": made.image_retrieval,
        "warnings": _warnings(made, rule),
        "trace": dict(made.trace),
        "traceability": f"{_TRACE} {_UIDS}",
    }


def steps_shown(
    steps: Sequence[tuple[str, int, Mapping[str, int | None]]], rule: CellRule
) -> list[dict[str, Any]]:
    """Return (label, people, other counts) as they may be read; others only where people are."""
    shown = rule.show_steps([people for _, people, _ in steps])
    return [
        {"step": label, "persons": people}
        | {name: n if isinstance(people, int) else HIDDEN for name, n in others.items()}
        for (label, _, others), people in zip(steps, shown, strict=True)
    ]


def lost_links(steps: Sequence[Mapping[str, Any]], reasons: Sequence[str]) -> list[dict[str, Any]]:
    """Return, by reason, how many links were lost, from nothing but the counts that are shown."""
    lost = []
    for (before, after), reason in zip(itertools.pairwise(steps), reasons, strict=True):
        exact = isinstance(before["persons"], int) and isinstance(after["persons"], int)
        count = before["persons"] - after["persons"] if exact else HIDDEN
        lost.append({"reason": reason, "persons": count})
    return lost


def _imaging_steps(imaging: Attrition | None, rule: CellRule) -> list[dict[str, Any]]:
    if imaging is None:
        return []
    return steps_shown(
        [(s.label, s.subjects, {"studies": s.studies, "series": s.series}) for s in imaging.steps],
        rule,
    )


def _tables(made: Delivered, rule: CellRule, folder: Path | None) -> list[dict[str, Any]]:
    """Return rows by table; hidden where rows count persons, or their complement, and are few."""
    total = made.steps[-1].subjects
    tables = []
    for path, rows in made.table_rows.items():
        persons = _persons(made, path, rows, folder)
        shown: Shown = rows
        few = rule.small(persons) or (rows == persons and rule.small(total - persons))
        if few or rule.small(total):
            shown = HIDDEN if rows else 0
        tables.append({"table": path, "rows": shown})
    return tables


def _persons(made: Delivered, path: str, rows: int, folder: Path | None) -> int:
    """Return of how many persons a table tells; of all, where it names none."""
    facts = made.facts.get(path.rpartition("/")[2])
    file = folder / f"{path}.parquet" if folder else None
    if file is not None and file.is_file() and "person_id" in pq.read_schema(file).names:
        return len(pc.unique(pq.read_table(file, columns=["person_id"])["person_id"]))
    if facts:
        return facts.persons
    return rows if path == "omop/cohort" else made.steps[-1].subjects


def _unless_few(count: int, persons: int, rule: CellRule) -> Shown:
    return HIDDEN if rule.small(persons) else count


def _warnings(made: Delivered, rule: CellRule) -> list[str]:
    """Return what the researcher must know before believing a result."""
    facts = list(made.facts.values())
    counted = [
        (sum(f.orphan_visits for f in facts), "references to a visit resolve to none: now null"),
        (sum(f.texts_left_out for f in facts), "texts are left out: too few persons share them"),
        (sum(f.concepts_filled for f in facts), "missing required concepts are now 0"),
        (sum(f.undated for f in facts), "rows are left out: the CDM requires their date"),
        (made.ambiguous, "series are left out: two persons claim them or their study"),
        (made.without_concept, "series have a modality without concept: modality_concept_id is 0"),
        (made.without_date, "series have no date: image_occurrence_date is 1900-01-01"),
        *(
            (count, f"persons have rows in {table} of the source but do not exist: not delivered")
            for table, count in made.unknown_persons.items()
        ),
    ]
    warnings = [f"{readable_count(rule.show(count))} {text}" for count, text in counted if count]
    dates = (
        "Image dates are as the imaging commons gives them (side/image_occurrence_provenance); "
        "compare no image date with a clinical date unless its frame is 'true'"
    )
    notes = [*made.notes, *(made.imaging.notes if made.imaging else ())]
    return [dates, *warnings, *(note for note in dict.fromkeys(notes))]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
