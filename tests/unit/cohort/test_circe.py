"""ATLAS concept sets: what its files hold becomes items of the specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linkage.cohort.spec import clinical_criteria, load_spec
from linkage.cohort.spec_clinical import ConceptItem
from linkage.cohort.spec_notes import oddities
from linkage.cohort.spec_words import explain
from linkage.errors import CohortRefused

HEAD = '[cohort]\nid = "atlas"\ntitle = "T"\npurpose = "P"\n[imaging]\nmodality = "CT"\n'


def item(concept: int, domain: str = "Condition", standard: str = "S", **flags: Any) -> Any:
    """One item as ATLAS writes it."""
    about = {
        "CONCEPT_ID": concept,
        "CONCEPT_NAME": "a name",
        "STANDARD_CONCEPT": standard,
        "STANDARD_CONCEPT_CAPTION": "Standard",
        "INVALID_REASON": "V",
        "INVALID_REASON_CAPTION": "Valid",
        "CONCEPT_CODE": "1",
        "DOMAIN_ID": domain,
        "VOCABULARY_ID": "SNOMED",
        "CONCEPT_CLASS_ID": "Disorder",
    }
    plain = {"isExcluded": False, "includeDescendants": False, "includeMapped": False}
    return {"concept": about, **plain, **flags}


LUNG = {"items": [item(443388, includeDescendants=True), item(4115276)]}
LESS = {"items": [*LUNG["items"], item(254591, isExcluded=True, includeDescendants=True)]}
DEFINITION = {
    "ConceptSets": [
        {"id": 0, "name": "Lung cancer", "expression": LUNG},
        {"id": 3, "name": "Without carcinoid", "expression": LESS},
    ],
    "PrimaryCriteria": {"CriteriaList": []},
}


def spec_with(folder: Path, content: Any, *, named: str = "set.json", more: str = "") -> Path:
    """A specification that names the concept-set file beside it."""
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "set.json").write_text(text, encoding="utf-8")
    path = folder / "cohort.toml"
    criterion = f'[[clinical.concepts]]\ndomain = "condition"\nconcept_set = "{named}"\n{more}'
    path.write_text(HEAD + criterion, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "named", "name"),
    [
        (LUNG, "set.json", "set"),
        ({"id": 7, "name": "Lung cancer", "expression": LUNG}, "set.json", "Lung cancer"),
        ({"name": "Whole", "expression": json.dumps(DEFINITION)}, "set.json#0", "Lung cancer"),
        (DEFINITION, "set.json#0", "Lung cancer"),
        (DEFINITION, "set.json#Lung cancer", "Lung cancer"),
    ],
)
def test_each_form_of_export_gives_the_same_items(
    tmp_path: Path, content: Any, named: str, name: str
) -> None:
    spec = load_spec(spec_with(tmp_path, content, named=named))
    (one,) = spec.clinical.concepts
    assert one.items == (
        ConceptItem(concept_id=443388, descendants=True),
        ConceptItem(concept_id=4115276),
    )
    assert one.name == name
    said = f"a condition named {name!r} (of the set: 443388 or a descendant, 4115276)"
    assert said in explain(spec)


def test_exclusions_are_in_the_items_and_in_the_words(tmp_path: Path) -> None:
    spec = load_spec(spec_with(tmp_path, DEFINITION, named="set.json#3"))
    assert ConceptItem(concept_id=254591, descendants=True, exclude=True) in (
        spec.clinical.concepts[0].items
    )
    assert "4115276; but not 254591 or a descendant)" in explain(spec)


def test_the_hash_covers_the_items_and_not_their_order_or_file(tmp_path: Path) -> None:
    one = load_spec(spec_with(tmp_path, LUNG)).hash
    reverse = {"items": [*reversed(LUNG["items"]), LUNG["items"][0]]}
    assert load_spec(spec_with(tmp_path, reverse)).hash == one
    assert load_spec(spec_with(tmp_path, LESS)).hash != one
    written = (
        'name = "set"\nconcept_set = [{ concept_id = 4115276 }, '
        "{ concept_id = 443388, descendants = true }]\n"
    )
    path = tmp_path / "cohort.toml"
    path.write_text(HEAD + '[[clinical.concepts]]\ndomain = "condition"\n' + written)
    assert load_spec(path).hash == one


@pytest.mark.parametrize(
    ("content", "named", "rule", "remedy"),
    [
        ({"items": [item(5, includeMapped=True)]}, "set.json", "5 has includeMapped", "untick"),
        (DEFINITION, "set.json", "holds 2 concept sets", 'set.json#0".*Without carcinoid'),
        (DEFINITION, "set.json#9", "holds 0 concept sets '9'", "id 3"),
        (LUNG, "sett.json", "no file sett.json", "own folder"),
        ("concept,descendants\n5,1\n", "set.json", "not JSON", "CSV"),
        ({"items": []}, "set.json", "is empty", "add concepts"),
        ({"items": [item(5) | {"includeParents": True}]}, "set.json", "includeParents", "write"),
        ({"items": [{"concept": {}}]}, "set.json", "no CONCEPT_ID", "again"),
        ({"items": [item(5, isExcluded="no")]}, "set.json", "isExcluded", "again"),
        ({"PrimaryCriteria": {}}, "set.json", "no concept set of ATLAS", "ConceptSets"),
        ([], "set.json", "no concept set of ATLAS", "items"),
        ({"items": [item(5, isExcluded=True)]}, "set.json", "excludes every", "include"),
        ({"items": [item(0)]}, "set.json", "greater than 0", ""),
    ],
)
def test_what_cannot_be_taken_is_refused_with_line_and_remedy(
    tmp_path: Path, content: Any, named: str, rule: str, remedy: str
) -> None:
    with pytest.raises(CohortRefused, match=rule) as refused:
        load_spec(spec_with(tmp_path, content, named=named))
    assert refused.value.line in (7, 9)
    refused.match(remedy)


def test_a_question_from_the_wire_never_opens_a_file(tmp_path: Path) -> None:
    """Else a researcher's question would read files of the enclave."""
    path = tmp_path / "set.json"
    path.write_text(json.dumps(LUNG), encoding="utf-8")
    for name in (str(path), "set.json"):
        with pytest.raises(CohortRefused, match="no list of concepts"):
            clinical_criteria({"concepts": [{"domain": "condition", "concept_set": name}]})


def test_what_may_surprise_is_said(tmp_path: Path) -> None:
    odd = {"items": [item(5, domain="Measurement", standard="N")]}
    said = oddities(spec_with(tmp_path, odd))
    assert "set.json: concept 5 is not a standard concept: few records carry it, if any" in said
    assert any("of domain measurement, and domain condition is searched" in one for one in said)
    assert oddities(spec_with(tmp_path, LUNG)) == []


def test_what_an_export_leaves_out_is_false(tmp_path: Path) -> None:
    """R packages write only the flags that are true."""
    short = {"items": [{"concept": {"CONCEPT_ID": 5, "STANDARD_CONCEPT": None}}]}
    path = spec_with(tmp_path, short)
    assert load_spec(path).clinical.concepts[0].items == (ConceptItem(concept_id=5),)
    assert oddities(path) == []
