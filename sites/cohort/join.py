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
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import rfc8785

from linkage.cohort.spec import CohortSpec
from linkage.cohort.spec_clinical import ClinicalCriteria
from linkage.cohort.spec_imaging import ImagingCriteria
from linkage.cohort.spec_words import clinical_in_words, imaging_in_words
from linkage.errors import KeyRefused, PackageRefused
from linkage.study_parts import CountRules
from linkage.uses import NON_COMMERCIAL, Use
from sites.cohort.assemble import Assembled, assemble
from sites.cohort.attrition import Attrition, Step
from sites.cohort.calendar import Calendar
from sites.cohort.clinical import evaluate
from sites.cohort.codes import Codebook, load_concepts
from sites.cohort.delivered import number_persons
from sites.cohort.dictionary import write_dictionary
from sites.cohort.disclosure import CellRule
from sites.cohort.duckdb_file import write_duckdb
from sites.cohort.index_dates import calendar_of, study_dates
from sites.cohort.integrity import check_delivery
from sites.cohort.manifest import Retrieval, write_manifests
from sites.cohort.mi_cdm import ImageTables
from sites.cohort.notices import UseNotice, write_terms
from sites.cohort.omop import OmopSource
from sites.cohort.packaging import new_folder, write_checksums, write_crate, write_provenance
from sites.cohort.received import OWNER, Bundle, Received, gather
from sites.cohort.report import Delivered, write_report
from sites.cohort.report_links import LinkQuality
from sites.cohort.report_people import describe, reached

SEED_BYTES = 32
_DEFAULT_COUNTS = CountRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    The approved question, as the enclave knows it.

    spec_hash: what the stewards approved. imaging: None where the enclave was not told.
    """

    title: str
    purpose: str
    use: Use = NON_COMMERCIAL
    spec_hash: str
    clinical: ClinicalCriteria
    imaging: ImagingCriteria | None = None


def asked_of(spec: CohortSpec) -> Asked:
    """Return what a whole specification asks; for rehearsals, where one machine knows all of it."""
    return Asked(
        title=spec.cohort.title,
        purpose=spec.cohort.purpose,
        use=spec.cohort.use,
        spec_hash=spec.hash,
        clinical=spec.clinical,
        imaging=spec.imaging,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    Under what the delivery is made. minimum_cell, image_retrieval: as the study says.

    counts: how the study's answers to questions were blurred, for the provenance. trace: what
    links the delivery to the audit log, such as release, run, result digest.
    notices: by commons, its terms of use; None where it has given none.
    """

    study_id: str
    minimum_cell: int
    image_retrieval: Retrieval
    counts: CountRules = _DEFAULT_COUNTS
    trace: Mapping[str, str] = field(default_factory=dict)
    commons_url: str | None = None
    notices: Mapping[str, UseNotice | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """
    What was delivered. Counts are exact: they are for the enclave's operator, not for a researcher.

    lost: by reason, how many matched persons were lost. report: what report.json holds.
    described: ClinicalResult.persons of the delivered.
    """

    folder: Path
    persons: int
    series: int
    studies: int
    lost: dict[str, int]
    report: dict[str, Any]
    described: pa.Table


def deliver(
    *,
    asked: Asked,
    terms: Terms,
    matches: pa.Table,
    images: Mapping[str, Sequence[Bundle]],
    source: OmopSource,
    out: Path,
    imaging_attrition: Attrition | None = None,
    not_opened: Collection[str] = (),
    cover: pa.Table | None = None,
    seed: bytes | None = None,
    made_at: dt.datetime | None = None,
    links: LinkQuality | None = None,
    earlier: Sequence[Mapping[str, int]] = (),
) -> Delivery:
    """
    Join one approved cohort into the new folder `out`.

    matches: cohort_id (string), person_id (integer), one row a matched OMOP person; several
    persons of one cohort ID become one; null: the record is in no OMOP table. images: by cohort
    ID, what came of the person, one entry a bundle that opened. not_opened: cohort IDs whose
    rows came but did not open. cover: the imaging party's manifest of all that fits. seed: 32
    secret bytes that order the new person ids; fresh by default, so that two deliveries have
    nothing in common. links: how the matched were linked, where this enclave was told.
    earlier: of a refreshed cohort, the counts that its earlier reports showed.

    Raises Conflict if `out` exists and is not empty, PackageRefused for malformed matches or rows,
    KeyRefused for a short seed, SourceRefused for an unusable source, DeliveryFaulty if the result
    fails its own check.
    """
    units, matched = _units(matches)
    if not set(images) <= matched:
        raise PackageRefused("imaging rows came for nobody in the crosswalk", hint=_AGAIN)
    came = gather(images)
    made_at = made_at or dt.datetime.now(dt.UTC)
    with new_folder(out) as folder:
        calendar = calendar_of(source, units, came)
        chosen = _choose(asked, units, matched, not_opened, came, calendar, source)
        numbering = number_persons(chosen.persons.values(), source, _seed(seed))
        made = assemble(
            persons=chosen.persons,
            described=chosen.described,
            numbering=numbering,
            came=came.of_persons(numbering.persons),
            calendar=calendar,
            book=Codebook(load_concepts(source.config.concepts), source),
            source=source,
            minimum_cell=terms.minimum_cell,
            mirror_root=source.config.mirror_root if terms.image_retrieval == "mirror" else None,
            hide_addresses=terms.image_retrieval == "cover",
            definition=_definition(asked),
            made_on=made_at.date(),
        )
        for path, table in made.tables.items():
            _write(folder / f"{path}.parquet", table)
        delivered = pa.array(list(numbering.persons), pa.string())
        warnings = write_manifests(
            folder / "images",
            terms.image_retrieval,
            image_occurrence=made.images.image_occurrence,
            rows=made.images.rows,
            cover=cover,
            files=came.files.filter(pc.is_in(came.files[OWNER], value_set=delivered)),
            commons_url=terms.commons_url,
        )
        local_ids = source.table("person").person_id.to_pyarrow()
        rows = check_delivery(folder, local_person_ids=local_ids.combine_chunks())
        _describe(folder, asked, terms, source, made_at)
        report = write_report(
            folder,
            Delivered(
                **_told(asked, terms, chosen, made.images, source),
                imaging=imaging_attrition,
                table_rows=rows,
                facts=made.facts,
                ambiguous=came.ambiguous,
                notes=(*warnings, *_notes(made, came), *chosen.notes, *source.notes),
                people=chosen.people,
                links=links,
                earlier=earlier,
                reference=source.config.reference,
                made_at=made_at,
            ),
        )
        write_duckdb(folder, rows)
        write_crate(folder, title=asked.title, purpose=asked.purpose, made_at=made_at)
        write_checksums(folder)
    return Delivery(
        folder=out,
        persons=len(numbering.persons),
        series=made.images.image_occurrence.num_rows,
        studies=made.images.studies,
        lost=lost_by_reason(chosen.steps),
        report=report,
        described=chosen.described,
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

    steps: persons, counted as cohort IDs, from matched to delivered. people: all the matched, see
    sites.cohort.report_people.
    """

    persons: dict[int, str]
    described: pa.Table
    people: pa.Table
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
        "studies": made.studies,
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
    not_opened: Collection[str],
    came: Received,
    calendar: Calendar,
    source: OmopSource,
) -> _Chosen:
    days = study_dates(came, calendar, source) if asked.clinical.needs_imaging_dates else None
    result = evaluate(asked.clinical, source, among=units, imaging_days=days)
    fits = set(result.persons["unit"].to_pylist())
    sent = fits & (came.persons | set(not_opened))
    opened = sent & came.persons
    delivered = opened & set(pc.unique(came.series[OWNER]).to_pylist())
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
    stages = (fits, sent, opened, delivered)
    return _Chosen(
        people=describe(source, units, reached(steps, units.values(), stages)),
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


def _describe(
    folder: Path,
    asked: Asked,
    terms: Terms,
    source: OmopSource,
    made_at: dt.datetime,
) -> None:
    """Write what stands beside the tables: dictionary, terms of use, provenance."""
    write_dictionary(folder)
    write_terms(folder, terms.notices, purpose=asked.purpose, use=asked.use)
    write_provenance(
        folder,
        study=terms.study_id,
        spec_hash=asked.spec_hash,
        use=asked.use,
        trace=terms.trace,
        minimum_cell=terms.minimum_cell,
        report_rounding=CellRule(terms.minimum_cell).rounding,
        counts=terms.counts,
        image_retrieval=terms.image_retrieval,
        birth=source.config.birth,
        made_at=made_at,
    )


def _definition(asked: Asked) -> dict[str, str]:
    """Return what cohort_definition says: the question in words, and what its hash commits to."""
    words = ["Persons: " + "; ".join(clinical_in_words(asked.clinical))]
    halves: dict[str, Any] = {"clinical": asked.clinical.model_dump(mode="json")}
    if asked.imaging:
        words.insert(0, "Images: " + "; ".join(imaging_in_words(asked.imaging)))
        halves["imaging"] = asked.imaging.model_dump(mode="json")
    return {
        "name": asked.title,
        "description": ". ".join([*words, f"Purpose: {asked.purpose}"]),
        "syntax": rfc8785.dumps({"spec_hash": asked.spec_hash, **halves}).decode(),
    }


def _notes(made: Assembled, came: Received) -> tuple[str, ...]:
    """Return what the report says of features, events and dates; no count of persons."""
    notes = []
    if made.images.resolved:
        notes.append(
            "some imaging studies are linked to the enclave's own procedures: "
            "side/image_occurrence_provenance says by which rule and how surely"
        )
    if made.features.without_concept:
        notes.append("some image features have no OMOP concept: image_feature_concept_id is 0")
    if came.without_study:
        notes.append("features or files were left out: no series of their study is delivered")
    if made.tables["side/commons_event"].num_rows:
        notes.append(
            "clinical events of the imaging commons are in side/commons_event; in OMOP tables only "
            "where their day is in the enclave's calendar"
        )
    return tuple(notes)


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)
