"""Foretelling what an attacker finds: beside drawing it, and what must hold at any size."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from linkage.evaluation.attacks.best_guess import View, best_guesses, seen_and_expected
from linkage.evaluation.attacks.crowds import simulated
from linkage.evaluation.prediction import MOST_PEOPLE, Energies, unrelated


def _gaussian(n: int, energy: float, seed: int) -> View:
    """A symmetric signal of this energy a pair, and noise of variance 1."""
    draw = np.random.default_rng(seed)

    def symmetric() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        made = np.triu(draw.standard_normal((n, n)), 1).astype(np.float32)
        return np.asarray(made + made.T, np.float32)

    signal = symmetric() * np.float32(energy**0.5)
    return View(signal + symmetric(), signal, 1.0)


def _energies(view: View) -> Energies:
    return Energies.of([view.guessed], chance=[view.guessed])


@pytest.mark.parametrize("energy", [0.02, 0.03, 0.04])
def test_what_is_foretold_is_found(energy: float) -> None:
    found = [
        best_guesses([_gaussian(1_000, energy, seed)], known=100, seed=seed).share
        for seed in range(4)
    ]
    said = _energies(_gaussian(1_000, energy, 9)).share(1_000, known_share=0.1)
    assert said == pytest.approx(np.mean(found), rel=0.35, abs=0.004)


def test_a_landslide_is_found_and_foretold() -> None:
    view = _gaussian(1_000, 0.3, 1)
    assert best_guesses([view], known=100, seed=1).share > 0.9
    assert _energies(view).share(1_000, known_share=0.1) > 0.9


def test_nothing_to_see_is_guessed_by_luck_only() -> None:
    flat = View(_gaussian(500, 1, 1).seen, np.zeros((500, 500), np.float32), 1.0)
    assert best_guesses([flat], known=25, seed=1).correct <= 5
    energies = _energies(flat)
    assert energies.share(10_000, known_share=0.05) < 0.001
    assert energies.holds_up_to(known_share=0.05, most=0.01) == MOST_PEOPLE


def test_two_views_say_more_than_one() -> None:
    signal = _gaussian(600, 0.04, 1)
    again = View(signal.guessed + _gaussian(600, 0, 2).seen, signal.guessed, 1.0)
    alone = best_guesses([signal], known=60, seed=1).share
    assert best_guesses([signal, again], known=60, seed=1).share > alone
    both = Energies.of([signal.guessed] * 2, chance=[signal.guessed] * 2)
    assert both.share(600, known_share=0.1) > _energies(signal).share(600, known_share=0.1)


def test_more_people_known_and_more_epochs_find_more() -> None:
    energies = _energies(_gaussian(800, 0.02, 1))
    shares = [energies.share(800, known_share=known) for known in (0.05, 0.1, 0.2)]
    assert shares == sorted(shares)
    twice = energies.times(2)
    assert twice.share(800, known_share=0.05) > shares[0]
    limits = [one.holds_up_to(known_share=0.05, most=0.02) for one in (energies, twice)]
    assert limits[0] >= limits[1]


def test_relatives_do_not_grow_with_the_study_and_chance_does() -> None:
    n = 1_000
    guessed = np.zeros((n, n), np.float32)
    pairs = np.arange(0, n, 2)
    guessed[pairs, pairs + 1] = guessed[pairs + 1, pairs] = 6.0
    kin = Energies.of([guessed], chance=[np.zeros((n, n), np.float32)])
    chance = Energies.of([guessed], chance=[guessed])
    assert kin.whole(100 * n) == pytest.approx(kin.whole(n)) == pytest.approx(36)
    assert chance.whole(100 * n) == pytest.approx(100 * 36)
    # Whoever's partner is known is found, and nobody else, in a study of any size.
    assert kin.share(n, known_share=0.05) == pytest.approx(0.05, abs=0.01)
    assert kin.share(100 * n, known_share=0.05) == pytest.approx(0.045, abs=0.01)
    assert chance.share(100 * n, known_share=0.05) > 0.9


def test_the_slope_is_measured_where_it_shows_and_else_one() -> None:
    view = _gaussian(400, 1.0, 1)
    scaled = seen_and_expected(view.guessed * 0.5 + view.seen * 0.01, view.guessed, bits=1.0)
    assert scaled.scale == pytest.approx(0.51, abs=0.02)
    faint = seen_and_expected(view.seen, view.guessed * np.float32(1e-4), bits=1.0)
    assert faint.scale == 1.0


def test_unrelated_people_keep_frequencies_and_their_own_fields_together() -> None:
    fields = ("first_name", "last_name", "date_of_birth", "sex", "street", "zip")
    crowd = simulated(500, seed=3, fields=fields)
    mixed = unrelated(crowd, seed=1)
    texts = {
        field: (crowd.columns[field].texts(), mixed.columns[field].texts()) for field in fields
    }
    for before, after in texts.values():
        assert Counter(before) == Counter(after)
    for field in ("first_name", "date_of_birth", "sex"):
        assert texts[field][0] == texts[field][1]
    for field in ("last_name", "street"):
        assert texts[field][0] != texts[field][1]
    streets, zips = texts["street"], texts["zip"]
    assert Counter(zip(streets[0], zips[0], strict=True)) == Counter(
        zip(streets[1], zips[1], strict=True)
    )
