"""The acceptance question on real input: every delivered row is traced to the truth."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from linkage.cohort.spec import load_spec
from linkage.study_parts import CountRules
from sites.cohort import imaging
from sites.cohort.bundle import bundle_from_bytes, bundle_to_bytes
from sites.cohort.config import ImagingConfig, OmopConfig
from sites.cohort.counts import CountAsked, answer_counts
from sites.cohort.integrity import check_delivery
from sites.cohort.join import Delivery, Terms, asked_of, deliver, matches_table
from sites.cohort.ledger import Ledger
from sites.cohort.manifest import cover_manifest, cover_manifest_from_bytes
from sites.cohort.mi_cdm import SYNTHETIC
from sites.cohort.omop import OmopSource
from sites.vault import Vault

SPEC = Path(__file__).parents[2] / "configs" / "three-commons" / "cohort.toml"
CHEST_XRAY = "4163872"


@pytest.fixture(scope="module")
def truth(three_commons: Path) -> list[dict[str, str]]:
    with (three_commons / "truth.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def answer(three_commons: Path) -> imaging.ImagingAnswer:
    config = ImagingConfig(file=three_commons / "imaging_series.parquet", date_frame="shifted")
    return imaging.evaluate(config, load_spec(SPEC).imaging)


@pytest.fixture(scope="module")
def delivery(
    three_commons: Path,
    truth: list[dict[str, str]],
    answer: imaging.ImagingAnswer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Delivery:
    """The cohort of a perfect linkage: cohort IDs are the truth's own."""
    matched = [t for t in truth if t["imaging_id"] and t["person_id"]]
    with OmopSource.open(OmopConfig(path=three_commons / "omop")) as source:
        return deliver(
            asked=asked_of(load_spec(SPEC)),
            terms=Terms(study_id="three-commons", minimum_cell=11, image_retrieval="cover"),
            matches=matches_table([(t["truth_id"], int(t["person_id"])) for t in matched]),
            images={
                t["truth_id"]: [
                    bundle_from_bytes(bundle_to_bytes({"series": answer.rows_of(t["imaging_id"])}))[
                        "series"
                    ]
                ]
                for t in matched
                if t["imaging_id"] in answer.spans
            },
            source=source,
            out=tmp_path_factory.mktemp("delivery") / "cohort",
            imaging_attrition=answer.attrition,
            cover=cover_manifest_from_bytes(cover_manifest(answer.rows)),
        )


@pytest.fixture(scope="module")
def owners(delivery: Delivery, truth: list[dict[str, str]]) -> dict[int, dict[str, str]]:
    """By delivered person_id, the person's line of the truth."""
    by_truth = {t["truth_id"]: t for t in truth}
    return {
        row["person_id"]: by_truth[row["cohort_id"]] for row in read(delivery, "side/cohort_person")
    }


def read(delivery: Delivery, path: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(delivery.folder / f"{path}.parquet").to_pylist()
    return rows


def original(three_commons: Path, name: str) -> list[dict[str, str]]:
    """Read an OMOP table with nothing of ours, headers lower case and without SQL."""
    with gzip.open(three_commons / "omop" / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = [h.lower().removeprefix("date(").split(",")[0] for h in next(rows)]
        return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_persons_are_those_that_the_truth_gives(
    three_commons: Path, delivery: Delivery, owners: dict[int, dict[str, str]], truth: Any
) -> None:
    pictured = {
        row["PatientID"]
        for row in pq.read_table(three_commons / "imaging_series.parquet").to_pylist()
        if row["Modality"] in ("CR", "DX", "CT") and row["BodyPartExamined"] == "CHEST"
    }
    having = {
        row["person_id"]
        for row in original(three_commons, "procedure_occurrence")
        if row["procedure_concept_id"] == CHEST_XRAY
    }
    expected = {
        t["truth_id"] for t in truth if t["imaging_id"] in pictured and t["person_id"] in having
    }
    assert {owner["truth_id"] for owner in owners.values()} == expected
    assert delivery.persons == len(expected) == 462


def test_every_image_row_is_of_the_right_subject_and_none_is_missing(
    three_commons: Path, delivery: Delivery, owners: dict[int, dict[str, str]]
) -> None:
    wanted = {owner["imaging_id"] for owner in owners.values()}
    reference = {
        (row["PatientID"], row["StudyInstanceUID"], row["SeriesInstanceUID"], row["StudyDate"])
        for row in pq.read_table(three_commons / "imaging_series.parquet").to_pylist()
        if row["PatientID"] in wanted
        and row["Modality"] in ("CR", "DX", "CT")
        and row["BodyPartExamined"] == "CHEST"
    }
    delivered = [
        (
            owners[row["person_id"]]["imaging_id"],
            row["image_study_uid"],
            row["image_series_uid"],
            str(row["image_occurrence_date"]),
        )
        for row in read(delivery, "omop/image_occurrence")
    ]
    assert len(delivered) == len(set(delivered)) == 4181
    assert set(delivered) == reference


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("condition_occurrence", ("condition_concept_id", "condition_start_date")),
        ("procedure_occurrence", ("procedure_concept_id", "procedure_date")),
        ("drug_exposure", ("drug_concept_id", "drug_exposure_start_date")),
        ("measurement", ("measurement_concept_id", "measurement_date")),
        ("observation", ("observation_concept_id", "observation_date")),
        ("observation_period", ("observation_period_start_date", "observation_period_end_date")),
        ("visit_occurrence", ("visit_concept_id", "visit_start_date")),
        ("person", ("gender_concept_id", "year_of_birth")),
    ],
)
def test_every_clinical_row_is_of_the_right_person_and_none_is_missing(
    three_commons: Path,
    delivery: Delivery,
    owners: dict[int, dict[str, str]],
    name: str,
    columns: tuple[str, str],
) -> None:
    persons = {owner["person_id"] for owner in owners.values()}
    delivered = sorted(
        (owners[row["person_id"]]["person_id"], *(str(row[column]) for column in columns))
        for row in read(delivery, f"omop/{name}")
        if row.get("procedure_source_value") != SYNTHETIC
    )
    reference = sorted(
        (row["person_id"], *(row[column] for column in columns))
        for row in original(three_commons, name)
        if row["person_id"] in persons
    )
    assert delivered == reference


def test_no_local_id_is_in_it(
    three_commons: Path, delivery: Delivery, truth: list[dict[str, str]]
) -> None:
    sources = [row["person_source_value"] for row in original(three_commons, "person")]
    check_delivery(
        delivery.folder,
        local_person_ids=[int(t["person_id"]) for t in truth if t["person_id"]],
        local_texts=[*sources, *(t["imaging_id"] for t in truth if t["imaging_id"])],
    )


def test_odd_rows_of_the_source_are_reported(delivery: Delivery) -> None:
    warnings = " ".join(delivery.report["warnings"])
    assert (
        "2,649 persons have rows in observation_period of the source but do not exist" in warnings
    )
    assert "resolve to none" in warnings


def test_the_counts_before_delivery_agree(
    three_commons: Path,
    answer: imaging.ImagingAnswer,
    truth: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    vault = Vault(tmp_path)
    vault.secret()
    fits = [t["truth_id"] for t in truth if t["imaging_id"] in answer.spans]
    question_ids = {int(t["person_id"]): t["truth_id"] for t in truth if t["person_id"]}
    with OmopSource.open(OmopConfig(path=three_commons / "omop")) as source:
        counts = answer_counts(
            fits,
            question_ids,
            load_spec(SPEC).clinical,
            source,
            ledger=Ledger(vault, bytes(32), CountRules(), minimum=11),
            asked=CountAsked(question="q", run="run", at=0.0),
        )
    assert counts.exact == 462
    assert counts.persons in range(455, 475, 5)
    sexes = counts.distributions["sex"]
    assert sexes is not None
    assert sum(int(shown) for shown in sexes.values()) == counts.persons
