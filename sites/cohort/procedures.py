"""
Which of the enclave's own procedures an imaging study is: procedure_occurrence_id of MI-CDM.

    found = resolve(rows, procedures, book.concepts, source)     one row a resolved study

Rule. Only where the study's day may be compared with clinical days (sites.cohort.dates). Candidates
are the person's delivered procedures of the study's modality (table [procedure] of the concept
file, with descendants), on the same day, else one day apart: reports and bills are often dated so.
The nearest wins, then the smallest procedure_occurrence_id. Confidence: "high", the only candidate
on the day; "medium", the first of several on the day; "low", a day apart. MI-CDM allows one foreign
key where studies and procedures are many to many: two studies may name one procedure.
Every other study gets a synthetic procedure (mi_cdm.py).
"""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pyarrow.compute as pc

from linkage.cohort.spec_clinical import ConceptItem
from linkage.errors import SourceRefused
from sites.cohort.codes import Concepts
from sites.cohort.concepts import concepts_of
from sites.cohort.omop import OmopSource

SAME_DAY, NEXT_DAY = "procedure of the modality on the same day", "the same, one day apart"
SYNTHETIC_RULE = "synthetic"

RESOLVED = pa.schema(
    [
        pa.field("study_uid", pa.string(), nullable=False),
        pa.field("procedure_occurrence_id", pa.int32(), nullable=False),
        pa.field("visit_occurrence_id", pa.int32()),
        pa.field("procedure_rule", pa.string(), nullable=False),
        pa.field("procedure_confidence", pa.string(), nullable=False),
    ]
)


def resolve(
    rows: pa.Table, procedures: pa.Table, concepts: Concepts, source: OmopSource | None
) -> pa.Table:
    """
    Return RESOLVED, by study.

    rows: placed series, with person_id, study_uid, modality, image_date and comparable.
    procedures: delivered procedure_occurrence, ids and persons new.
    """
    comparable = rows.filter(rows["comparable"])
    studies = comparable.group_by(["person_id", "study_uid", "modality"]).aggregate(
        [("image_date", "min")]
    )
    parts = [
        _candidates(studies, procedures, modality, _set(concepts, modality, source))
        for modality in sorted(set(studies["modality"].to_pylist()) & set(concepts.procedure))
    ]
    if not parts or not sum(part.num_rows for part in parts):
        return RESOLVED.empty_table()
    return _nearest(pa.concat_tables(parts))


def _set(concepts: Concepts, modality: str, source: OmopSource | None) -> pa.Array:
    listed = concepts.procedure[modality]
    found = set(listed)
    if source is not None:
        items = [ConceptItem(concept_id=one, descendants=True) for one in listed]
        with contextlib.suppress(SourceRefused):  # no vocabulary: the file's own still count
            found |= concepts_of(items, source)
    return pa.array(sorted(found), pa.int64())


def _candidates(
    studies: pa.Table, procedures: pa.Table, modality: str, concepts: pa.Array
) -> pa.Table:
    """Return study, procedure, visit and days between them, at most one day."""
    mine = studies.filter(pc.equal(studies["modality"], modality))
    fits = procedures.filter(
        pc.is_in(procedures["procedure_concept_id"].cast(pa.int64()), value_set=concepts)
    ).select(["person_id", "procedure_occurrence_id", "procedure_date", "visit_occurrence_id"])
    both = mine.join(fits, keys="person_id", join_type="inner")
    days = pc.abs(
        pc.subtract(
            both["procedure_date"].cast(pa.int32()), both["image_date_min"].cast(pa.int32())
        )
    )
    near = both.append_column("days", days).filter(pc.less_equal(days, 1))
    names = ["study_uid", "procedure_occurrence_id", "visit_occurrence_id", "days"]
    return near.select(names)


def _nearest(candidates: pa.Table) -> pa.Table:
    once = candidates.group_by(candidates.column_names).aggregate([])
    ordered = once.sort_by([(name, "ascending") for name in ("study_uid", "days")])
    least = ordered.group_by("study_uid").aggregate([("days", "min")])
    nearest = ordered.join(least, keys="study_uid").filter(
        pc.equal(pc.field("days"), pc.field("days_min"))
    )
    counted = nearest.group_by("study_uid").aggregate(
        [("procedure_occurrence_id", "min"), ("procedure_occurrence_id", "count"), ("days", "min")]
    )
    visits = nearest.select(["study_uid", "procedure_occurrence_id", "visit_occurrence_id"])
    made = counted.join(
        visits,
        keys=["study_uid", "procedure_occurrence_id_min"],
        right_keys=["study_uid", "procedure_occurrence_id"],
    ).sort_by("study_uid")
    same_day = pc.equal(made["days_min"], 0)
    alone = pc.equal(made["procedure_occurrence_id_count"], 1)
    return pa.table(
        {
            "study_uid": made["study_uid"],
            "procedure_occurrence_id": made["procedure_occurrence_id_min"],
            "visit_occurrence_id": made["visit_occurrence_id"],
            "procedure_rule": pc.if_else(same_day, SAME_DAY, NEXT_DAY),
            "procedure_confidence": pc.if_else(
                same_day, pc.if_else(alone, "high", "medium"), "low"
            ),
        }
    ).cast(RESOLVED)
