"""A site tries a specification on its own data, before anybody asks: `linkage-site try-spec`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from linkage.cohort.spec import CohortSpec, parse_spec
from linkage.errors import SiteRefused, SourceRefused
from sites.cli import app
from sites.config import SiteConfig, load_site
from sites.trying import NOBODY, try_spec

from .gen3_world import STUDIES, write_gen3

SPEC = """
[cohort]
id = "tried"
title = "T"
purpose = "P"
[imaging]
modality = "CT"
slice_thickness = { max = 1 }
[[clinical.concepts]]
domain = "condition"
concept_id = 7
descendants = false
[clinical]
sex = "female"
"""
IMAGED = SPEC.replace("descendants = false", "descendants = false\ndays_from_imaging = { min = 1 }")


def spec(text: str = SPEC, **changed: str) -> CohortSpec:
    for old, new in changed.items():
        text = text.replace(old, new)
    return parse_spec(text)


@pytest.fixture
def enclave(tmp_path: Path) -> SiteConfig:
    """100 persons; 60 have the condition, 40 of these are women; nobody else is one."""
    omop = tmp_path / "omop"
    omop.mkdir()
    people = [f"{n},{8532 if n < 40 else 8507},1950,1,1,8527,0" for n in range(100)]
    header = "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth"
    header += ",race_concept_id,ethnicity_concept_id"
    (omop / "person.csv").write_text("\n".join([header, *people]))
    rows = [f"{n},{n},7,2020-01-01,0" for n in range(60)]
    names = "condition_occurrence_id,person_id,condition_concept_id,condition_start_date"
    names += ",condition_type_concept_id"
    (omop / "condition_occurrence.csv").write_text("\n".join([names, *rows]))
    return site(tmp_path, "enclave", '[omop]\npath = "omop"')


def site(folder: Path, party: str, table: str) -> SiteConfig:
    path = folder / "site.toml"
    path.write_text(f'party = "{party}"\nprivate = "private"\n{table}\n')
    return load_site(path)


def test_the_enclave_counts_its_own_persons_step_by_step(enclave: SiteConfig) -> None:
    (half,) = try_spec(spec(), enclave, minimum=11)
    assert half.side == "clinical"
    assert [count for _, count in half.steps] == [100, 60, 40]
    assert "sex" in half.steps[-1][0]
    # Below the minimum nothing is told, nor what differs by few.
    (half,) = try_spec(spec(), enclave, minimum=21)
    assert [count for _, count in half.steps] == [100, "hidden", 40]
    (half,) = try_spec(spec(), enclave, minimum=50)
    assert [count for _, count in half.steps] == ["hidden", 60, "<50"]
    (half,) = try_spec(spec(SPEC, **{"concept_id = 7": "concept_id = 8"}), enclave, minimum=11)
    assert [count for _, count in half.steps] == [100, 0, 0]
    assert NOBODY in half.notes


def test_what_needs_an_image_is_left_out_and_said(enclave: SiteConfig) -> None:
    (half,) = try_spec(spec(IMAGED), enclave, minimum=11)
    assert [count for _, count in half.steps] == [100, 60, 40]
    assert any("days from the image were not counted" in note for note in half.notes)
    age = '[clinical.age]\nmin = 90\nat = "imaging"\n'
    (half,) = try_spec(spec(SPEC + age), enclave, minimum=11)
    assert [count for _, count in half.steps] == [100, 60, 40]
    assert any("age was not asked" in note for note in half.notes)


def test_the_commons_counts_its_own_subjects_and_names_what_is_odd(tmp_path: Path) -> None:
    twin = STUDIES[0] | {"id": "uuid-other", "study_uid": "1.2.99"}
    write_gen3(tmp_path / "nodes", imaging_study=[*STUDIES, twin])
    here = site(tmp_path, "commons", '[imaging]\nkind = "gen3"\npath = "nodes"')
    (half,) = try_spec(spec(), here, minimum=2)
    assert half.side == "imaging"
    assert "modality is CT" in [label for label, _ in half.steps]
    assert half.steps[-1][1] == 0
    told = " ".join(half.notes)
    assert "some submitter_ids in imaging_studies have rows that differ" in told
    table = '[imaging]\nkind = "gen3"\npath = "nodes"\ndate_frame = "shifted"'
    shifted, nothing = site(tmp_path, "commons", table), site(tmp_path, "claims", "")
    with pytest.raises(SourceRefused, match="frame 'shifted'"):
        try_spec(spec(IMAGED), shifted, minimum=2)
    with pytest.raises(SiteRefused, match="neither"):
        try_spec(spec(), nothing, minimum=2)


def test_the_command_says_it_to_people_and_programs(enclave: SiteConfig, tmp_path: Path) -> None:
    (tmp_path / "cohort.toml").write_text(SPEC)
    words = ["try-spec", str(tmp_path / "cohort.toml"), "--site", str(tmp_path / "site.toml")]
    said = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert said.exit_code == 0, said.output
    assert "two such tables can be subtracted" in said.output
    told: dict[str, Any] = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert told["minimum_cell"] == 11
    assert [count for _, count in told["clinical"]["steps"]] == [100, 60, 40]
    assert not (tmp_path / "private").exists(), "nothing is kept"
