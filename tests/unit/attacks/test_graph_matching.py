"""Graph matching names people of plain CLKs, with other people on both sides, and no diffused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.attacks.graph_matching import match_graphs, one_to_one, score
from linkage.evaluation.attacks.outcome import Reidentified
from tests.unit.attacks.attacked import graphs, halves


def falls(
    depth: int, held: Crowd, listed: Crowd, truth: npt.NDArray[np.int64], least: float
) -> bool:
    """
    Tell whether that share of the people in the list is named under one of three study keys.

    Nearly every key does; once in some hundreds of keys the rounds end before the landslide.
    """
    found = (score(match_graphs(*graphs(depth, held, listed)), truth) for _ in range(3))
    return any(one.n == (truth >= 0).sum() and one.share >= least for one in found)


@pytest.mark.threat("T01")
@pytest.mark.parametrize(
    ("common", "registered", "more", "least"),
    [(700, "imaging", 0, 0.95), (700, "enclave", 0, 0.85), (560, "imaging", 150, 0.9)],
    ids=["the same values", "with typing errors", "other people on both sides"],
)
def test_plain_clks_fall(common: int, registered: str, more: int, least: float) -> None:
    held, listed, truth = halves(700, common, registered=registered, more=more)
    assert falls(0, held, listed, truth, least)


@pytest.mark.threat("T01")
def test_deep_diffusion_holds() -> None:
    held, listed, truth = halves(700, 700)
    assert score(match_graphs(*graphs(14, held, listed)), truth).share <= 0.01


@pytest.mark.threat("T01")
def test_shallow_diffusion_falls() -> None:
    assert falls(3, *halves(900, 900), 0.9)


def test_known_people_keep_their_places_and_the_result_is_always_the_same() -> None:
    held, listed, truth = halves(200, 200)
    seen, guessed = graphs(8, held, listed)
    rows = np.arange(0, 200, 10)
    seeds = (rows, truth[rows])
    once = match_graphs(seen, guessed, seeds=seeds)
    assert np.array_equal(once[rows], truth[rows])
    assert np.array_equal(once, match_graphs(seen, guessed, seeds=seeds))
    assert not np.isin(np.delete(once, rows), truth[rows]).any()
    assert np.array_equal(match_graphs(seen, guessed), match_graphs(seen, guessed))


def test_records_without_a_clk_are_nobody() -> None:
    held, listed, _ = halves(120, 120)
    seen, guessed = graphs(0, held, listed)
    seen[5] = seen[:, 5] = 0
    guess = match_graphs(seen, guessed)
    assert guess[5] == -1
    assert (np.delete(guess, 5) >= 0).all()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_hardly_anybody_is_no_error(n: int) -> None:
    nothing = np.zeros((n, n), np.float32)
    assert (match_graphs(nothing, nothing) == -1).all()
    alike = np.full((n, n), 0.5, np.float32)
    np.fill_diagonal(alike, 0)
    assert len(match_graphs(alike, alike)) == n


def test_shares_of_rows_sum_to_one_and_a_sure_row_takes_its_column() -> None:
    shares = one_to_one(np.array([[9.0, 0.0, 0.0], [1.0, 0.9, 0.0]], np.float32))
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares.argmax(axis=1).tolist() == [0, 1]


def test_score_counts_only_people_in_the_list_and_not_known() -> None:
    guess, truth = np.array([0, 1, 2, 0]), np.array([0, 2, 2, -1])
    assert score(guess, truth) == Reidentified(3, 2)
    assert score(guess, truth, known=np.array([0])) == Reidentified(2, 1, 1)
    assert score(guess) == Reidentified(4, 3)
