"""What a site offers: only what enough persons have, by which edge, and never a count."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkage.errors import SourceRefused
from sites.cohort.blur import Blur
from sites.cohort.config import ImagingConfig, OmopConfig
from sites.cohort.offered import Concepts, Edge, offered_concepts, offered_values
from sites.cohort.omop import OmopSource

LEAST = 11
SHARP = Edge(Blur(bytes(32), 0), LEAST, "2026-11-22")
CONCEPTS = (
    (100, "Malignant neoplasm of lung", "Condition", "SNOMED", "S", "363358000"),
    (101, "Adenocarcinoma of lung", "Condition", "SNOMED", "S", "254626006"),
    (102, "Squamous cell carcinoma of lung", "Condition", "SNOMED", "S", "254634000"),
    (110, "Rare tumour", "Condition", "SNOMED", "S", "1"),
    (200, "CT of chest", "Procedure", "CPT4", "S", "71250"),
    (300, "Haemoglobin", "Measurement", "LOINC", "S", "718-7"),
    (8840, "milligram per deciliter", "Unit", "UCUM", "S", "mg/dL"),
)


def write(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        made = csv.writer(file)
        made.writerow(header.split())
        made.writerows(rows)


@pytest.fixture
def omop(tmp_path: Path) -> Callable[..., OmopConfig]:
    """Make a source: by concept, the persons who have it as a condition; 30 persons in all."""

    def make(
        conditions: dict[int, Sequence[int]], *, vocabulary: bool = True, ancestors: bool = True
    ) -> OmopConfig:
        write(
            tmp_path / "person.csv",
            "person_id gender_concept_id year_of_birth race_concept_id ethnicity_concept_id",
            [(p, 8532, 1950, 0, 0) for p in range(1, 31)],
        )
        write(
            tmp_path / "condition_occurrence.csv",
            "condition_occurrence_id person_id condition_concept_id condition_start_date"
            " condition_type_concept_id",
            [
                (f"{c}{p:03}{n}", p, c, "2018-05-01", 32817)
                for c, persons in conditions.items()
                for p in persons
                for n in (1, 2)
            ],
        )
        write(
            tmp_path / "measurement.csv",
            "measurement_id person_id measurement_concept_id measurement_date"
            " measurement_type_concept_id unit_concept_id",
            [(p, p, 300, "2018-05-01", 32817, 8840) for p in range(1, 21)],
        )
        if vocabulary:
            write(
                tmp_path / "concept.csv",
                "concept_id concept_name domain_id vocabulary_id standard_concept concept_code",
                CONCEPTS,
            )
        if ancestors:
            above = [(c[0], c[0]) for c in CONCEPTS] + [(100, 101), (100, 102)]
            write(
                tmp_path / "concept_ancestor.csv",
                "ancestor_concept_id descendant_concept_id",
                above,
            )
        return OmopConfig(path=tmp_path)

    return make


def offered(config: OmopConfig, edge: Edge = SHARP) -> Concepts:
    with OmopSource.open(config) as source:
        return offered_concepts(source, edge)


def named(found: Concepts) -> set[tuple[str, int]]:
    return {(one.domain, one.concept_id) for one in found.found}


def test_a_concept_of_exactly_enough_persons_is_offered_and_of_one_less_is_not(
    omop: Callable[..., OmopConfig],
) -> None:
    found = offered(omop({101: range(1, 12), 110: range(1, 11)}))
    assert ("condition", 101) in named(found)
    assert ("condition", 110) not in named(found), "ten persons, with two records each"
    one = next(one for one in found.found if one.concept_id == 101)
    assert (one.name, one.vocabulary, one.code, one.standard) == (
        *("Adenocarcinoma of lung", "SNOMED", "254626006"),
        "S",
    )


def test_what_is_above_rare_concepts_counts_their_persons_once(
    omop: Callable[..., OmopConfig],
) -> None:
    """Six and six persons, one of them the same: eleven have cancer of the lung."""
    found = offered(omop({101: range(1, 7), 102: range(6, 12)}))
    assert named(found) & {("condition", c) for c in (100, 101, 102)} == {("condition", 100)}
    less = offered(omop({101: range(1, 7), 102: range(6, 11)}))
    assert ("condition", 100) not in named(less)


def test_tables_units_and_what_no_vocabulary_names(omop: Callable[..., OmopConfig]) -> None:
    found = offered(omop({0: range(1, 30), 555: range(1, 30)}, ancestors=False))
    assert named(found) == {("measurement", 300), ("unit", 8840)}
    assert found.unknown == 1, "555; 0 means no concept"


def test_without_names_there_is_nothing_to_offer(omop: Callable[..., OmopConfig]) -> None:
    with pytest.raises(SourceRefused, match="without names"):
        offered(omop({101: range(1, 20)}, vocabulary=False))


def test_persons_that_do_not_exist_do_not_count(omop: Callable[..., OmopConfig]) -> None:
    found = offered(omop({101: [*range(1, 11), 900, 901]}))
    assert ("condition", 101) not in named(found)


def test_the_edge_never_lets_fewer_through_and_redraws_for_every_list() -> None:
    """
    Near the edge chance decides, anew for each list and alike for equal sets; so whether one person
    more is there changes the chance of an entry by a little, and never decides it.
    """
    blur = Blur(bytes(range(32)), 6)
    shares = {}
    for persons in range(5, 30):
        passed = [
            Edge(blur, LEAST, f"list {n}").passes(persons, np.array([persons, 7], np.uint64))
            for n in range(2_000)
        ]
        shares[persons] = sum(passed) / len(passed)
    assert all(share == 0 for persons, share in shares.items() if persons < LEAST)
    assert all(share == 1 for persons, share in shares.items() if persons >= LEAST + 12)
    steps = [shares[n + 1] - shares[n] for n in range(5, 29)]
    assert max(steps) < 0.30, "of the likeliest step; P(amount = 0) is .25"
    one = Edge(blur, LEAST, "list 1")
    tags = np.array([17, 99], np.uint64)
    assert {one.passes(17, tags) for _ in range(5)} == {one.passes(17, tags[::-1])}


def test_values_of_images_by_subjects(tmp_path: Path) -> None:
    rows = [
        {
            "PatientID": f"s{n}",
            "StudyInstanceUID": f"2.25.1{n:03}",
            "SeriesInstanceUID": f"2.25.2{n:03}{k}",
            "Modality": "ct " if n % 2 else "CT",
            "BodyPartExamined": "Chest" if n < 11 else "HEAD",
            "Manufacturer": "Maker, Inc." if n < 15 else "SIEMENS",
            "ManufacturerModelName": f"unique {n}",
            "collection_id": "made",
        }
        for n in range(21)
        for k in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "series.parquet")
    features = [
        {"study_uid": f"2.25.1{n:03}", "feature": "diameter", "finding": "Nodule", "unit": "mm"}
        for n in range(12)
    ] + [{"study_uid": "2.25.999", "feature": "volume", "finding": "", "unit": ""}] * 30
    pq.write_table(pa.Table.from_pylist(features), tmp_path / "features.parquet")
    config = ImagingConfig(file=tmp_path / "series.parquet", features=tmp_path / "features.parquet")
    assert offered_values(config, SHARP) == {
        "collection": ("made",),
        "modality": ("CT",),
        "body_part": ("CHEST",),
        "finding": ("NODULE",),
        "measurement": ("DIAMETER",),
        "unit": ("mm",),
    }
