"""Who holds the key names everybody on his list, however deep the diffusion."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from linkage.errors import LinkageError
from linkage.evaluation.attacks.dictionary import dictionary_attack
from tests.unit.attacks.attacked import STUDY, clk, fixed_key, halves, people


@pytest.mark.threat("T06")
def test_the_key_opens_everything() -> None:
    held, listed, _ = halves(300, 200, more=100)
    ticks = count(step=2)
    result = dictionary_attack(
        STUDY, clk(14), held, listed, fixed_key(), timer=lambda: float(next(ticks))
    )
    assert result.found.n >= 195
    assert result.found.share == 1
    assert result.rate == 200
    assert result.hours_for(7_200_000) == 10


def test_typing_errors_hinder_little() -> None:
    held, listed, _ = halves(300, 300, registered="enclave")
    result = dictionary_attack(STUDY, clk(10), held, listed, fixed_key(), timer=lambda: 0.0)
    assert result.found.share >= 0.9
    assert result.rate == float("inf")


def test_nobody_in_common_is_refused() -> None:
    some, others = people(20).rows(np.arange(10)), people(20).rows(np.arange(10, 20))
    with pytest.raises(LinkageError, match="nobody"):
        dictionary_attack(STUDY, clk(0), some, others, fixed_key(), timer=lambda: 0.0)
