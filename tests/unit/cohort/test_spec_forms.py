"""TOML and JSON, the stored JSON Schema, the page for researchers, and mistakes played through."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from linkage.cohort import spec_clinical, spec_imaging, spec_schema, spec_values
from linkage.cohort.spec import CohortHeader, CohortSpec, load_spec, parse_spec
from linkage.cohort.spec_notes import oddities
from linkage.cohort.spec_words import explain
from linkage.errors import CohortRefused
from sites.cohort_cli import app

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "specification.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
STORED = json.loads((ROOT / "configs" / "cohort.schema.json").read_text(encoding="utf-8"))
HEAD: dict[str, Any] = {"cohort": {"id": "a-cohort", "title": "T", "purpose": "P"}}
ANY = {"imaging": {"any": True}, "clinical": {"any": True}}


def fits_schema(content: dict[str, Any]) -> bool:
    plain = json.loads(json.dumps(content, default=str))
    return jsonschema.Draft202012Validator(STORED).is_valid(plain)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_page_are_taken_as_toml_json_and_by_the_schema(text: str) -> None:
    content = tomllib.loads(text)
    spec = parse_spec(text)
    as_json = json.dumps({"$schema": "cohort.schema.json", **content}, default=str)
    assert parse_spec(as_json, file="cohort.json") == spec
    assert parse_spec(spec.model_dump_json(), file="x.json").hash == spec.hash
    assert fits_schema(content)
    assert spec.cohort.title in explain(spec)


def test_the_first_example_is_in_days_from_the_image_and_says_so() -> None:
    said = explain(parse_spec(EXAMPLES[0]))
    assert "has a condition named 'lung cancer' (443388 or a descendant), after an image" in said
    assert "within 30 days of an image that fits" in said
    assert "Also the days of fitting studies, readable for the enclave's own matches only." in said


def test_the_stored_schema_is_the_model_s() -> None:
    """Renew it with: linkage-cohort schema --out configs/cohort.schema.json"""
    assert spec_schema.schema() == STORED
    jsonschema.Draft202012Validator.check_schema(STORED)
    models = [
        *(CohortSpec, CohortHeader),
        *(spec_imaging.ImagingCriteria, spec_imaging.FeatureCriterion),
        *(spec_clinical.ClinicalCriteria, spec_clinical.ConceptCriterion),
        *(spec_clinical.ConceptItem, spec_clinical.AgeCriterion),
        *(spec_values.NumberRange, spec_values.PositiveRange),
        *(spec_values.CountRange, spec_values.DayRange),
    ]
    assert spec_schema.undescribed(*models) == []
    assert set(spec_schema.MEANINGS) == {model.__name__ for model in models}


@pytest.mark.parametrize(
    "half",
    [
        {"imaging": {"modalities": "CT"}},
        {"imaging": {"kvp": 150}},
        {"imaging": {"kvp": {}}},
        {"imaging": {"study": "newest"}},
        {"clinical": {"sex": "F"}},
        {"clinical": {"concepts": {"domain": "condition", "concept_id": 1}}},
        {"clinical": {"concepts": [{"domain": "diagnosis", "concept_id": 1}]}},
        {"clinical": {"concepts": [{"domain": "condition", "concept_id": "C34"}]}},
        {"clinical": {"concepts": [{"domain": "condition", "concept_set": [{"id": 1}]}]}},
        {"clinical": {"age": {"min": -1}}},
        {"cohort": {"id": "a-cohort", "title": "T"}},
    ],
)
def test_what_the_schema_refuses_the_program_refuses_too(half: dict[str, Any]) -> None:
    content = {**HEAD, **ANY, **half}
    assert fits_schema({**HEAD, **ANY})
    assert not fits_schema(content)
    with pytest.raises(CohortRefused):
        parse_spec(json.dumps(content), file="x.json")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('{\n "cohort": {\n  "id": 1,\n}', 4, "not valid JSON"),
        ('{"imaging": {"kvp": 1, "kvp": 2}}', 0, "'kvp' twice"),
        ('{"imaging": {"kvp": {"min": NaN}}}', 0, "NaN"),
        ("[" * 100_000, 0, "nested too deeply"),
        ("[]", 1, "must be a table"),
    ],
)
def test_bad_json_is_refused(text: str, line: int, said: str) -> None:
    with pytest.raises(CohortRefused, match=said) as refused:
        parse_spec(text, file="x.json")
    assert refused.value.line == line


def test_faults_in_json_name_their_line() -> None:
    first = {"domain": "drug", "concept_id": 1}
    concepts = [first, {"domain": "lab", "concept_id": [4, 0]}]
    text = json.dumps({**HEAD, **ANY, "clinical": {"concepts": concepts}}, indent=1)
    with pytest.raises(CohortRefused) as refused:
        parse_spec(text, file="x.json")
    lines = text.splitlines()
    assert '"lab"' in lines[refused.value.line - 1]
    assert "measurement" in refused.value.hint
    (other,) = refused.value.others
    assert '"concept_id": [' in lines[other.line - 1]


@pytest.mark.parametrize(
    ("mistake", "remedy"),
    [
        ('[imaging]\nmodality = "XR"\n', "CR or DX"),
        ("[imaging]\nkvp = 150\n", "{ min = 150, max = 150 } for exactly"),
        ('[imaging]\nkvp = "150"\n', "needs bounds"),
        ("[imaging]\nslice_thicknes = { max = 1 }\n", "slice_thickness"),
        ('[clinical]\nsex = "F"\n', 'write "female"'),
        ("[clinical.age]\nmin = 'old'\n", "integer"),
        ('[clinical.concepts]\ndomain = "drug"\nconcept_id = 1\n', "two brackets"),
        ('[[clinical.concepts]]\ndomain = "diagnosis"\nconcept_id = 1\n', 'write "condition"'),
        ('[[clinical.concepts]]\ndomain = "drug"\nconcept_id = "C34.1"\n', "look the code"),
        (
            '[[clinical.concepts]]\ndomain = "drug"\nconcept_id = 1\ndays_from_imaging = 30\n',
            "{ min = -30, max = 30 }",
        ),
    ],
)
def test_a_typical_mistake_is_met_with_its_remedy(mistake: str, remedy: str) -> None:
    other = "[clinical]\nany = true\n" if "imaging]" in mistake else "[imaging]\nany = true\n"
    header = '[cohort]\nid = "a-cohort"\ntitle = "T"\npurpose = "P"\n'
    with pytest.raises(CohortRefused) as refused:
        parse_spec(header + mistake + other)
    assert remedy in str(refused.value)
    assert refused.value.line >= 5


def test_three_mistakes_are_told_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "cohort.toml"
    path.write_text(
        EXAMPLES[0]
        .replace('"CT"', '"CAT"')
        .replace("{ min = 150, max = 150 } ", "150")
        .replace('"measurement"', '"labs"')
    )
    result = CliRunner().invoke(app, ["validate", str(path)])
    assert result.exit_code == 3
    for line, remedy in ((8, "CT"), (11, "exactly"), (21, 'write "measurement"')):
        assert f"line {line}" in result.output
        assert remedy in result.output


def test_validate_for_people_and_for_programs(tmp_path: Path) -> None:
    path = tmp_path / "cohort.toml"
    path.write_text(EXAMPLES[1])
    people = CliRunner().invoke(app, ["validate", str(path)])
    assert people.exit_code == 0
    assert "The enclave is asked which of these are its own persons" in people.output
    program = json.loads(CliRunner().invoke(app, ["validate", str(path), "--json"]).output)
    assert program["specification_fingerprint"] == load_spec(path).hash
    assert program["dates_of_images_needed"] is True
    assert program["imaging"][1].startswith("study has a feature: finding NODULE, DIAMETER 4 to 30")


def test_schema_prints_what_is_stored(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["schema"])
    assert json.loads(printed.output) == STORED
    path = tmp_path / "s.json"
    assert CliRunner().invoke(app, ["schema", "--out", str(path)]).exit_code == 0
    assert json.loads(path.read_text()) == STORED


def test_nobody_can_have_what_is_also_excluded(tmp_path: Path) -> None:
    path = tmp_path / "cohort.toml"
    wanted = '[[clinical.concepts]]\ndomain = "condition"\nconcept_id = 5\n'
    header = EXAMPLES[0].partition("[[clinical")[0] + 'study = "first"\n'
    path.write_text(header + wanted + wanted + "exclude = true\n")
    said = oddities(path)
    assert "nobody has both" in said[0]
    assert "first study" in said[1]


def test_a_value_without_its_unit_is_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "cohort.toml"
    header = EXAMPLES[0].partition("[[clinical")[0]
    value = '[[clinical.concepts]]\ndomain = "measurement"\nconcept_id = 5\nvalue = { min = 1.2 }\n'
    path.write_text(header + value)
    assert "name the unit's concept" in oddities(path)[0]
    path.write_text(header + value + "unit = 8840\n")
    assert not oddities(path)
