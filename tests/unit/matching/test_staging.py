"""A run in two phases: what keys link with confidence is left out, and nothing else changes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from linkage.errors import MatchingFailed
from linkage.matching.candidates import CandidateChunk, Finder, find
from linkage.matching.dataset import representatives, same_keys, shape_of
from linkage.matching.engine import LinkageResult, link
from linkage.matching.evidence import gather
from linkage.matching.planning import (
    ALL,
    NULL,
    NULL_PEOPLE,
    SAMPLE,
    Chunk,
    drawn,
    plan,
    plan_rest,
    rest_of,
    staged,
)
from linkage.matching.staging import rest
from tests.unit.matching.worlds import World, dataset, full, world


@pytest.fixture(scope="module")
def made() -> World:
    return world(range(600), range(300, 1000), seed=12)


def _linked(result: LinkageResult, made: World) -> tuple[int, int]:
    """Return the links that are right, and all links."""
    person = dict(zip(result.entities.of["a"].tolist(), made.truth["a"].tolist(), strict=True))
    mine = zip(result.entities.of["b"].tolist(), made.truth["b"].tolist(), strict=True)
    hits = [person[entity] == who for entity, who in mine if entity in person]
    return sum(hits), len(hits)


def test_a_staged_run_finds_what_the_whole_finds_with_fewer_pairs(made: World) -> None:
    whole, two = link(made.datasets, seed=1), link(made.datasets, seed=1, affordable=0)
    assert whole.pairs_compared == 600 * 700
    assert two.pairs_compared < whole.pairs_compared / 2
    (right, _), (right_two, links_two) = _linked(whole, made), _linked(two, made)
    assert abs(right - right_two) <= 2
    assert right_two >= 0.99 * links_two
    assert right >= 0.97 * 300


def test_a_staged_result_does_not_depend_on_cut_threads_or_repetition(made: World) -> None:
    once = link(made.datasets, seed=1, affordable=0, workers=1)
    again = link(made.datasets[::-1], seed=1, affordable=0, workers=3, rows_per_chunk=37)
    (one,), (other,) = once.weights.comparisons, again.weights.comparisons
    assert once.digest == again.digest
    assert np.array_equal(one.probability, other.probability)  # bit for bit


def test_the_rest_is_who_has_no_sure_link(made: World) -> None:
    shapes = [shape_of(d) for d in made.datasets]
    chunks = plan(shapes, affordable=0)
    assert {c.kind for c in chunks} == {"keys", "within"}
    found = [find(c, made.named(c.left), made.named(c.right), seed=1) for c in chunks]
    people = {d.party: representatives(d.records) for d in made.datasets}
    rows = rest(shapes, found, people, affordable=0)
    assert set(rows) == {("a", rest_of("b")), ("b", rest_of("a"))}
    for party, other in (("a", "b"), ("b", "a")):
        left = rows[party, rest_of(other)]
        sure = np.setdiff1d(people[party], left)
        known = np.isin(made.truth[party], made.truth[other])
        assert known[sure].all()  # nobody is left out who has no match
        assert len(sure) > 0.8 * known.sum()
        assert (np.diff(left) > 0).all()
    second = plan_rest(shapes, rows, affordable=0)
    assert [c.kind for c in second] == ["cross", "sample"]
    assert second[0].people == (len(rows["a", "rest:b"]), len(rows["b", "rest:a"]))


def test_named_rows_hold_the_candidates_of_all_that_are_among_them(made: World) -> None:
    shapes = [shape_of(d) for d in made.datasets]
    whole = next(c for c in plan(shapes) if c.kind == "cross")
    rows = {
        ("a", rest_of("b")): np.arange(0, 600, 3),
        ("b", rest_of("a")): np.arange(1, 700, 2),
    }
    everything = find(whole, *made.datasets, seed=1)
    finder = Finder(made.named, seed=1, rows=rows)
    chunks = plan_rest(shapes, rows, rows_per_chunk=70, affordable=0)
    found = [finder.find(c) for c in chunks if c.kind == "cross"]
    got = {p for f in found for p in zip(f.left.tolist(), f.right.tolist(), strict=True)}
    expected = {
        (i, j)
        for i, j in zip(everything.left.tolist(), everything.right.tolist(), strict=True)
        if i % 3 == 0 and j % 2 == 1
    }
    assert got == expected
    assert len(found) == 3


def test_rows_that_were_not_given_are_refused(made: World) -> None:
    shapes = [shape_of(d) for d in made.datasets]
    rows = {("a", rest_of("b")): np.arange(5), ("b", rest_of("a")): np.arange(5)}
    (chunk, _) = plan_rest(shapes, rows, affordable=0)
    with pytest.raises(MatchingFailed, match="not given"):
        find(chunk, *made.datasets, seed=1)
    with pytest.raises(MatchingFailed, match="other datasets"):
        find(chunk, *made.datasets, seed=1, rows={k: v[:4] for k, v in rows.items()})


def test_a_second_phase_that_is_missing_is_no_result(made: World) -> None:
    shapes = [shape_of(d) for d in made.datasets]
    found: list[CandidateChunk] = [
        find(c, made.named(c.left), made.named(c.right), seed=1) for c in plan(shapes, affordable=0)
    ]
    with pytest.raises(MatchingFailed, match="missing"):
        gather(shapes, found)
    gather(shapes, found, first_phase=True)


def test_without_a_common_key_all_pairs_are_compared() -> None:
    made = world(range(60), range(30, 90), seed=3, keys=())
    shapes = [shape_of(d) for d in made.datasets]
    assert staged(shapes, 0) == []
    assert [c.kind for c in plan(shapes, affordable=0)] == ["cross", "within", "within"]


@pytest.mark.parametrize("left", [0, 1])
def test_a_party_of_nobody_or_one_record_in_a_staged_run(left: int) -> None:
    made = world(range(left), range(200), seed=3)
    result = link(made.datasets, seed=1, affordable=0)
    assert _linked(result, made) in ((left, left), (0, 0))


def test_samples_are_drawn_from_the_seed_alone() -> None:
    many = full(np.zeros((NULL_PEOPLE + 10, 1), np.uint8))
    one = dataset("a", len(many.values), {}, {})
    for name in (NULL, SAMPLE):
        rows = drawn(one, name, 5)
        assert np.array_equal(rows, drawn(one, name, 5))
        assert not np.array_equal(rows, drawn(one, name, 6))
        assert (np.diff(rows) > 0).all()
    assert len(drawn(one, NULL, 5)) == NULL_PEOPLE


def test_equal_keys_are_found_as_by_comparing_all() -> None:
    draw = np.random.default_rng(3)
    left = draw.integers(0, 2, (90, 16), dtype=np.uint8)
    left[:, :14] = 0  # most first words are equal, so only the rest tells
    right = left[draw.permutation(90)[:40]]
    i, j = same_keys(left, right)
    pairs = product(range(90), range(40))
    expected = [(a, b) for a, b in pairs if (left[a] == right[b]).all()]
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == expected


def test_chunks_count_their_comparisons() -> None:
    def chunk(kind: str, start: int, stop: int) -> Chunk:
        plain = Chunk("cross", "a", "b", "b", ("x",), ("k",), 0, 0, 3.5).to_json()
        return Chunk.from_json(
            plain | {"kind": kind, "start": start, "stop": stop, "of": 100, "people": [100, 100]}
        )

    assert chunk("cross", 0, 100).comparisons == 10_000
    assert chunk("within", 0, 100).comparisons == 5_000
    assert chunk("within", 0, 50).comparisons + chunk("within", 50, 100).comparisons == 5_000
    assert chunk("keys", 0, 100).comparisons == 0
    assert chunk("cross", 0, 0).left_rows == ALL
