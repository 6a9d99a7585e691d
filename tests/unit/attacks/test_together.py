"""All evidence together: more than one CLK alone, and still little where the study is hardened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd, simulated
from linkage.evaluation.attacks.similarity import (
    centred,
    correlation,
    encoded,
    expected,
    observed,
)
from linkage.evaluation.attacks.together import (
    best_weights,
    combined_attack,
    party_similarity,
    weighted,
)
from linkage.study import StudyConfig, load_study
from tests.unit.attacks.attacked import fixed_key

SHIPPED = load_study(Path(__file__).parents[3] / "configs" / "three-commons" / "study.toml")
FIELDS = sorted({field for party in SHIPPED.party for field in party.fields})
IMAGING = SHIPPED.party_named("imaging")


def at_depth(depth: int) -> StudyConfig:
    """Return the shipped study with this diffusion in every CLK."""
    clks = tuple(clk.model_copy(update={"diffusion": depth}) for clk in SHIPPED.clk)
    return SHIPPED.model_copy(update={"clk": clks})


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return simulated(400, seed=1, fields=FIELDS)


@pytest.mark.threat("T03")
def test_several_clks_together_show_more_than_the_best_alone(crowd: Crowd) -> None:
    study, key = at_depth(7), fixed_key()
    (seen,), guessed, present = party_similarity(study, IMAGING, crowd, [key])
    assert present.all()
    alone = []
    for clk in study.clks_of(IMAGING):
        column = encoded(study, clk, crowd, key)
        wanted = centred(expected(study, clk, crowd), column.present)
        alone.append(correlation(centred(observed(column), column.present), wanted))
    assert correlation(seen, guessed) > max(alone)


def test_one_clk_of_a_party_is_that_clk(crowd: Crowd) -> None:
    study, key = at_depth(4), fixed_key()
    study = study.model_copy(update={"clk": study.clk[:1]})
    (seen,), _, _ = party_similarity(study, IMAGING, crowd, [key])
    column = encoded(study, study.clk[0], crowd, key)
    np.testing.assert_allclose(seen, centred(observed(column), column.present), atol=1e-6)


def test_the_weights_are_the_best_there_are() -> None:
    draw = np.random.default_rng(1)
    noise, n = (0.02, 0.5, 0.02), 300
    wanted = [draw.normal(size=(n, n)).astype(np.float32) * size for size in (0.1, 0.2, 0.01)]
    wanted[1] += wanted[0]
    seen = [
        one + draw.normal(size=(n, n)).astype(np.float32) * np.float32(np.sqrt(var))
        for one, var in zip(wanted, noise, strict=True)
    ]
    weights = best_weights(wanted, noise)

    def found(weights: np.ndarray) -> float:
        return correlation(weighted(seen, weights), weighted(wanted, weights))

    assert weights @ weights == pytest.approx(1)
    for _ in range(50):
        assert found(weights) >= found(np.abs(draw.normal(size=3))) - 0.003
    assert best_weights([wanted[0], 0 * wanted[0]], noise[:2])[1] == pytest.approx(0)


def shares(
    study: StudyConfig, crowd: Crowd, *, known: int, structure: bool = True, key: int = 1
) -> float:
    held = {party.id: crowd for party in study.party}
    found = combined_attack(
        study, held, crowd, fixed_key(key), known=known, seed=3, structure=structure
    )
    assert (found.n, found.known) == (len(crowd) - known, known)
    return found.share


def test_shallow_diffusion_falls_whoever_is_known(crowd: Crowd) -> None:
    assert shares(at_depth(2), crowd, known=0) > 0.9
    assert shares(at_depth(5), crowd, known=20) > 0.9


def test_a_landslide_that_begins_slowly_is_followed_to_its_end(crowd: Crowd) -> None:
    # From four known people it takes more than five rounds: ended there, half were found. Under
    # every other key it does not begin at all.
    study = at_depth(5)
    assert any(shares(study, crowd, known=4, structure=False, key=n) > 0.9 for n in range(20))


@pytest.mark.threat("T03")
@pytest.mark.threat("T04")
def test_deep_diffusion_leaves_what_match_keys_show(crowd: Crowd) -> None:
    deep = at_depth(24)
    assert shares(deep, crowd, known=20, structure=False) < 0.03
    keys_seen = deep.model_copy(
        update={"study": deep.study.model_copy(update={"fill_nulls": False})}
    )
    # Of 400 people, some are alone in lacking what they lack.
    assert shares(keys_seen, crowd, known=0) > 0.015


def test_no_structure_shows_where_no_two_datasets_are_seen_and_nulls_are_filled(
    crowd: Crowd,
) -> None:
    found = combined_attack(at_depth(24), {"imaging": crowd}, crowd, fixed_key(), known=20, seed=1)
    assert found.share < 0.03


def test_people_missing_from_the_list_are_not_searched_for(crowd: Crowd) -> None:
    listed = crowd.rows(np.arange(100, 400))
    found = combined_attack(at_depth(2), {"imaging": crowd}, listed, fixed_key(), known=10, seed=1)
    assert (found.n, found.known) == (290, 10)
    assert found.share > 0.8
    with pytest.raises(LinkageError):
        combined_attack(at_depth(2), {"imaging": crowd}, listed, fixed_key(), known=301)
