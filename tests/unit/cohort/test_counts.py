"""Answers to questions: on persons, suppressed, always the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sites.cohort.counts import AGE_BANDS, Counts, age_band, answer_counts
from sites.cohort.omop import OmopSource
from sites.cohort.spec import ClinicalCriteria, ConceptCriterion

from .conftest import OpenOmop, events

CRITERIA = ClinicalCriteria(
    concepts=[ConceptCriterion(domain="procedure", concept_id=10, descendants=False)]
)


@pytest.fixture
def source(open_omop: OpenOmop) -> OmopSource:
    """100 persons, women with odd ids; the first 60 have the procedure, aged 20 to 79."""
    people = " ".join(f"{n},{8532 if n % 2 else 8507},{2000 - 19 - n},1,1" for n in range(1, 101))
    rows = [(n, 10, "2000-06-01") for n in range(1, 61)]
    return open_omop(people, procedure_occurrence=events("procedure", *rows))


def ask(source: OmopSource, qualifying: range, **more: int) -> Counts:
    names = {n: f"Q{n}" for n in range(1, 101)}
    return answer_counts(
        [f"Q{n}" for n in qualifying] + ["Q-of-nobody-here"],
        names,
        CRITERIA,
        source,
        minimum_cell=11,
        **more,
    )


def test_the_answer_is_the_intersection_of_both_halves(source: OmopSource) -> None:
    counts = ask(source, range(1, 49), rounding=1)
    assert counts.exact == counts.persons == 48
    assert counts.sex == {"female": 24, "male": 24, "unknown": 0}
    assert [shown for _, shown in counts.attrition] == [100, 48, 48, 48]


def test_rounding_is_the_default(source: OmopSource) -> None:
    assert ask(source, range(1, 49)).persons == 50
    assert ask(source, range(1, 49)).to_json()["rounding"] == 5


def test_small_answers_show_nothing_but_their_smallness(source: OmopSource) -> None:
    for last in (2, 11):
        counts = ask(source, range(1, last))
        assert counts.persons == "<11"
        assert counts.sex is None
        assert counts.age is None
    assert ask(source, range(61, 100)).persons == 0


@pytest.mark.threat("T18")
def test_what_leaves_holds_no_id_and_not_the_exact_number(source: OmopSource) -> None:
    text = json.dumps(ask(source, range(1, 49)).to_json())
    assert "Q" not in text
    assert "exact" not in text
    assert "48" not in text


@pytest.mark.threat("T18")
def test_the_same_question_has_the_same_answer(source: OmopSource) -> None:
    one, two = ask(source, range(1, 49)), ask(source, range(1, 49))
    assert one == two


def test_a_person_with_two_records_counts_once(source: OmopSource) -> None:
    names = {1: "one", 2: "one", 3: "two"}
    criteria = ClinicalCriteria(any=True)
    counts = answer_counts(["one", "two"], names, criteria, source, minimum_cell=11)
    assert counts.exact == 2
    assert counts.age is None


@given(st.integers(-5, 150) | st.none())
def test_every_age_has_one_band(age: int | None) -> None:
    band = age_band(age)
    assert band in AGE_BANDS
    if age is not None and 0 <= age <= 130 and "-" in band:
        low, high = band.split("-")
        assert int(low) <= age <= int(high)
