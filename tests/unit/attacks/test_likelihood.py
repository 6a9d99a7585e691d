"""The list attacker works on plain CLKs, fails on deep diffusion, and reckons as he says."""

from __future__ import annotations

import numpy as np
import pytest

from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import simulated
from linkage.evaluation.attacks.likelihood import ListAttacker, likeliest
from linkage.study import StudyConfig
from tests.unit.attacks.attacked import STUDY, clk, fixed_key


def at_depth(t: int) -> StudyConfig:
    return STUDY.model_copy(update={"clk": (clk(t),)})


@pytest.fixture(scope="module")
def attacker() -> ListAttacker:
    study = at_depth(0)
    crowd = simulated(1_000, seed=1, fields=study.party[0].fields)
    return ListAttacker(study, study.clk[0], crowd, known=50, targets=400, seed=1)


def test_plain_clks_fall_in_one_round(attacker: ListAttacker) -> None:
    plain = at_depth(0)
    found = attacker.against(plain, plain.clk[0], fixed_key())
    assert (found.n, found.known) == (400, 50)
    assert found.share > 0.95


@pytest.mark.threat("T02")
def test_diffusion_hides_most_and_deep_diffusion_all(attacker: ListAttacker) -> None:
    shares = {}
    for t in (5, 10, 64):
        study = at_depth(t)
        shares[t] = attacker.against(study, study.clk[0], fixed_key()).share
    assert shares[5] > 0.3 > 0.1 > shares[10]
    assert shares[64] <= 0.02


def test_the_guess_is_the_largest_log_likelihood() -> None:
    draw = np.random.default_rng(1)
    agreement = draw.random((60, 7)).astype(np.float32)
    seen = draw.random((5, 7)).astype(np.float32)
    candidates = np.ones(60, bool)
    candidates[3] = False
    asked = np.flatnonzero(candidates)
    wanted = agreement[asked].astype(np.float64) ** 3
    wanted -= wanted.mean(axis=0)
    centred = seen - seen.mean(axis=0)
    error = ((centred[:, None, :] - wanted[None, :, :]) ** 2).sum(axis=2)
    got = likeliest(seen, agreement, candidates, depth=3)
    assert got.tolist() == asked[error.argmin(axis=1)].tolist()


def test_a_crowd_must_hold_more_than_the_known() -> None:
    study = at_depth(0)
    crowd = simulated(30, seed=1, fields=study.party[0].fields)
    with pytest.raises(LinkageError, match="too few"):
        ListAttacker(study, study.clk[0], crowd, known=29, targets=5, seed=1)
