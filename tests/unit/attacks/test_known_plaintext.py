"""What is learnt bit by bit opens plain CLKs, and nothing diffused."""

from __future__ import annotations

import numpy as np
import pytest

from linkage.errors import LinkageError
from linkage.evaluation.attacks.known_plaintext import learned_attack, relations_attack
from linkage.evaluation.attacks.listed_tokens import listed_tokens
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.attacks.similarity import encoded
from tests.unit.attacks.attacked import STUDY, clk, fixed_key, people


def learned(depth: int, *, n: int = 600, known: int = 40) -> Reidentified:
    held = people(n)
    spec = clk(depth)
    column = encoded(STUDY, spec, held, fixed_key())
    return learned_attack(column, listed_tokens(spec, held, least=2), known=known, seed=1)


def test_a_few_known_people_open_plain_clks() -> None:
    found = learned(0)
    assert found.known == 40
    assert found.share >= 0.9


@pytest.mark.threat("T01")
def test_parities_are_not_learnt() -> None:
    assert learned(14).share <= 0.01


def test_there_must_be_people_to_learn_from_and_to_search() -> None:
    for known in (0, 19):
        with pytest.raises(LinkageError, match="learn"):
            learned(0, n=20, known=known)


def test_tokens_are_those_that_enough_people_have() -> None:
    held = people(50)
    spec = clk(0, "sex", "last_name", "first_name", "middle_name")
    everyone, some = listed_tokens(spec, held), listed_tokens(spec, held, least=10)
    assert everyone.any(axis=0).all()
    assert some.shape[1] == (everyone.sum(axis=0) >= 10).sum() > 0
    assert np.array_equal(some, everyone[:, everyone.sum(axis=0) >= 10])


def test_relations_of_four_add_to_likeness_where_diffusion_is_shallow() -> None:
    held = people(400)
    found = relations_attack(STUDY, clk(5), held, fixed_key(), known=50, targets=40, seed=1)
    assert found.triples.share >= 0.5
    assert found.both.n == 40
    assert found.both.correct >= found.likeness.correct - 2


@pytest.mark.threat("T01")
def test_relations_of_four_tell_nothing_of_deep_diffusion() -> None:
    held = people(400)
    found = relations_attack(STUDY, clk(16), held, fixed_key(), known=40, targets=40, seed=1)
    assert found.triples.share <= 0.2


def test_relations_need_three_known_people() -> None:
    with pytest.raises(LinkageError, match="cannot be had"):
        relations_attack(STUDY, clk(5), people(30), fixed_key(), known=2, targets=10, seed=1)
