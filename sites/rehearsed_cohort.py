"""
A rehearsal's cohort: one question, its approvals, one delivery, joined, and traced to the truth.

Every step is what the real actors do; only that one machine plays them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sites.answers import answer_imaging, enclave_of, imaging_of, send_rows
from sites.cohort.counts import Counts
from sites.cohort.imaging import ImagingAnswer
from sites.cohort.spec import CohortSpec, load_spec
from sites.enclave import Joined, count, join
from sites.questions import decide, request_of
from sites.rehearsal import Actors, Rehearsed, wait_for_job
from sites.session import Session

Truth = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Traced:
    """Delivered persons and image rows, and how many of each are of the right person."""

    persons: int
    persons_right: int
    rows: int
    rows_right: int


@dataclass(frozen=True, slots=True)
class RehearsedCohort:
    """What was counted, delivered and, with a truth file, traced."""

    spec: CohortSpec
    counts: Counts
    joined: Joined
    traced: Traced | None

    def as_json(self) -> dict[str, Any]:
        """Return what report.json says of the cohort, and its table for report.html."""
        made = self.joined.delivery
        summary = f"{made.persons:,} persons, {made.studies:,} studies, {made.series:,} series"
        rows = [
            ["persons counted before approval", str(self.counts.persons)],
            ["persons delivered", f"{made.persons:,}"],
            ["imaging studies", f"{made.studies:,}"],
            ["image rows (series)", f"{made.series:,}"],
            *([f"lost: {why}", f"{lost:,}"] for why, lost in made.lost.items()),
        ]
        found: dict[str, Any] = {
            "id": self.spec.cohort.id,
            "persons": made.persons,
            "studies": made.studies,
            "series": made.series,
            "counts": self.counts.to_json(),
            "lost": made.lost,
            "folder": str(made.folder),
        }
        if self.traced:
            traced = self.traced
            summary += f"; {traced.rows_right:,} of {traced.rows:,} image rows right"
            rows.append(["persons right", f"{traced.persons_right:,} of {traced.persons:,}"])
            rows.append(["image rows right", f"{traced.rows_right:,} of {traced.rows:,}"])
            found["traced"] = {
                "persons": traced.persons,
                "persons_right": traced.persons_right,
                "rows": traced.rows,
                "rows_right": traced.rows_right,
            }
        note = f"{self.spec.cohort.title}. Its own report is in {made.folder}."
        return {**found, "summary": summary, "table": {"rows": rows, "note": note}}


def deliver_cohort(
    people: Actors, rehearsed: Rehearsed, cohort: Path, out: Path, truth: Truth | None
) -> RehearsedCohort:
    """Ask, answer, approve, deliver and join the cohort of `cohort` into `out/cohort`."""
    spec = load_spec(cohort)
    first = next(iter(people.sessions.values()))
    imaging, enclave = people.sessions[imaging_of(first)], people.sessions[enclave_of(first)]
    with people.watch.stage("cohort: question"):
        question = _ask(people, enclave, rehearsed.run.run_id, spec)
        answer = answer_imaging(imaging, question)
        counts = count(enclave, question)
    with people.watch.stage("cohort: delivery"):
        for steward in (imaging, enclave):
            decide(steward, question, "approve")
        job = enclave.broker.start_delivery(enclave.study_id, question)
        wait_for_job(people, job)
        send_rows(imaging, question, job.job_id)
    with people.watch.stage("cohort: join"):
        joined = join(enclave, question, out / "cohort")
    traced = _trace(joined, answer, truth, imaging.party, enclave.party) if truth else None
    return RehearsedCohort(spec, counts, joined, traced)


def _ask(people: Actors, asker: Session, run_id: str, spec: CohortSpec) -> str:
    job = asker.broker.ask_question(asker.study_id, request_of(spec, run_id))
    return wait_for_job(people, job).job_id


def _trace(
    joined: Joined, answer: ImagingAnswer, truth: Truth, imaging: str, enclave: str
) -> Traced:
    folder = joined.delivery.folder
    cohort_of = _columns(folder / "side" / "cohort_person.parquet", "person_id", "cohort_id")
    record_of = {person: joined.record_of[cohort_of[person]] for person in cohort_of}
    subject_of = {
        series: record_id
        for record_id, rows in answer.subjects()
        for series in rows["series_uid"].to_pylist()
    }
    table = pq.read_table(
        folder / "omop" / "image_occurrence.parquet", columns=["person_id", "image_series_uid"]
    )
    pairs = list(
        zip(table["person_id"].to_pylist(), table["image_series_uid"].to_pylist(), strict=True)
    )
    right = {
        (person, series)
        for person, series in pairs
        if truth[enclave].get(record_of[person], "") == truth[imaging].get(subject_of[series], "?")
    }
    wrong = {person for person, series in pairs if (person, series) not in right}
    return Traced(len(cohort_of), len(set(cohort_of) - wrong), len(pairs), len(right))


def _columns(path: Path, key: str, value: str) -> dict[Any, Any]:
    table = pq.read_table(path, columns=[key, value])
    return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))
