"""Weights as a whole: the model is the one its version names, and what is wanted can change."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from linkage.errors import MatchingFailed
from linkage.matching.dataset import Dataset
from linkage.matching.engine import LinkageResult, link
from linkage.matching.weights import MODEL_VERSION, Weights, from_arrow, redecide, to_arrow
from tests.unit.matching.worlds import World, dataset, full, world

RULES = {
    "key-a": ("first_name", "last_name"),
    "key-b": ("last_name", "date_of_birth"),
    "key-c": ("first_name", "date_of_birth"),
}
PINNED = {5: "52fbbbdf43498718"}
"""Without a second look models 3 and 4 are the same."""


@pytest.fixture(scope="module")
def three() -> World:
    return world(range(300), range(150, 500), range(80, 400), seed=5, noise=0.35)


@pytest.fixture(scope="module")
def result(three: World) -> LinkageResult:
    return link(three.datasets, seed=1, rules=RULES)


def test_nobody_changes_the_model_silently(result: LinkageResult) -> None:
    """
    Links say which model made them. If this fails and the change is meant, raise MODEL_VERSION and
    pin the new digest. Four decimals: the last bits may depend on the processor.
    """
    told = hashlib.sha256()
    for c in result.weights.comparisons:
        told.update(np.stack([c.left, c.right], axis=1).astype("<u4").tobytes())
        told.update(np.round(c.probability * 10_000).astype("<i4").tobytes())
        told.update(f"{c.estimate.expected_matches:.1f}".encode())
    assert {MODEL_VERSION: told.hexdigest()[:16]} == PINNED


def _same(one: Weights, other: Weights) -> bool:
    return to_arrow(one).equals(to_arrow(other), check_metadata=True)


@pytest.mark.parametrize("precision", [0.5, 0.95, 0.99, 0.999, 1.0])
def test_another_precision_is_decided_without_weighing_again(
    three: World, result: LinkageResult, precision: float
) -> None:
    kept = from_arrow(to_arrow(result.weights))
    again = redecide(kept, precision)
    assert _same(again, link(three.datasets, seed=1, rules=RULES, precision=precision).weights)
    assert _same(redecide(again, None), result.weights)
    for c in (*again.comparisons, again):
        made = c.estimate if c is not again else again.overall
        assert made.wanted_precision == precision
        assert made.chosen.precision >= precision or not made.chosen.links


def test_the_wanted_precision_is_the_true_one(three: World) -> None:
    """What is linked for a wanted precision has it, but for chance."""
    for precision in (0.9, 0.99):
        found = link(three.datasets, seed=1, rules=RULES, precision=precision)
        for c in found.weights.comparisons:
            linked = c.probability >= c.estimate.link_threshold
            one, other = (three.truth[p] for p in c.parties)
            right = one[c.left[linked]] == other[c.right[linked]]
            assert right.mean() >= precision - 0.02


@pytest.mark.parametrize("precision", [float("nan"), float("inf"), -1.0, 0.0, 0.49, 1.01])
def test_a_precision_that_makes_no_sense_is_refused(
    result: LinkageResult, three: World, precision: float
) -> None:
    with pytest.raises(MatchingFailed, match="wanted precision"):
        redecide(result.weights, precision)
    with pytest.raises(MatchingFailed, match="wanted precision"):
        link(three.datasets, seed=1, precision=precision)


def _of_three_fields(held: range, party: str, wrong: float) -> Dataset:
    """A dataset without CLKs: three keys over two fields each, each field wrong by itself."""
    draw = np.random.default_rng([3, *party.encode()])
    values = np.stack([np.array(held)] * 3, axis=1) * 4
    values += (draw.random(values.shape) < wrong) * (2 if party == "a" else 3)
    columns = {}
    for number, key in enumerate(RULES):
        two = np.delete(values, 2 - number, axis=1).astype(np.int64)
        columns[key] = full(np.ascontiguousarray(two).view(np.uint8))
    return dataset(party, len(held), {}, columns)


@pytest.mark.parametrize("wrong", [0.02, 0.08])
def test_keys_tell_of_matches_that_were_never_proposed(wrong: float) -> None:
    """Without CLKs only keys find pairs: one with no key right is in no list of candidates."""
    both = [
        _of_three_fields(held, p, wrong)
        for held, p in ((range(3000), "a"), (range(1000, 5000), "b"))
    ]
    (blind,) = link(both, seed=1).weights.comparisons
    (told,) = link(both, seed=1, rules=RULES).weights.comparisons
    proposed = float(told.probability.sum())
    missed = 2000 - int((told.probability > 0.5).sum())
    assert missed > 0
    assert blind.estimate.expected_matches == pytest.approx(proposed, rel=0.01)
    assert blind.estimate.expected_spread == 0.0
    away = abs(told.estimate.expected_matches - 2000)
    assert away <= 3 * told.estimate.expected_spread
    assert away < 0.5 * missed
    true = (told.probability > 0.5).sum() / 2000
    chosen = told.estimate.chosen
    assert abs(chosen.recall - true) <= chosen.recall_interval


@pytest.mark.parametrize("share", [0.0, 0.005, 0.02, 0.1])
def test_an_overlap_too_small_to_estimate_is_said_to_be(share: float) -> None:
    """3,000 a side: a warning below 100 common people or 8 %, and what is said near the truth."""
    common = round(3000 * share)
    made = world(range(3000), range(3000 - common, 6000 - common), seed=11, noise=0.3)
    found = link(made.datasets, seed=1, rules=RULES)
    (c,) = found.weights.comparisons
    warned = any("the estimates are rough" in warning for warning in found.weights.warnings)
    assert warned == (common < 100)
    assert c.estimate.expected_matches == pytest.approx(common, abs=5 + 0.1 * common)
    linked = c.probability >= c.estimate.link_threshold
    right = made.truth["a"][c.left[linked]] == made.truth["b"][c.right[linked]]
    assert (~right).sum() <= 2
    assert right.sum() >= 0.9 * common


def test_a_small_share_of_a_large_party_is_an_overlap_too_small() -> None:
    made = world(range(6000), range(5850, 11850), seed=12, noise=0.3)
    found = link(made.datasets, seed=1, rules=RULES).weights
    assert found.overall.expected_matches > 120  # 150 are common
    assert any("the estimates are rough" in warning for warning in found.warnings)
