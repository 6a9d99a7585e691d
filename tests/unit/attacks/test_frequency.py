"""The commonest encoding is the commonest value where many people share all fields, else not."""

from __future__ import annotations

import numpy as np
import pytest

from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.attacks.frequency import frequency_attack, same_people
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.attacks.similarity import encoded
from tests.unit.attacks.attacked import STUDY, clk, fixed_key, people


def found(depth: int, held: Crowd) -> Reidentified:
    truth = same_people(clk(depth), held)[0]
    values = encoded(STUDY, clk(depth), held, fixed_key()).values
    return frequency_attack(values, truth, truth)


@pytest.mark.parametrize("depth", [0, 14], ids=["plain", "diffused"])
def test_values_that_many_share_are_named_at_any_depth(depth: int) -> None:
    often = np.minimum(np.random.default_rng(1).geometric(0.3, size=500), 20)
    assert found(depth, people(21).rows(often)).share >= 0.8


@pytest.mark.threat("T01")
@pytest.mark.parametrize("depth", [0, 14], ids=["plain", "diffused"])
def test_nobody_shares_the_fields_of_a_real_clk(depth: int) -> None:
    assert found(depth, people(600)).share <= 0.01


def test_only_places_that_stand_apart_are_used() -> None:
    values = np.array([[1], [1], [1], [2], [2], [3], [3], [4]], np.uint8)
    truth = np.array([7, 7, 7, 5, 5, 4, 4, 1])
    assert frequency_attack(values, truth, truth) == Reidentified(8, 3)
    assert frequency_attack(values, truth, truth, gap=0.5) == Reidentified(8, 0)
    assert frequency_attack(values[:0], truth[:0], truth) == Reidentified(0, 0)
