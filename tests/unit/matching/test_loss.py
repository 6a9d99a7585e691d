"""What two phases lose is estimated without truth: nothing lost, and much lost."""

from __future__ import annotations

import numpy as np
import pytest

from linkage.errors import MatchingFailed
from linkage.matching import planning
from linkage.matching.candidates import CandidateChunk, Finder
from linkage.matching.dataset import representatives, shape_of
from linkage.matching.loss import Loss, losses
from linkage.matching.planning import RowSets, plan, plan_rest, staged
from linkage.matching.staging import rest
from linkage.matching.weights import Weights, weigh
from tests.unit.matching.worlds import World, world


@pytest.fixture(scope="module")
def made() -> World:
    return world(range(1600), range(800, 2400), seed=5)


def run(made: World, keep: float = 1.0) -> tuple[Loss, Weights, list[CandidateChunk]]:
    """Link in two phases, the second one only over a share of what was left to compare."""
    shapes = [shape_of(d) for d in made.datasets]
    people = {d.party: representatives(d.records) for d in made.datasets}
    finder = Finder(made.named, seed=1)
    found = [finder.find(c) for c in plan(shapes, affordable=0)]
    whole = rest(shapes, found, people, affordable=0)
    draw = np.random.default_rng(2)
    rows: RowSets = {k: v[draw.random(len(v)) < keep] for k, v in whole.items()}
    finder.know(rows)
    found += [finder.find(c) for c in plan_rest(shapes, rows, affordable=0)]
    weights = weigh(shapes, found)
    sampled = {d.party: planning.drawn(d, planning.SAMPLE, 1) for d in made.datasets}
    (loss,) = losses(staged(shapes, 0), found, weights, sampled)
    return loss, weights, found


def truly_lost(made: World, found: list[CandidateChunk]) -> float:
    """Return the share of the sampled people's true pairs that were no candidates."""
    true = made.truth
    sampled = set(true["a"][planning.drawn(made.named("a"), planning.SAMPLE, 1)].tolist())
    proposed, possible = set(), set()
    for one in found:
        if one.chunk.kind in ("keys", "cross", "sample"):
            right = true["a"][one.left] == true["b"][one.right]
            pairs = sampled.intersection(true["a"][one.left][right].tolist())
            possible |= pairs
            if one.chunk.kind != "sample":
                proposed |= pairs
    return 1 - len(proposed) / len(possible)


def test_a_run_that_loses_nothing_says_so(made: World) -> None:
    loss, _, found = run(made)
    assert truly_lost(made, found) < 0.002
    assert loss.parties == ("a", "b")
    assert loss.people == 1600
    assert loss.low <= loss.share <= loss.high < 0.01
    assert 780 < loss.matches < 810


@pytest.mark.parametrize("sample", [1600, 900])
def test_what_is_lost_is_found_again_in_the_sample(
    made: World, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    """Two thirds of what the second phase should compare are left out: some true pairs go."""
    monkeypatch.setattr(planning, "SAMPLE_PEOPLE", sample)
    loss, _, found = run(made, keep=0.35)
    lost = truly_lost(made, found)
    assert loss.people == sample
    assert loss.lost > 5
    assert loss.low < lost < loss.high
    assert abs(loss.share - lost) < 0.01


def test_a_run_without_its_sample_has_no_estimate(made: World) -> None:
    _, weights, found = run(made)
    shapes = [shape_of(d) for d in made.datasets]
    rest_only = [one for one in found if one.chunk.kind != "sample"]
    with pytest.raises(MatchingFailed, match="missing"):
        losses(staged(shapes, 0), rest_only, weights, {"a": np.arange(5), "b": np.arange(5)})
