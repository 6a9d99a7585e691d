"""An attacker who knows some people finds the others through shallow diffusion, not deep."""

from __future__ import annotations

import numpy as np
import pytest

from linkage.errors import LinkageError
from linkage.evaluation.attacks.known_people import seeded_attack
from linkage.evaluation.attacks.outcome import Reidentified
from tests.unit.attacks.attacked import graphs, halves, people


@pytest.mark.threat("T02")
def test_knowing_a_few_opens_what_graph_matching_alone_does_not() -> None:
    held = people(1000)
    seen, guessed = graphs(6, held, held)
    found = seeded_attack(seen, guessed, known=50, seed=1)
    assert (found.n, found.known) == (950, 50)
    assert found.share >= 0.9


def test_a_landslide_needs_more_than_one_round() -> None:
    held = people(1000)
    seen, guessed = graphs(7, held, held)
    once = seeded_attack(seen, guessed, known=50, seed=1, rounds=1)
    assert seeded_attack(seen, guessed, known=50, seed=1).share > once.share + 0.2


@pytest.mark.threat("T02")
def test_deep_diffusion_holds() -> None:
    held = people(1000)
    assert seeded_attack(*graphs(16, held, held), known=50, seed=1).share <= 0.01


def test_a_list_of_other_people_besides() -> None:
    held, listed, truth = halves(600, 300)
    found = seeded_attack(*graphs(3, held, listed), known=30, seed=1, truth=truth)
    assert found.n == 270
    assert found.share >= 0.8


def test_ties_do_not_favour_the_truth() -> None:
    alike = np.zeros((300, 300), np.float32)
    assert seeded_attack(alike, alike, known=10, seed=1).correct == 0


@pytest.mark.parametrize("known", [-1, 21])
def test_nobody_knows_more_people_than_there_are(known: int) -> None:
    held = people(20)
    with pytest.raises(LinkageError, match="beforehand"):
        seeded_attack(*graphs(0, held, held), known=known, seed=1)


@pytest.mark.parametrize(("n", "correct", "known"), [(3, 4, 0), (3, -1, 0), (3, 0, -1)])
def test_impossible_outcomes_are_refused(n: int, correct: int, known: int) -> None:
    with pytest.raises(LinkageError):
        Reidentified(n, correct, known)


def test_an_outcome_tells_its_share() -> None:
    assert Reidentified(4, 1, 2).as_json() == {"n": 4, "correct": 1, "known": 2, "share": 0.25}
    assert Reidentified(0, 0).share == 0
