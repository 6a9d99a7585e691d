"""Entities: one record a party, whatever the pairs; the greedy rule of anonlink."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.assertions import AssertionList
from linkage.errors import EncodingRefused, MatchingFailed
from linkage.matching import solve_reference
from linkage.matching.asserted import settle
from linkage.matching.estimates import estimate
from linkage.matching.solve import Entities, from_arrow, solve, to_arrow
from linkage.matching.weights import Comparison, Weights

PARTIES = ("a", "b", "c")
Pair = tuple[str, int, str, int, float]
Record = tuple[str, int]


def _weights(pairs: list[Pair], threshold: float = 0.5) -> Weights:
    comparisons = []
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        mine = sorted((i, j, p) for x, i, y, j, p in pairs if (x, y) == (one, other))
        p = np.array([m[2] for m in mine])
        made = estimate(p, p, float(p.sum()))
        object.__setattr__(made, "link_threshold", threshold)
        comparisons.append(
            Comparison(
                (one, other),
                np.array([m[0] for m in mine], np.uint32),
                np.array([m[1] for m in mine], np.uint32),
                p,
                made,
            )
        )
    return Weights(tuple(comparisons), comparisons[0].estimate, ())


def _groups(*sizes: int) -> dict[str, np.ndarray]:
    every = [*sizes, 0, 0][: len(PARTIES)]
    return {p: np.arange(n, dtype=np.uint32) for p, n in zip(PARTIES, every, strict=True)}


def _sets(entities: Entities) -> set[frozenset[tuple[str, int]]]:
    parts: dict[int, set[tuple[str, int]]] = {}
    for party, of in entities.of.items():
        for row, entity in enumerate(of.tolist()):
            parts.setdefault(entity, set()).add((party, row))
    return {frozenset(part) for part in parts.values()}


@st.composite
def pair_lists(draw: st.DrawFn, distinct: bool = False) -> list[Pair]:
    keys = draw(
        st.lists(
            st.tuples(
                st.sampled_from([("a", "b"), ("a", "c"), ("b", "c")]),
                st.integers(0, 4),
                st.integers(0, 4),
            ),
            unique=True,
            max_size=25,
        )
    )
    some = st.floats(0, 1) if distinct else st.sampled_from([0.3, 0.5, 0.6, 0.9, 1.0])
    p = draw(st.lists(some, min_size=len(keys), max_size=len(keys), unique=distinct))
    return [(x, i, y, j, q) for ((x, y), i, j), q in zip(keys, p, strict=True)]


@settings(max_examples=80, deadline=None)
@given(pairs=pair_lists(), data=st.data())
def test_no_entity_holds_two_records_of_a_party(pairs: list[Pair], data: st.DataObject) -> None:
    entities = solve(_weights(pairs), _groups(5, 5, 5))
    parts = _sets(entities)
    assert sum(len(part) for part in parts) == 15
    assert entities.count == len(parts)
    for part in parts:
        assert max(Counter(party for party, _ in part).values()) == 1
    again = solve(_weights(data.draw(st.permutations(pairs))), _groups(5, 5, 5))
    assert all((again.of[p] == entities.of[p]).all() for p in PARTIES)


@settings(max_examples=60, deadline=None)
@given(pairs=pair_lists(distinct=True))
def test_the_same_entities_as_anonlinks_greedy_solver(pairs: list[Pair]) -> None:
    solving = pytest.importorskip("anonlink.solving", reason="no wheel for this Python")
    import array

    kept = sorted((q for q in pairs if q[4] >= 0.4), key=lambda q: -q[4])
    number = {p: n for n, p in enumerate(PARTIES)}
    candidates = (
        array.array("d", [q[4] for q in kept]),
        tuple(array.array("I", [number[q[side]] for q in kept]) for side in (0, 2)),
        tuple(array.array("I", [q[side] for q in kept]) for side in (1, 3)),
    )
    # anonlink can ask that a share of all pairs between two groups be candidates before it merges
    # them. Ours asks for one pair, which is its merge threshold of 0.
    theirs = solving.probabilistic_greedy_solve(candidates, merge_threshold=0.0)
    ours = solve(_weights(pairs, threshold=0.4), _groups(5, 5, 5))
    expected = {frozenset((PARTIES[d], row) for d, row in group) for group in theirs}
    assert {part for part in _sets(ours) if len(part) > 1} == expected


def test_the_best_pair_wins_and_a_chain_does_not_tie_two_of_a_party() -> None:
    pairs = [("a", 0, "b", 0, 0.9), ("b", 0, "c", 0, 0.8), ("a", 1, "c", 0, 0.7)]
    parts = _sets(solve(_weights(pairs), _groups(2, 1, 1)))
    assert parts == {frozenset({("a", 0), ("b", 0), ("c", 0)}), frozenset({("a", 1)})}


def test_ties_go_to_the_smaller_row() -> None:
    pairs = [("a", 1, "b", 0, 0.9), ("a", 0, "b", 1, 0.9), ("a", 0, "b", 0, 0.9)]
    entities = solve(_weights(pairs), _groups(2, 2))
    assert entities.of["a"].tolist() == [0, 1]
    assert entities.of["b"].tolist() == [0, 2]


@pytest.mark.parametrize(("threshold", "linked"), [(0.7, True), (np.nextafter(0.7, 1), False)])
def test_the_threshold_is_inclusive(threshold: float, linked: bool) -> None:
    weights = _weights([("a", 0, "b", 0, 0.7)])
    entities = solve(weights, _groups(1, 1), threshold=threshold)
    assert (entities.of["a"][0] == entities.of["b"][0]) == linked


def test_each_comparison_has_its_own_threshold_unless_told() -> None:
    weights = _weights([("a", 0, "b", 0, 0.7), ("a", 1, "c", 0, 0.7)])
    object.__setattr__(weights.comparisons[1].estimate, "link_threshold", 0.8)
    assert solve(weights, _groups(2, 1, 1)).count == 3
    assert solve(weights, _groups(2, 1, 1), threshold=0.6).count == 2


def test_duplicates_inherit_the_entity_of_the_first_of_their_group() -> None:
    groups = {
        "a": np.array([4, 9, 4], np.uint32),
        "b": np.array([0, 0], np.uint32),
        "c": np.zeros(0, np.uint32),
    }
    entities = solve(_weights([("a", 0, "b", 0, 0.9)]), groups)
    assert entities.of["a"].tolist() == [0, 1, 0]
    assert entities.of["b"].tolist() == [0, 0]


def test_numbers_follow_first_appearance() -> None:
    entities = solve(_weights([("a", 2, "b", 0, 0.9)]), _groups(3, 2, 1))
    assert {p: of.tolist() for p, of in entities.of.items()} == {
        "a": [0, 1, 2], "b": [2, 3], "c": [4]
    }  # fmt: skip


def test_entities_survive_arrow() -> None:
    entities = solve(_weights([("a", 2, "c", 0, 0.9)]), _groups(3, 0, 2))
    again = from_arrow(to_arrow(entities))
    assert again.count == entities.count == 4
    assert list(again.of) == ["a", "b", "c"]
    assert all((again.of[p] == entities.of[p]).all() for p in PARTIES)
    with pytest.raises(EncodingRefused, match="not the entities"):
        from_arrow(to_arrow(entities).replace_schema_metadata({}))


def test_weights_of_other_datasets_are_refused() -> None:
    weights = _weights([("a", 2, "b", 0, 0.9)])
    with pytest.raises(MatchingFailed, match="record that its dataset does not have"):
        solve(weights, _groups(2, 1, 1))
    with pytest.raises(MatchingFailed, match="no groups"):
        solve(weights, {"a": np.arange(3, dtype=np.uint32)})


@st.composite
def assertions(draw: st.DrawFn) -> tuple[list[tuple[Record, Record]], list[tuple[Record, Record]]]:
    """Pairs said to be one person, or two, that may well contradict each other."""
    pair = st.tuples(
        st.sampled_from([("a", "b"), ("a", "c"), ("b", "c")]), st.integers(0, 4), st.integers(0, 4)
    )
    drawn = draw(st.lists(st.tuples(pair, st.booleans()), unique_by=lambda x: x[0], max_size=8))
    made = [(((x, i), (y, j)), same) for ((x, y), i, j), same in drawn]
    return [p for p, same in made if same], [p for p, same in made if not same]


def _lists(
    same: list[tuple[Record, Record]], different: list[tuple[Record, Record]]
) -> dict[str, AssertionList]:
    """What every party sends: the row number is the pseudonym, each pair has its own token."""
    rows: dict[str, list[tuple[int, int, bool]]] = {p: [] for p in PARTIES}
    for token, (pair, apart) in enumerate(
        [(p, False) for p in same] + [(p, True) for p in different]
    ):
        for party, row in pair:
            rows[party].append((row, token, apart))
    return {
        p: AssertionList(
            p,
            _names(p, [row for row, _, _ in mine]),
            _names("", [token for _, token, _ in mine]),
            np.array([apart for _, _, apart in mine], np.bool_),
        )
        for p, mine in rows.items()
    }


def _names(party: str, rows: list[int]) -> np.ndarray:
    text = b"".join(party.encode().ljust(8, b"-") + row.to_bytes(8, "big") for row in rows)
    return np.frombuffer(text, np.uint8).reshape(-1, 16)


@settings(max_examples=150, deadline=None)
@given(pairs=pair_lists(), said=assertions())
def test_what_is_asserted_goes_before_what_is_probable(
    pairs: list[Pair], said: tuple[list[tuple[Record, Record]], list[tuple[Record, Record]]]
) -> None:
    names = {p: _names(p, list(range(5))) for p in PARTIES}
    settled = settle(_lists(*said), names, _groups(5, 5, 5))
    parts = _sets(solve(_weights(pairs), _groups(5, 5, 5), asserted=settled.asserted))
    same, different = (
        [
            ((one, int(i)), (other, int(j)))
            for (one, other), (left, right) in pairs_by.items()
            for i, j in zip(left, right, strict=True)
        ]
        for pairs_by in (settled.asserted.same, settled.asserted.different)
    )
    for part in parts:
        assert max(Counter(party for party, _ in part).values()) == 1
        assert not any({one, other} <= part for one, other in different)
        assert all((one in part) == (other in part) for one, other in same)
    weighted = [(((x, i), (y, j)), q) for x, i, y, j, q in pairs]
    every = [(p, row) for p in PARTIES for row in range(5)]
    plain = solve_reference.solve(every, weighted, threshold=0.5, same=same, different=different)
    assert parts == plain
    # "different" always stands; "same" stands unless a contradiction is told.
    assert set(different) == set(said[1])
    assert set(same) <= set(said[0])
    if not settled.report["contradictions"]:
        assert set(same) == set(said[0])
