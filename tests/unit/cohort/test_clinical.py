"""Clinical criteria on hand-made persons."""

from __future__ import annotations

import datetime as dt

import pytest

from linkage.cohort.spec_clinical import AgeCriterion, ClinicalCriteria, ConceptCriterion
from linkage.errors import CohortRefused, SourceRefused
from sites.cohort.clinical import evaluate
from sites.cohort.omop import OmopSource

from .conftest import OpenOmop, events

PEOPLE = "1,8532,1950,6,15 2,8507,1950,, 3,0,1950,6, 4,8532,,1,1"
ANCESTORS = "ancestor_concept_id,descendant_concept_id\n10,11\n10,12"


@pytest.fixture
def source(open_omop: OpenOmop) -> OmopSource:
    return open_omop(
        PEOPLE,
        procedure_occurrence=events(
            "procedure",
            (1, 10, "2000-06-14"),
            (1, 10, "2010-01-01"),
            (2, 11, "2000-06-30"),
            (3, 12, "2000-06-15"),
            (4, 10, "2000-01-01"),
            (9, 10, "2000-01-01"),
        ),
        condition_occurrence=events("condition", (2, 50, "2001-01-01")),
        concept_ancestor=ANCESTORS,
    )


def procedure(concept: int, **more: bool) -> ConceptCriterion:
    return ConceptCriterion(domain="procedure", concept_id=[concept], **more)


def found(source: OmopSource, **criteria: object) -> list[int]:
    result = evaluate(ClinicalCriteria.model_validate(criteria), source)
    return sorted(result.persons["person_id"].to_pylist())


def test_descendants_exclusion_and_persons_that_do_not_exist(source: OmopSource) -> None:
    assert found(source, concepts=[procedure(10)]) == [1, 2, 3, 4]
    assert found(source, concepts=[procedure(10, descendants=False)]) == [1, 4]
    fifty = {"domain": "condition", "concept_id": 50, "exclude": True}
    assert found(source, concepts=[procedure(10), fifty]) == [1, 3, 4]
    assert found(source, concepts=[fifty]) == [1, 3, 4]


def test_index_date_is_the_first_record_of_the_first_concept(source: OmopSource) -> None:
    result = evaluate(ClinicalCriteria(concepts=[procedure(10)]), source)
    index = dict(
        zip(
            result.persons["person_id"].to_pylist(),
            result.persons["index_date"].to_pylist(),
            strict=True,
        )
    )
    assert index[1] == dt.date(2000, 6, 14)


def test_age_is_in_completed_years_at_the_index_date(source: OmopSource) -> None:
    """Born 15 June 1950: 49 on 14 June 2000. Year only: 1 July. Year and month: the 15th."""
    result = evaluate(ClinicalCriteria(concepts=[procedure(10)]), source)
    people = result.persons.to_pylist()
    assert {p["person_id"]: p["age"] for p in people} == {1: 49, 2: 49, 3: 50, 4: None}
    assert {p["person_id"]: p["sex"] for p in people} == {
        1: "female",
        2: "male",
        3: "unknown",
        4: "female",
    }


def test_age_bounds_are_inclusive_and_an_unknown_age_never_fits(source: OmopSource) -> None:
    def aged(low: int | None, high: int | None, at: str = "index") -> list[int]:
        age = AgeCriterion(min=low, max=high, at=at)
        return found(source, concepts=[procedure(10)], age=age)

    assert aged(50, 50) == [3]
    assert aged(49, 50) == [1, 2, 3]
    assert aged(None, None) == [1, 2, 3]
    assert aged(50, None, "2000-06-15") == [1, 3]
    assert aged(50, None, "2000-07-01") == [1, 2, 3]


def test_sex_and_everybody(source: OmopSource) -> None:
    assert found(source, sex=["female"]) == [1, 4]
    assert found(source, sex=["unknown", "male"]) == [2, 3]
    assert found(source, any=True) == [1, 2, 3, 4]


def test_attrition_follows_the_criteria_in_order(source: OmopSource) -> None:
    criteria = ClinicalCriteria(
        concepts=[procedure(10)], age=AgeCriterion(min=50), sex=["unknown", "male"]
    )
    steps = evaluate(criteria, source).attrition.steps
    assert [step.subjects for step in steps] == [4, 4, 1, 1]
    assert steps[1].label == "has a procedure 10 or a descendant"
    assert steps[2].reason.startswith("criterion not met: age at least 50")


def test_two_omop_persons_of_one_unit_are_one_person(source: OmopSource) -> None:
    """Persons 1 and 2 are one: she has the procedure of 1 and the condition of 2."""
    fifty = ConceptCriterion(domain="condition", concept_id=50)
    criteria = ClinicalCriteria(concepts=[procedure(10, descendants=False), fifty])
    assert evaluate(criteria, source).persons.num_rows == 0
    among = {1: "x", 2: "x", 3: "y", 99: "z"}
    result = evaluate(criteria, source, among=among)
    assert result.persons.to_pylist() == [
        {
            "unit": "x",
            "person_id": 1,
            "sex": "female",
            "age": 49,
            "index_date": dt.date(2000, 6, 14),
            "race": 8527,
            "ethnicity": 0,
        }
    ]
    assert [step.subjects for step in result.attrition.steps] == [2, 1, 1]


def test_a_concept_that_the_vocabulary_has_not_is_said(source: OmopSource) -> None:
    result = evaluate(ClinicalCriteria(concepts=[procedure(77), procedure(10)]), source)
    assert result.attrition.notes == (
        "not in the enclave's vocabulary: concept 77; check the concept id",
    )


def test_a_note_never_tells_that_no_record_has_a_concept(source: OmopSource) -> None:
    """Concept 12 is known, and its absence among conditions is a count like any other."""
    twelve = {"domain": "condition", "concept_id": 12}
    result = evaluate(ClinicalCriteria(concepts=[twelve]), source)
    assert result.persons.num_rows == 0
    assert result.attrition.notes == ()


def test_a_concept_of_another_domain_or_not_standard_is_said(open_omop: OpenOmop) -> None:
    source = open_omop(
        PEOPLE,
        procedure_occurrence=events("procedure", (1, 10, "2000-06-14")),
        concept="concept_id,domain_id,standard_concept\n10,Procedure,S\n20,Measurement,S\n"
        "30,Procedure,",
    )
    asked = [procedure(one, descendants=False) for one in (10, 20, 30, 40)]
    notes = evaluate(ClinicalCriteria(concepts=asked), source).attrition.notes
    assert [note.split(":")[0] for note in notes] == [
        "concept 20 is of domain Measurement, not Procedure",
        "concept 30 is not a standard concept",
        "not in the enclave's vocabulary",
    ]


def test_a_large_set_makes_few_notes(open_omop: OpenOmop) -> None:
    source = open_omop(
        PEOPLE,
        procedure_occurrence=events("procedure", (1, 10, "2000-06-14")),
        concept="concept_id,domain_id,standard_concept\n"
        + "\n".join(f"{n},{'Drug' if n < 100 else 'Procedure'}," for n in range(1, 200)),
    )
    large = {"domain": "procedure", "concept_id": list(range(1, 300)), "descendants": False}
    notes = evaluate(ClinicalCriteria.model_validate({"concepts": [large]}), source).attrition.notes
    assert len(notes) == 1 + 6 + 6
    assert notes[0].startswith("not in the enclave's vocabulary: concept 200, 201")
    assert "204 and 95 more" in notes[0]
    assert "94 more" in notes[6]


def test_missing_tables_fail_closed(open_omop: OpenOmop) -> None:
    source = open_omop(PEOPLE, procedure_occurrence=events("procedure", (1, 10, "2000-01-01")))
    with pytest.raises(SourceRefused, match="descendants were asked for"):
        found(source, concepts=[procedure(10)])
    with pytest.raises(SourceRefused, match="drug_exposure"):
        found(source, concepts=[{"domain": "drug", "concept_id": 1, "exclude": True}])
    assert found(source, concepts=[procedure(10, descendants=False)]) == [1]


def test_days_from_an_image_need_days_of_images(source: OmopSource) -> None:
    """Person 3 has no dated image: not even that she has no procedure can be shown."""
    near = {"domain": "procedure", "concept_id": 10, "days_from_imaging": {"min": 0}}
    with pytest.raises(CohortRefused, match="no dates of images"):
        found(source, concepts=[near])
    criteria = ClinicalCriteria.model_validate({"concepts": [{**near, "exclude": True}]})
    days = {"1": (dt.date(2010, 1, 2),), "2": (dt.date(2000, 6, 30),), "3": ()}
    result = evaluate(criteria, source, imaging_days=days)
    assert result.persons["person_id"].to_pylist() == [1]
    steps = result.attrition.steps
    assert [step.subjects for step in steps] == [4, 2, 1]
    assert steps[1].reason == "no usable date of an image"
    assert [row["step"] for row in result.everyone.to_pylist()] == [None, 2, 1, 1]


def test_a_column_that_is_not_there_is_refused_not_empty(open_omop: OpenOmop) -> None:
    source = open_omop(
        PEOPLE,
        measurement="measurement_id,person_id,measurement_concept_id,measurement_date,"
        "measurement_type_concept_id\n1,1,5,2000-01-01,0",
        death="person_id,death_date\n1,2001-01-01",
    )
    five = {"domain": "measurement", "concept_id": 5, "descendants": False}
    assert found(source, concepts=[five]) == [1]
    assert found(source, concepts=[{"domain": "death"}]) == [1]
    cause = {"domain": "death", "concept_id": 5, "descendants": False}
    for one, column in (
        ({**five, "value": {"min": 1}}, "value_as_number"),
        ({**five, "unit": [9], "exclude": True}, "unit_concept_id"),
        (cause, "cause_concept_id"),
    ):
        with pytest.raises(SourceRefused, match=column):
            found(source, concepts=[one])


def test_nobody_asked_for_is_nobody_found(source: OmopSource) -> None:
    near = {"domain": "procedure", "concept_id": 10, "days_from_imaging": {"max": 40_000}}
    criteria = ClinicalCriteria.model_validate({"concepts": [near], "index": "imaging"})
    result = evaluate(criteria, source, among={}, imaging_days={})
    assert result.persons.num_rows == result.everyone.num_rows == 0
    assert [step.subjects for step in result.attrition.steps] == [0, 0, 0]
    days = {"a": (dt.date(9999, 12, 31), dt.date(1, 1, 1))}
    assert evaluate(criteria, source, among={99: "a"}, imaging_days=days).persons.num_rows == 0
    assert evaluate(criteria, source, among={1: "a"}, imaging_days=days).persons.num_rows == 1
