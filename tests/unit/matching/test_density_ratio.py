"""The fit: a true gradient, a known ratio found again, and evidence that must be whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad

from linkage.errors import MatchingFailed
from linkage.matching.candidates import CandidateChunk, find
from linkage.matching.dataset import Shape, shape_of
from linkage.matching.density_ratio import _Loss, fit, log_weights
from linkage.matching.evidence import KNOTS, UNSEEN, Evidence, gather
from linkage.matching.planning import plan
from tests.unit.matching.worlds import World, world


@pytest.fixture(scope="module")
def made() -> World:
    return world(range(200), range(100, 320), seed=3)


def _stages(made: World, rows: int = 1000) -> tuple[list[Shape], list[CandidateChunk]]:
    shapes = [shape_of(d) for d in made.datasets]
    chunks = plan(shapes, rows_per_chunk=rows)
    return shapes, [find(c, made.named(c.left), made.named(c.right), seed=1) for c in chunks]


def test_the_gradient_is_that_of_the_loss(made: World) -> None:
    (evidence,) = gather(*_stages(made))
    loss = _Loss(evidence, 0.4)
    draw = np.random.default_rng(1)
    for _ in range(3):
        at = loss.centre + draw.normal(size=len(loss.centre))
        size = np.abs(loss(at)[1]).max()
        assert check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], at) < 1e-4 * size


def test_signs_hold(made: World) -> None:
    (evidence,) = gather(*_stages(made))
    coefficients = fit(evidence, 0.5)
    assert (coefficients[:-1] >= evidence.lower).all()
    assert (coefficients[:-1] <= evidence.upper).all()
    assert (evidence.lower == 0).sum() == len(KNOTS) - 1 + 3
    assert (evidence.upper == 0).sum() == 3


def test_a_known_ratio_is_found_again() -> None:
    """10,000 chance pairs by a known null; matches w times as dense where the feature is 1."""
    null = np.array([[1.0, 0.0]] * 9000 + [[1.0, 1.0]] * 1000)
    matches = 3000
    evidence = Evidence(
        parties=("a", "b"),
        people=(100, 100),
        left=np.zeros(10_000 + matches, np.uint32),
        right=np.zeros(10_000 + matches, np.uint32),
        kind=np.arange(10_000 + matches),
        x=np.concatenate([null, np.tile([[1.0, 1.0]], (matches, 1))]),
        count=np.ones(10_000 + matches),
        keyed=np.zeros(10_000 + matches, np.bool_),
        null_x=null,
        null_weight=np.ones(10_000),
        null_keyed=np.zeros(10_000, np.bool_),
        lower=np.array([-np.inf, 0.0]),
        upper=np.array([np.inf, np.inf]),
        centre=np.array([-5.0, 0.5]),
        keys=(),
        agree=np.zeros(10_000 + matches, np.uint64),
        left_out=np.zeros(0),
    )
    eta = log_weights(evidence, 1.0, fit(evidence, 1.0))
    assert np.exp(eta[-1]) == pytest.approx(3.0, rel=0.1)  # 3,000 matches to 1,000 chance pairs
    assert eta[0] < -3  # nothing in excess: the prior keeps it low
    assert np.exp(log_weights(evidence, 0.5, fit(evidence, 1.0))[-1]) == pytest.approx(6, rel=0.1)


def test_a_fit_without_a_solution_fails() -> None:
    made = world(range(50), range(50), seed=3)
    (evidence,) = gather(*_stages(made))
    broken = replace(evidence, null_weight=np.full(len(evidence.null_weight), np.inf))
    with pytest.raises(MatchingFailed, match="no weights could be fitted between a and b"):
        fit(broken, 1.0)


def test_visible_pairs_stand_for_all_cross_pairs(made: World) -> None:
    """Each party's pairs carry half; what is drawn above 3.5 must match chance cross pairs."""
    shapes, chunks = _stages(made)
    (evidence,) = gather(shapes, chunks)
    one, other = (s.people for s in shapes)
    share = {n: one * other / 2 / (n * (n - 1) / 2) for n in (one, other)}
    expected = UNSEEN * sum(share.values()) / 2 * (len(KNOTS) - 1)
    for shape in shapes:
        within = [c for c in chunks if c.chunk.kind == "within" and c.chunk.left == shape.party]
        expected += share[shape.people] * sum(int((c.agree == 0).sum()) for c in within)
    visible = evidence.null_weight[~evidence.null_keyed]
    assert visible.sum() == pytest.approx(expected)


def test_attested_collisions_bring_back_the_chance_of_a_key(made: World) -> None:
    shapes, chunks = _stages(made)
    told = [replace(s, collisions={**s.collisions, "key-b": 40}) for s in shapes]
    # 40 is rounded up: 36, 37, 38, 39 or 40 values.
    before, after = gather(shapes, chunks)[0], gather(told, chunks)[0]
    one, other = (s.people for s in shapes)
    expected = 38 * (one * other / 2) * sum(1 / (n * (n - 1) / 2) for n in (one, other))
    assert after.null_weight.sum() - before.null_weight.sum() == pytest.approx(expected)
    column = 1 + (len(KNOTS) - 1) + 1 + 2  # intercept, stretches of z, any, key-a both ways
    assert fit(after, 1.0)[column] < fit(before, 1.0)[column] - 0.2


@pytest.mark.parametrize("lost", [0, 3, -1])
def test_a_missing_chunk_is_noticed(made: World, lost: int) -> None:
    shapes, chunks = _stages(made, rows=70)
    del chunks[lost]
    with pytest.raises(MatchingFailed, match="missing"):
        gather(shapes, chunks)


def test_a_chunk_that_comes_twice_is_noticed(made: World) -> None:
    shapes, chunks = _stages(made, rows=70)
    with pytest.raises(MatchingFailed, match="twice"):
        gather(shapes, [*chunks, chunks[1]])


def test_a_chunk_of_another_run_is_noticed(made: World) -> None:
    shapes, chunks = _stages(made)
    with pytest.raises(MatchingFailed, match="no comparison"):
        gather([replace(s, party=s.party + "x") for s in shapes], chunks)
    with pytest.raises(MatchingFailed, match="other CLKs or keys"):
        gather([replace(s, keys=s.keys[:2], collisions={}) for s in shapes], chunks)


def test_the_order_of_chunks_does_not_matter(made: World) -> None:
    shapes, chunks = _stages(made, rows=70)
    (one,), (other,) = gather(shapes, chunks), gather(shapes[::-1], chunks[::-1])
    assert np.array_equal(one.x, other.x)
    assert np.array_equal(one.null_x, other.null_x)
    assert np.array_equal(one.null_weight, other.null_weight)
