"""
Nothing that can be asked is ignored: each key, asked such that nobody fits, leaves nobody.

A key that is added to the models fails here until it is evaluated, and listed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from linkage.cohort.spec_clinical import (
    AgeCriterion,
    ClinicalCriteria,
    ConceptCriterion,
    ConceptItem,
)
from linkage.cohort.spec_imaging import FeatureCriterion, ImagingCriteria
from sites.cohort import clinical, imaging
from sites.cohort.config import ImagingConfig

from .conftest import OpenOmop

SeriesFile = Callable[..., ImagingConfig]

SERIES = {
    "SliceThickness": 1.0,
    "KVP": 150.0,
    "anatomic_site": "LUNG",
    "ContrastBolusAgent": "no",
    "ManufacturerModelName": "MODEL",
    "StudyDate": "2019-05-01",
}
NOBODY_BY_IMAGE: dict[str, Any] = {
    "collection": "other",
    "modality": "MR",
    "body_part": "KNEE",
    "anatomic_site": "KNEE",
    "manufacturer": "other",
    "manufacturer_model": "other",
    "contrast": True,
    "slice_thickness": {"max": 0.9},
    "kvp": {"min": 151},
    "features": [{"finding": "Nodule", "measurement": "Diameter", "value": {"min": 9}}],
    "series_per_study": {"min": 3},
    "studies_per_subject": {"min": 3},
}
OTHERWISE_BY_IMAGE = {"any", "study", "dates"}

NO_FEATURE: dict[str, dict[str, Any]] = {
    "finding": {"finding": "Cyst"},
    "measurement": {"measurement": "Volume"},
    "value": {"measurement": "Diameter", "value": {"min": 6.5}},
    "unit": {"measurement": "Diameter", "unit": "cm"},
    "algorithm": {"finding": "Nodule", "algorithm": "other"},
}


@pytest.fixture
def commons(series_file: SeriesFile, tmp_path: Any) -> ImagingConfig:
    """One subject with two studies of one series each, and one nodule of 6 mm."""
    features = tmp_path / "features.csv"
    features.write_text(
        "study_uid,series_uid,feature,finding,value,unit,algorithm,source\n"
        + "".join(f"1.2.{n},1.2.3.{n},Diameter,Nodule,6,mm,READER,SR\n" for n in (0, 1))
    )
    later = SERIES | {"StudyDate": "2020-05-01"}
    return series_file(SERIES, later, date_frame="true", features=features)


def test_the_subject_fits_what_it_has(commons: ImagingConfig) -> None:
    has = {"finding": "nodule", "measurement": "diameter", "value": {"min": 6}, "unit": "mm"}
    asked = {"modality": "CT", "features": [has], "studies_per_subject": {"min": 2}}
    assert imaging.evaluate(commons, ImagingCriteria.model_validate(asked)).record_ids


@pytest.mark.parametrize("key", sorted(NOBODY_BY_IMAGE))
def test_no_imaging_key_is_ignored(commons: ImagingConfig, key: str) -> None:
    criteria = ImagingCriteria.model_validate({key: NOBODY_BY_IMAGE[key]})
    assert imaging.evaluate(commons, criteria).record_ids == ()


@pytest.mark.parametrize("key", sorted(NO_FEATURE))
def test_no_key_of_a_feature_is_ignored(commons: ImagingConfig, key: str) -> None:
    criteria = ImagingCriteria.model_validate({"features": [NO_FEATURE[key]]})
    assert imaging.evaluate(commons, criteria).record_ids == ()


def test_the_study_meant_is_the_one_delivered(commons: ImagingConfig) -> None:
    asked = {"modality": "CT", "study": "last", "dates": True}
    answer = imaging.evaluate(commons, ImagingCriteria.model_validate(asked))
    assert answer.rows_of("PAT-0001")["study_uid"].to_pylist() == ["1.2.1"]
    assert answer.study_days("PAT-0001") == ((dt.date(2020, 5, 1) - dt.date(1970, 1, 1)).days,)


HAS: dict[str, Any] = {"domain": "measurement", "concept_id": 100}
NOBODY_BY_RECORD: dict[str, dict[str, Any]] = {
    "domain": HAS | {"domain": "condition"},
    "concept_id": HAS | {"concept_id": 7},
    "concept_set": {
        "domain": "measurement",
        "concept_set": [{"concept_id": 100}, {"concept_id": 100, "exclude": True}],
    },
    "descendants": HAS | {"concept_id": 99, "descendants": False},
    "exclude": HAS | {"exclude": True},
    "value": HAS | {"value": {"min": 5.1}},
    "unit": HAS | {"unit": 8},
    "at_least": HAS | {"at_least": 2},
    "days_from_imaging": HAS | {"days_from_imaging": {"min": 11}},
}
NOBODY_BY_PERSON: dict[str, Any] = {
    "age": {"min": 80, "at": "2020-01-01"},
    "sex": "male",
    "race": 8515,
    "ethnicity": 38003563,
}
OTHERWISE_BY_PERSON = {"any", "concepts", "index"}
IMAGED = dt.date(2019, 5, 1)


def persons(open_omop: OpenOmop, asked: dict[str, Any]) -> list[str]:
    """Return who meets the criteria, of one person with one measurement ten days after a CT."""
    source = open_omop(
        "5,8532,1950,5,5",
        measurement="measurement_id,person_id,measurement_concept_id,measurement_date,"
        "value_as_number,unit_concept_id,measurement_type_concept_id\n1,5,100,2019-05-11,5,9,0",
        condition_occurrence="condition_occurrence_id,person_id,condition_concept_id,"
        "condition_start_date,condition_type_concept_id\n1,5,1,2019-05-11,0",
        concept_ancestor="ancestor_concept_id,descendant_concept_id,min_levels_of_separation,"
        "max_levels_of_separation\n100,100,0,0\n99,100,1,1\n7,7,0,0",
    )
    criteria = ClinicalCriteria.model_validate(asked)
    days = {"5": (IMAGED,)}
    found = clinical.evaluate(criteria, source, among={5: "5"}, imaging_days=days).persons
    return [str(unit) for unit in found["unit"].to_pylist()]


def test_the_person_fits_what_it_has(open_omop: OpenOmop) -> None:
    has = {"value": {"min": 5}, "unit": 9, "days_from_imaging": {"min": 10, "max": 10}}
    below = {"concept_set": [{"concept_id": 99, "descendants": True}]}
    asked = [HAS | has, {"domain": "measurement"} | below, HAS | {"concept_id": 99}]
    assert persons(open_omop, {"concepts": asked, "age": {"max": 69}}) == ["5"]


@pytest.mark.parametrize("key", sorted(NOBODY_BY_RECORD))
def test_no_key_of_a_record_is_ignored(open_omop: OpenOmop, key: str) -> None:
    assert persons(open_omop, {"concepts": [NOBODY_BY_RECORD[key]]}) == []


@pytest.mark.parametrize("key", sorted(NOBODY_BY_PERSON))
def test_no_key_of_a_person_is_ignored(open_omop: OpenOmop, key: str) -> None:
    assert persons(open_omop, {key: NOBODY_BY_PERSON[key]}) == []


def test_the_index_meant_dates_the_age(open_omop: OpenOmop) -> None:
    """68 on the day of the CT, 69 on that of the measurement."""
    for index, age in (("imaging", 68), ("concept", 69)):
        asked = {"concepts": [HAS], "index": index}
        assert persons(open_omop, asked | {"age": {"min": age, "max": age}}) == ["5"]
        assert persons(open_omop, asked | {"age": {"min": 137 - age, "max": 137 - age}}) == []


def test_every_key_is_listed_here() -> None:
    assert {*NOBODY_BY_IMAGE, *OTHERWISE_BY_IMAGE} == set(ImagingCriteria.model_fields)
    assert set(NO_FEATURE) == set(FeatureCriterion.model_fields)
    assert {*NOBODY_BY_RECORD, "name"} == set(ConceptCriterion.model_fields)
    assert {*NOBODY_BY_PERSON, *OTHERWISE_BY_PERSON} == set(ClinicalCriteria.model_fields)
    assert set(ConceptItem.model_fields) == {"concept_id", "descendants", "exclude"}
    assert set(AgeCriterion.model_fields) == {"min", "max", "at"}
