"""Sets of records and their probabilities, against enumeration of every configuration."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from linkage.errors import TooManyCandidates
from linkage.matching import hyperedges
from linkage.matching.hyperedges import Hyperedges, Pairs, _each_once, grow, is_candidate
from linkage.matching.propagation import propagate


def _pairs(*weighted: tuple[int, int, float], prior: float = -8.0, missed: float = 0.05) -> Pairs:
    left, right, weight = (np.array(c) for c in zip(*weighted, strict=True))
    return Pairs(left, right, weight.astype(float), log_prior=prior, missed=missed)


def _enumerated(edges: Hyperedges) -> list[float]:
    """Return the share of configurations of disjoint hyperedges that hold each hyperedge."""
    nodes = [
        {(p, row) for p, row in enumerate(members) if row >= 0}
        for members in edges.members.tolist()
    ]
    total, share = 0.0, np.zeros(len(nodes))
    for size in range(len(nodes) + 1):
        for chosen in combinations(range(len(nodes)), size):
            if sum(len(nodes[e]) for e in chosen) == len(set().union(*(nodes[e] for e in chosen))):
                weight = float(np.exp(edges.log_weight[list(chosen)].sum()))
                total += weight
                share[list(chosen)] += weight
    return [float(s) for s in share / total]


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.floats(-5, 5), min_size=1, max_size=7), data=st.data())
def test_on_trees_probabilities_are_exact(weights: list[float], data: st.DataObject) -> None:
    members, used = [], [1, 0]  # a tree grows by one new record an edge, on either side
    for _ in weights:
        new = data.draw(st.integers(0, 1)) if used[1] else 1
        edge = [0, 0]
        edge[new], edge[1 - new] = used[new], data.draw(st.integers(0, used[1 - new] - 1))
        used[new] += 1
        members.append(edge)
    edges = Hyperedges(np.array(members), np.array(weights))
    assert propagate(edges) == pytest.approx(_enumerated(edges), abs=1e-5)


def test_weak_pairs_grow_no_sets_where_these_would_be_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All pairs stay, sets of strong pairs stay; nothing left to leave out is refused by name."""
    strong = _pairs((0, 0, 9.0), (0, 1, -3.0), (1, 0, -3.0))
    pairs = {(0, 1): strong, (0, 2): strong, (1, 2): strong}
    whole = grow(pairs, 3)
    triples = (whole.members >= 0).all(axis=1)
    assert (triples.sum(), (~triples).sum()) == (4, 9)
    monkeypatch.setattr(hyperedges, "MAX_SETS", 1)
    few = grow(pairs, 3)
    assert few.members[-1].tolist() == [0, 0, 0]
    assert np.array_equal(few.members[:-1], whole.members[~triples])
    monkeypatch.setattr(hyperedges, "MAX_SETS", 0)
    with pytest.raises(TooManyCandidates, match="too many sets"):
        grow(pairs, 3)


def test_a_triple_and_a_pair_that_share_a_record() -> None:
    edges = Hyperedges(np.array([[0, 0, 0], [1, 0, -1], [-1, 1, 1]]), np.array([2.0, 1.0, 0.3]))
    assert propagate(edges) == pytest.approx(_enumerated(edges), abs=1e-6)


def test_competitors_share_what_one_record_can_give() -> None:
    edges = Hyperedges(np.array([[0, 0], [0, 1], [0, 2]]), np.full(3, 10.0))
    p = propagate(edges)
    assert p == pytest.approx([1 / 3] * 3, abs=1e-3)
    assert p.sum() <= 1


def test_strong_weights_neither_tie_nor_overflow() -> None:
    edges = Hyperedges(np.array([[0, 0], [0, 1], [1, 2]]), np.array([800.0, 795.0, 2000.0]))
    p = propagate(edges)
    assert p[0] == pytest.approx(1 / (1 + np.exp(-5.0)), abs=1e-6)
    assert p[2] == 1.0


def test_equal_claims_settle() -> None:
    """A ring of four equal pairs: without damping its messages swing between two states."""
    edges = Hyperedges(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.full(4, 8.0))
    assert propagate(edges) == pytest.approx([0.5] * 4, abs=0.01)


def test_nothing_comes_of_nothing() -> None:
    assert propagate(grow({(0, 1): _none()}, 2)).shape == (0,)


def _none() -> Pairs:
    empty = np.zeros(0, np.int64)
    return Pairs(empty, empty, np.zeros(0), log_prior=0.0, missed=0.05)


def _weight_of(edges: Hyperedges, members: list[int]) -> float:
    (row,) = np.flatnonzero((edges.members == members).all(axis=1))
    return float(edges.log_weight[row])


def test_three_records_count_the_name_they_share_twice_not_thrice() -> None:
    edges = grow(
        {
            (0, 1): _pairs((0, 0, 9.0)),
            (0, 2): _pairs((0, 0, 4.0)),
            (1, 2): _pairs((0, 0, 7.0)),
        },
        3,
    )
    assert _weight_of(edges, [0, 0, 0]) == 9 + 7
    assert len(edges.members) == 4


def test_the_weakest_pair_counts_only_against() -> None:
    """A log weight of -11 where -8 was expected beforehand is a likelihood ratio of exp(-3)."""
    edges = grow(
        {
            (0, 1): _pairs((0, 0, 9.0)),
            (0, 2): _pairs((0, 0, -11.0)),
            (1, 2): _pairs((0, 0, 7.0)),
        },
        3,
    )
    assert _weight_of(edges, [0, 0, 0]) == pytest.approx(9 + 7 - 3)


def test_a_pair_that_was_no_candidate_counts_as_often_as_true_pairs_are_missed() -> None:
    edges = grow(
        {(0, 1): _pairs((0, 0, 9.0)), (0, 2): _pairs((5, 5, 1.0)), (1, 2): _pairs((0, 0, 7.0))}, 3
    )
    assert _weight_of(edges, [0, 0, 0]) == pytest.approx(9 + 7 + np.log(0.05))


def test_parties_that_are_not_compared_say_nothing_against() -> None:
    edges = grow({(0, 1): _pairs((0, 0, 9.0)), (1, 2): _pairs((0, 0, 7.0))}, 3)
    assert _weight_of(edges, [0, 0, 0]) == 9 + 7


def test_sets_grow_over_four_parties_once_each() -> None:
    pairs = {c: _pairs((0, 0, 5.0)) for c in combinations(range(4), 2)}
    edges = grow(pairs, 4)
    assert len(edges.members) == 6 + 4 + 1
    assert _weight_of(edges, [0, 0, 0, 0]) == 15
    assert propagate(edges)[-1] > 0.95


@given(
    arrays(np.int64, st.tuples(st.integers(0, 20), st.integers(1, 4)), elements=st.integers(-1, 3))
)
def test_each_set_is_kept_once(members: npt.NDArray[np.int64]) -> None:
    assert np.array_equal(_each_once(members), np.unique(members, axis=0))


def test_weak_pairs_grow_no_sets() -> None:
    edges = grow({(0, 1): _pairs((0, 0, 9.0)), (1, 2): _pairs((0, 0, -7.0))}, 3)
    assert (edges.members >= 0).sum(axis=1).tolist() == [2, 2]


def test_candidates_are_known_by_both_rows() -> None:
    found = _pairs((0, 5, 1.0), (3, 2, 1.0))
    asked = is_candidate(found, np.array([0, 0, 3, 9]), np.array([5, 2, 2, 9]))
    assert asked.tolist() == [True, False, True, False]
    assert not is_candidate(_none(), np.array([0]), np.array([0])).any()
