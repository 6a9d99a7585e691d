"""
A rehearsal's cohort: one question, its approvals, one delivery, joined, and traced to the truth.

Every step is what the real actors do; only that one machine plays them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from linkage.cohort.spec import CohortSpec, load_spec
from linkage.errors import LinkageError
from sites.answers import answer_imaging, enclave_of, imaging_of, send_rows
from sites.asking import ask, read_counts
from sites.cohort.clinical import evaluate
from sites.cohort.counts import Counts
from sites.cohort.imaging import ImagingAnswer
from sites.enclave import Joined, count, join, open_omop
from sites.questions import decide
from sites.rehearsal import Actors, Rehearsed, wait_for_job
from sites.session import Session

Truth = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Traced:
    """
    Delivered persons and image rows, how many of each are right, and how many there should be.

    persons_true, rows_true: what a perfect linkage would deliver, by the truth.
    """

    persons: int
    persons_right: int
    persons_true: int
    rows: int
    rows_right: int
    rows_true: int


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
            summary += (
                f"; {traced.rows_right:,} of {traced.rows:,} image rows right,"
                f" {traced.rows_true - traced.rows_right:,} missed"
            )
            for noun, right, made_of, true in (
                ("persons", traced.persons_right, traced.persons, traced.persons_true),
                ("image rows", traced.rows_right, traced.rows, traced.rows_true),
            ):
                rows.append([f"{noun} right", f"{right:,} of {made_of:,}"])
                rows.append([f"{noun} missed", f"{true - right:,} of {true:,}"])
            found["traced"] = asdict(traced)
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
        question = _ask(people, enclave, rehearsed.run.run_id, spec, out / "questions")
        decide(imaging, question, "approve")
        answer = answer_imaging(imaging, question)
        counts = count(enclave, question)
        told = read_counts(enclave, question, out / "questions")
        if told != counts.to_json():
            raise LinkageError("the researcher was told other counts than the enclave made")
    with people.watch.stage("cohort: delivery"):
        decide(enclave, question, "approve")
        job = enclave.broker.start_delivery(enclave.study_id, question)
        wait_for_job(people, job)
        send_rows(imaging, question, job.job_id)
    with people.watch.stage("cohort: join"):
        joined = join(enclave, question, out / "cohort")
    traced = _trace(spec, joined, answer, truth, imaging, enclave) if truth else None
    return RehearsedCohort(spec, counts, joined, traced)


def _ask(people: Actors, asker: Session, run_id: str, spec: CohortSpec, folder: Path) -> str:
    asked = ask(asker, spec, run_id, folder=folder)
    return wait_for_job(people, asked.job).job_id


def _trace(
    spec: CohortSpec,
    joined: Joined,
    answer: ImagingAnswer,
    truth: Truth,
    imaging: Session,
    enclave: Session,
) -> Traced:
    folder = joined.delivery.folder
    cohort_of = _columns(folder / "side" / "cohort_person.parquet", "person_id", "cohort_id")
    table = pq.read_table(
        folder / "omop" / "image_occurrence.parquet", columns=["person_id", "image_series_uid"]
    )
    subject_of = {
        series: record_id
        for record_id, rows in answer.subjects()
        for series in rows["series_uid"].to_pylist()
    }
    who = truth[enclave.party]
    whose = truth[imaging.party]
    rows_right, wrong = 0, set[int]()
    for person, series in zip(*(column.to_pylist() for column in table.columns), strict=True):
        claimed = who.get(joined.record_of[cohort_of[person]])
        if claimed is not None and claimed == whose.get(subject_of[series]):
            rows_right += 1
        else:
            wrong.add(person)
    persons_true, rows_true = _ideal(spec, answer, truth, imaging, enclave)
    return Traced(
        persons=len(cohort_of),
        persons_right=len(cohort_of) - len(wrong),
        persons_true=persons_true,
        rows=table.num_rows,
        rows_right=rows_right,
        rows_true=rows_true,
    )


def _ideal(
    spec: CohortSpec, answer: ImagingAnswer, truth: Truth, imaging: Session, enclave: Session
) -> tuple[int, int]:
    """Return persons and image rows that a perfect linkage would deliver."""
    subject_of = {
        person: record_id
        for record_id, person in truth[imaging.party].items()
        if record_id in answer.spans
    }
    both = {record: who for record, who in truth[enclave.party].items() if who in subject_of}
    with open_omop(enclave) as source:
        among = {person: both[record] for record, person in source.persons_of(both).items()}
        fit = evaluate(spec.clinical, source, among=among).persons["unit"].to_pylist()
    return len(fit), sum(answer.rows_of(subject_of[person]).num_rows for person in fit)


def _columns(path: Path, key: str, value: str) -> dict[Any, Any]:
    table = pq.read_table(path, columns=[key, value])
    return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))
