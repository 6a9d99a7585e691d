"""
Build a delivery, in the enclave: matched persons, their OMOP rows and their imaging rows, joined.

    delivery = deliver(asked=asked, terms=terms, matches=matches, images=images,
                       source=source, out=Path("delivery"))

1. Keep the matched persons that exist in OMOP, 2. that meet the clinical criteria, 3. whose
imaging rows came and are theirs alone. 4. Number them anew, 5. write OMOP, MI-CDM and side tables,
manifest and report into a temporary folder beside `out`, 6. check it, 7. rename it to `out`.
If anything fails, no `out` appears. Every lost link is counted under the step that lost it.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linkage.errors import Conflict, KeyRefused, PackageRefused
from sites.cohort import cdm
from sites.cohort.attrition import Attrition, Step
from sites.cohort.clinical import evaluate
from sites.cohort.delivered import Deliverer, Numbering, number_persons
from sites.cohort.integrity import COHORT_PERSON, OMOP_FOLDER, SIDE_FOLDER, check_delivery
from sites.cohort.manifest import Retrieval, write_manifests
from sites.cohort.mi_cdm import ImageTables, certain_series, image_tables, load_concepts
from sites.cohort.omop import OmopSource
from sites.cohort.report import Delivered, write_report
from sites.cohort.spec import (
    ClinicalCriteria,
    CohortSpec,
    ImagingCriteria,
    clinical_in_words,
    imaging_in_words,
)

COHORT_DEFINITION_ID = 1
"""A delivery holds one cohort; which one says report.json."""

SEED_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    The approved question, as the enclave knows it.

    spec_hash: what the stewards approved. imaging: None where the enclave was not told.
    """

    title: str
    purpose: str
    spec_hash: str
    clinical: ClinicalCriteria
    imaging: ImagingCriteria | None = None


def asked_of(spec: CohortSpec) -> Asked:
    """Return what a whole specification asks; for rehearsals, where one machine knows all of it."""
    return Asked(
        title=spec.cohort.title,
        purpose=spec.cohort.purpose,
        spec_hash=spec.hash,
        clinical=spec.clinical,
        imaging=spec.imaging,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    Under what the delivery is made. minimum_cell, image_retrieval: as the study says.

    trace: what links the delivery to the audit log, such as release, run, result digest.
    """

    study_id: str
    minimum_cell: int
    image_retrieval: Retrieval
    trace: Mapping[str, str] = field(default_factory=dict)
    commons_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """
    What was delivered. Counts are exact: they are for the enclave's operator, not for a researcher.

    lost: by reason, how many matched persons were lost. report: what report.json holds.
    """

    folder: Path
    persons: int
    series: int
    studies: int
    lost: dict[str, int]
    report: dict[str, Any]


def deliver(
    *,
    asked: Asked,
    terms: Terms,
    matches: pa.Table,
    images: Mapping[str, Sequence[pa.Table]],
    source: OmopSource,
    out: Path,
    imaging_attrition: Attrition | None = None,
    not_opened: Collection[str] = (),
    cover: pa.Table | None = None,
    seed: bytes | None = None,
    made_at: dt.datetime | None = None,
) -> Delivery:
    """
    Join one approved cohort into the new folder `out`.

    matches: cohort_id (string), person_id (integer), one row a matched OMOP person; several
    persons of one cohort ID become one; null: the record is in no OMOP table. images: by cohort
    ID, series rows (SERIES_SCHEMA), one table a bundle that opened. not_opened: cohort IDs whose
    rows came but did not open. cover: the imaging party's manifest of all that fits. seed: 32
    secret bytes that order the new person ids; fresh by default, so that two deliveries have
    nothing in common.

    Raises Conflict if `out` exists and is not empty, PackageRefused for malformed matches or rows,
    KeyRefused for a short seed, SourceRefused for an unusable source, DeliveryFaulty if the result
    fails its own check.
    """
    units, matched = _units(matches)
    if not set(images) <= matched:
        raise PackageRefused("imaging rows came for nobody in the crosswalk", hint=_AGAIN)
    series, ambiguous = certain_series(images)
    with new_folder(out) as folder:
        chosen = _choose(asked, units, matched, images, not_opened, series, source)
        numbering = number_persons(chosen.persons.values(), source, _seed(seed))
        tables, facts = Deliverer(
            source, chosen.persons, numbering, minimum_cell=terms.minimum_cell
        ).all_tables()
        made = image_tables(
            series,
            numbering.persons,
            load_concepts(source.config.concepts),
            base=numbering.base,
            procedures=tables["procedure_occurrence"].num_rows,
            mirror_root=source.config.mirror_root if terms.image_retrieval == "mirror" else None,
        )
        _write_tables(folder, tables, made, numbering, chosen.described)
        warnings = write_manifests(
            folder / "images",
            terms.image_retrieval,
            image_occurrence=made.image_occurrence,
            rows=made.rows,
            cover=cover,
            commons_url=terms.commons_url,
        )
        local_ids = source.table("person").person_id.to_pyarrow()
        rows = check_delivery(folder, local_person_ids=local_ids.to_pylist())
        told = _told(asked, terms, chosen, made, source)
        report = write_report(
            folder,
            Delivered(
                **told,
                imaging=imaging_attrition,
                table_rows=rows,
                facts=facts,
                ambiguous=ambiguous,
                notes=(*warnings, *chosen.notes, *source.notes),
                made_at=made_at or dt.datetime.now(dt.UTC),
            ),
        )
    return Delivery(
        folder=out,
        persons=len(numbering.persons),
        series=made.image_occurrence.num_rows,
        studies=made.procedures.num_rows,
        lost=lost_by_reason(chosen.steps),
        report=report,
    )


_AGAIN = "ask the broker for the delivery again; if it stays so, report it to the study's custodian"


def matches_table(pairs: Sequence[tuple[str, int | None]]) -> pa.Table:
    """Return (cohort ID, person_id) pairs as the table that `deliver` takes."""
    cohort_ids = pa.array([cohort_id for cohort_id, _ in pairs], pa.string())
    return pa.table(
        {"cohort_id": cohort_ids, "person_id": pa.array([p for _, p in pairs], pa.int64())}
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Chosen:
    """
    Whom to deliver. persons: cohort ID by person_id. described: ClinicalResult.persons of them.

    steps: persons, counted as cohort IDs, from matched to delivered.
    """

    persons: dict[int, str]
    described: pa.Table
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def _seed(given: bytes | None) -> bytes:
    if given is None:
        return secrets.token_bytes(SEED_BYTES)
    if len(given) < SEED_BYTES:
        raise KeyRefused(
            "the seed of the new person ids is too short",
            hint=f"give {SEED_BYTES} random bytes, or none and a fresh one is drawn",
        )
    return given


def _told(
    asked: Asked, terms: Terms, chosen: _Chosen, made: ImageTables, source: OmopSource
) -> dict[str, Any]:
    """Return what the report takes over from the question, its terms and the tables made."""
    return {
        "title": asked.title,
        "purpose": asked.purpose,
        "spec_hash": asked.spec_hash,
        "imaging_words": imaging_in_words(asked.imaging) if asked.imaging else [],
        "clinical_words": clinical_in_words(asked.clinical),
        "has_age": asked.clinical.age_at is not None,
        "study_id": terms.study_id,
        "minimum_cell": terms.minimum_cell,
        "image_retrieval": terms.image_retrieval,
        "trace": dict(terms.trace),
        "steps": chosen.steps,
        "described": chosen.described,
        "studies": made.procedures.num_rows,
        "without_concept": made.without_concept,
        "without_date": made.without_date,
        "unknown_persons": source.unknown_persons(),
    }


def _units(matches: pa.Table) -> tuple[dict[int, str], set[str]]:
    """Return cohort ID by person_id, and all cohort IDs. Raises PackageRefused if malformed."""
    try:
        cohort_ids = matches["cohort_id"].cast(pa.string()).to_pylist()
        persons = matches["person_id"].cast(pa.int64()).to_pylist()
    except (KeyError, pa.ArrowException):
        raise PackageRefused(
            "the matches need the columns cohort_id (text) and person_id (integer)", hint=_AGAIN
        ) from None
    if None in cohort_ids or "" in cohort_ids:
        raise PackageRefused("a match lacks its cohort ID", hint=_AGAIN)
    units: dict[int, str] = {}
    for cohort_id, person in zip(cohort_ids, persons, strict=True):
        if person is not None and units.setdefault(person, cohort_id) != cohort_id:
            raise PackageRefused("one person has two cohort IDs", hint=_AGAIN)
    return units, set(cohort_ids)


def _choose(
    asked: Asked,
    units: Mapping[int, str],
    matched: Collection[str],
    images: Mapping[str, Sequence[pa.Table]],
    not_opened: Collection[str],
    series: pa.Table,
    source: OmopSource,
) -> _Chosen:
    result = evaluate(asked.clinical, source, among=units)
    fits = set(result.persons["unit"].to_pylist())
    sent = fits & (set(images) | set(not_opened))
    opened = sent & {unit for unit, tables in images.items() if any(t.num_rows for t in tables)}
    delivered = opened & set(pc.unique(series["cohort_id"]).to_pylist())
    steps = (
        Step(label="matched persons that the delivery names", subjects=len(matched)),
        *result.attrition.steps,
        Step(
            label="whose rows the imaging commons sent",
            subjects=len(sent),
            reason="no imaging rows came: the images do not fit, or the record is gone",
        ),
        Step(
            label="whose rows opened",
            subjects=len(opened),
            reason="the imaging rows did not open with their row key",
        ),
        Step(
            label="whose series are certain",
            subjects=len(delivered),
            reason="another person claims the same study or series",
        ),
    )
    known = set(source.table("person").person_id.to_pyarrow().to_pylist())
    return _Chosen(
        persons={p: u for p, u in units.items() if u in delivered and p in known},
        described=result.persons.filter(
            pc.is_in(result.persons["unit"], value_set=pa.array(sorted(delivered), pa.string()))
        ),
        steps=steps,
        notes=result.attrition.notes,
    )


def lost_by_reason(steps: Sequence[Step]) -> dict[str, int]:
    """Return how many were lost, exactly, by reason; only reasons that lost some."""
    pairs = itertools.pairwise(steps)
    lost = {after.reason: before.subjects - after.subjects for before, after in pairs}
    return {reason: count for reason, count in lost.items() if count}


def _write_tables(
    folder: Path,
    tables: Mapping[str, pa.Table],
    made: ImageTables,
    numbering: Numbering,
    described: pa.Table,
) -> None:
    omop, side = folder / OMOP_FOLDER, folder / SIDE_FOLDER
    omop.mkdir()
    side.mkdir()
    procedures = pa.concat_tables([tables["procedure_occurrence"], made.procedures])
    for name, table in {**tables, "procedure_occurrence": procedures}.items():
        pq.write_table(table, omop / f"{name}.parquet")
    cohort = _cohort_table(described, numbering, tables["observation_period"])
    pq.write_table(cohort, omop / f"{cdm.COHORT.name}.parquet")
    pq.write_table(made.image_occurrence, omop / "image_occurrence.parquet")
    pq.write_table(made.provenance, side / "image_occurrence_provenance.parquet")
    pq.write_table(made.series, side / "image_series.parquet")
    by_number = sorted(numbering.persons.items(), key=lambda pair: pair[1])
    columns = {
        "cohort_id": pa.array([cohort_id for cohort_id, _ in by_number], pa.string()),
        "person_id": pa.array([number for _, number in by_number], pa.int32()),
    }
    pq.write_table(pa.table(columns).cast(COHORT_PERSON), side / "cohort_person.parquet")


def _cohort_table(described: pa.Table, numbering: Numbering, periods: pa.Table) -> pa.Table:
    """
    Return the OMOP cohort: from the index date to the end of the observation period it lies in.

    Without an index date the first observation period counts; a person without either is not in
    the table. An index date outside all periods ends on the same day.
    """
    spans: dict[int, list[tuple[dt.date, dt.date]]] = {}
    names = ("person_id", "observation_period_start_date", "observation_period_end_date")
    for person, start, end in zip(*(periods[name].to_pylist() for name in names), strict=True):
        spans.setdefault(person, []).append((start, end))
    rows = []
    for unit, index in zip(
        described["unit"].to_pylist(), described["index_date"].to_pylist(), strict=True
    ):
        person = numbering.persons[unit]
        known = sorted(spans.get(person, []))
        start = index or (known[0][0] if known else None)
        if start is not None:
            ends = [end for first, end in known if first <= start <= end]
            rows.append((COHORT_DEFINITION_ID, person, start, max(ends, default=start)))
    schema = cdm.COHORT.schema()
    columns = list(zip(*sorted(rows), strict=True)) or [()] * len(schema)
    return pa.table(
        {f.name: pa.array(values, f.type) for f, values in zip(schema, columns, strict=True)}
    ).cast(schema)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """
    Yield a temporary folder beside `out` that only its owner can read; at the end it becomes `out`.

    Nothing is left if the block fails. Raises Conflict if `out` exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(
            f"{out.name} exists and is not empty",
            hint="name a new folder: a delivery never mixes with what is already there",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    building = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    building.mkdir(mode=0o700)
    try:
        yield building
        os.replace(building, out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
