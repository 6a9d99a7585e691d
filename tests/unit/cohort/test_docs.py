"""What docs/cohorts.md shows is what the programs take."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from linkage.cohort import spec, spec_clinical, spec_imaging, spec_values
from sites.cohort import cdm
from sites.cohort.config import ImagingConfig, OmopConfig
from sites.cohort.layout import expected_tables

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "cohorts.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_the_worked_example_is_the_shipped_one() -> None:
    shipped = spec.load_spec(ROOT / "configs" / "three-commons" / "cohort.toml")
    assert spec.parse_spec(EXAMPLES[0]) == shipped


def test_the_site_files_parse() -> None:
    imaging, omop = (tomllib.loads(text) for text in EXAMPLES[1:])
    assert ImagingConfig.model_validate(imaging["imaging"]).date_frame == "shifted"
    assert OmopConfig.model_validate(omop["omop"]).birth == "year"


def test_every_key_of_a_specification_is_explained() -> None:
    reference = PAGE.partition("## Specification reference")[2].partition("## Counts")[0]
    for model in (
        spec.CohortHeader,
        spec_imaging.ImagingCriteria,
        spec_imaging.FeatureCriterion,
        spec_clinical.ClinicalCriteria,
        spec_clinical.ConceptCriterion,
        spec_clinical.ConceptItem,
        spec_clinical.AgeCriterion,
        spec_values.DayRange,
    ):
        for key in model.model_fields:
            assert re.search(rf"\b{key}\b", reference), f"{model.__name__}.{key}"


def test_every_delivered_table_is_named() -> None:
    for path in expected_tables():
        name = path.rpartition("/")[2]
        assert name in PAGE, path
    assert all(table.name in PAGE for table in cdm.TABLES)
