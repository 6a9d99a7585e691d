"""cohort.toml: strict, explained, split in two, one hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkage.cohort.spec import clinical_criteria, imaging_criteria, load_spec, parse_spec
from linkage.cohort.spec_words import explain
from linkage.errors import CohortRefused

HEAD = '[cohort]\nid = "test-cohort"\ntitle = "A title"\npurpose = "A purpose"\n'
GOOD = HEAD + '[imaging]\nmodality = ["CT"]\n[[clinical.concepts]]\ndomain = "procedure"\n'
CONFIG = Path(__file__).parents[3] / "configs" / "three-commons" / "cohort.toml"


def test_the_shipped_example_asks_the_acceptance_question() -> None:
    spec = load_spec(CONFIG)
    assert spec.imaging.modality == ("CR", "CT", "DX")
    assert spec.imaging.body_part == ("CHEST",)
    assert spec.clinical.concepts[0].concept_id == (4163872,)
    assert "has a procedure 4163872 or a descendant" in explain(spec)
    assert spec.hash in explain(spec)


def test_order_and_case_of_lists_do_not_change_the_hash_but_content_does() -> None:
    one = parse_spec(GOOD.replace('["CT"]', '["cr", "CT"]') + "concept_id = [5, 3]\n")
    two = parse_spec(GOOD.replace('["CT"]', '["CT", "CR", "CT"]') + "concept_id = [3, 5]\n")
    other = parse_spec(GOOD + "concept_id = [3, 5]\n")
    assert one.hash == two.hash != other.hash
    asked = [HEAD + f"[imaging]\ncollection = {c}\n[clinical]\nany = true" for c in ("ab", "ba")]
    ab, ba = (text.replace("ab", '["a", "b"]').replace("ba", '["b", "a"]') for text in asked)
    assert parse_spec(ab).hash == parse_spec(ba).hash


def test_the_paper_s_own_question_can_be_asked() -> None:
    spec = parse_spec(
        HEAD + '[imaging]\nmodality = "CT"\nbody_part = "chest"\n'
        "slice_thickness = { min = 1, max = 1 }\nkvp = { min = 150, max = 150 }\n"
        '[[clinical.concepts]]\ndomain = "condition"\nconcept_id = 4115276\n'
    )
    assert "slice thickness 1 mm" in explain(spec)
    assert "kVp 150 kV" in explain(spec)


def test_both_halves_survive_the_wire() -> None:
    spec = parse_spec(
        GOOD + 'concept_id = 3\nexclude = true\n[clinical]\nsex = "female"\n'
        '[clinical.age]\nmin = 18\nat = "2019-07-01"\n'
    )
    content = spec.model_dump(mode="json")
    assert imaging_criteria(content["imaging"]) == spec.imaging
    assert clinical_criteria(content["clinical"]) == spec.clinical


@pytest.mark.parametrize("content", [{}, {"modality": ["XR"]}, {"any": True, "more": 1}])
def test_a_malformed_half_from_the_wire_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(CohortRefused, match="clinical part: asks for nothing"):
        clinical_criteria({})
    with pytest.raises(CohortRefused, match="imaging part"):
        imaging_criteria(content)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (HEAD + '[imaging]\nmodality = ["XR"]\n[clinical]\nany = true\n', 6, "CR or DX"),
        (HEAD + "[imaging]\n[clinical]\nany = true\n", 5, "any = true"),
        (HEAD + "[imaging]\nany = true\n[clinical]\n", 7, "any = true"),
        (HEAD + '[imaging]\nany = true\nmodality = "CT"\n[clinical]\nany = true\n', 6, "drop one"),
        (HEAD + '[imaging]\nmodalities = "CT"\n[clinical]\nany = true\n', 6, "did you mean"),
        (HEAD + '[imaging]\nmanufacturer = "G"\n[clinical]\nany = true\n', 6, "2 letters"),
        (HEAD + '[imaging]\nbody_part = ""\n[clinical]\nany = true\n', 6, "empty text"),
        (HEAD + "[imaging]\nkvp = {}\n[clinical]\nany = true\n", 6, "at least one bound"),
        (HEAD + "[imaging]\nkvp = {min=2,max=1}\n[clinical]\nany = true\n", 6, "exchange"),
        (GOOD + "concept_id = 0\n", 9, "no matching concept"),
        (GOOD + "concept_id = []\n", 9, "whole number"),
        (GOOD + "concept_id = 3000000000\n", 9, "whole number"),
        (GOOD.replace("procedure", "visits") + "concept_id = 1\n", 8, "condition"),
        (GOOD + "concept_id = 1\nconcept_set = [{ concept_id = 2 }]\n", 9, "keep one"),
        (GOOD + "concept_id = 1\nvalue = { min = 1 }\n", 10, "no value"),
        (GOOD, 7, "names no concept"),
        (GOOD + "concept_id = 1\n[clinical.age]\nmin = 9\nmax = 3\n", 10, "inclusive"),
        (GOOD + "concept_id = 1\n[clinical.age]\nmin = 9\nat = 1999\n", 12, "index"),
        (GOOD + 'concept_id = 1\n[clinical.age]\nat = "2019-02-30"\n', 11, "index"),
        (GOOD + "concept_id = 1\nexclude = true\n[clinical.age]\nmin = 9\n", 11, "without exclude"),
        (GOOD + 'concept_id = 1\n[clinical]\nsex = "F"\n', 11, "female"),
        (GOOD.replace("test-cohort", "Test Cohort") + "concept_id = 1\n", 2, "small letters"),
        (GOOD.replace('purpose = "A purpose"\n', "") + "concept_id = 1\n", 1, "missing"),
        (GOOD.replace('id = "test-cohort"\n', "") + "concept_id = 1\n", 1, "lung-ct"),
        (HEAD + "[imaging]\nany = true\n", 0, "any = true below it asks for everybody"),
        (GOOD + "concept_id = 1\nwithin_days = 30\n", 10, "write days_from_imaging"),
        (GOOD + "concept_id = 1\n[clinical]\nconditions = [4]\n", 11, 'domain = "condition"'),
        (GOOD.replace("concepts", "concept") + "concept_id = 1\n", 7, "clinical.concepts"),
        (GOOD.replace('["CT"]', '"CT"\nkvp = {max="1 kV"}') + "concept_id = 1\n", 7, "without q"),
    ],
)
def test_a_bad_specification_is_refused_with_line_and_remedy(
    text: str, line: int, said: str
) -> None:
    with pytest.raises(CohortRefused) as refused:
        parse_spec(text)
    assert said in f"{refused.value.message} {refused.value.hint}"
    assert refused.value.line == line
