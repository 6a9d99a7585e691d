"""Clinical questions, answered by queries and by plain loops: the same to the last row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.cohort.spec_clinical import ClinicalCriteria
from sites.cohort.config import OmopConfig
from sites.cohort.omop import OmopSource

from .clinical_world import CASES, World, assert_agrees, make_world, questions, reference

Opened = tuple[World, OmopSource]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    made = make_world(1)
    folder = made.write(tmp_path_factory.mktemp("world"))
    with OmopSource.open(OmopConfig(path=folder)) as source:
        yield made, source


@pytest.mark.parametrize("case", CASES)
def test_every_criterion(world: Opened, case: str) -> None:
    asked = ClinicalCriteria.model_validate(CASES[case])
    assert_agrees(asked, *world, all_=False)


def test_every_case_tells_persons_apart(world: Opened) -> None:
    """A case that everybody or nobody meets would show little."""
    made, _ = world
    for name, case in CASES.items():
        persons, steps = reference(ClinicalCriteria.model_validate(case), made, made.among)
        assert name == "everybody" or 0 < len(persons) < steps[0], name


@given(asked=questions(), all_=st.booleans())
@settings(max_examples=15, deadline=None)
def test_random_questions(world: Opened, asked: ClinicalCriteria, all_: bool) -> None:
    assert_agrees(asked, *world, all_=all_)
