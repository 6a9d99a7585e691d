"""Candidates: the same however the work is cut, restartable, bounded."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pytest

from linkage.errors import EncodingRefused, MatchingFailed, TooManyCandidates
from linkage.matching import candidates
from linkage.matching.candidates import (
    CandidateChunk,
    find,
    from_arrow,
    to_arrow,
)
from linkage.matching.dataset import Dataset, popcounts, shape_of, words_of
from linkage.matching.dice import intersections
from linkage.matching.planning import Chunk, least_z, plan
from linkage.matching.zscore import calibrate, zscores
from linkage.records import FixedColumn
from tests.unit.matching.worlds import KEYS, World, dataset, full, world


@pytest.fixture(scope="module")
def made() -> World:
    return world(range(150), range(75, 275), seed=4)


def _all(made: World, rows_per_chunk: int) -> dict[tuple[str, str], list[CandidateChunk]]:
    found: dict[tuple[str, str], list[CandidateChunk]] = {}
    for chunk in plan([shape_of(d) for d in made.datasets], rows_per_chunk=rows_per_chunk):
        one = find(chunk, made.named(chunk.left), made.named(chunk.right), seed=9)
        found.setdefault((chunk.kind, chunk.left), []).append(one)
    return found


def test_the_cut_does_not_change_the_candidates(made: World) -> None:
    whole, pieces = _all(made, 1000), _all(made, 17)
    assert whole.keys() == pieces.keys()
    assert whole.keys() == {("keys", "a"), ("cross", "a"), ("within", "a"), ("within", "b")}
    for kind, parts in pieces.items():
        (one,) = whole[kind]
        assert len(parts) > 5 or kind[0] == "keys"
        for column in ("left", "right", "z", "agree", "disagree"):
            joined = np.concatenate([getattr(p, column) for p in parts])
            assert np.array_equal(joined, getattr(one, column), equal_nan=column == "z")


def test_candidates_are_all_pairs_alike_or_with_a_key_and_no_other(made: World) -> None:
    whole = _all(made, 1000)
    (keyed,), (alike,) = whole["keys", "a"], whole["cross", "a"]
    left, right = (d.records for d in made.datasets)
    a, b = words_of(left.clks["all"]), words_of(right.clks["all"])
    calibration = calibrate(a, b, seed=9, label="all/a/b")
    z = zscores(intersections(a, b), popcounts(a)[:, None], popcounts(b)[None, :], 512, calibration)
    expected = {}
    for i, j in product(range(len(left)), range(len(right))):
        agree = sum(
            1 << k
            for k, key in enumerate(KEYS)
            if _equal(left.match_keys[key], i, right.match_keys[key], j)
        )
        expected[i, j] = (z[i, j], agree)
    for found, is_one in (
        (keyed, lambda z, agree: agree > 0),
        (alike, lambda z, agree: z >= alike.chunk.floor),
    ):
        columns = (found.left, found.right, found.z[:, 0], found.agree)
        got = {
            (int(i), int(j)): (float(z), int(agree))
            for i, j, z, agree in zip(*columns, strict=True)
        }
        assert got == {pair: known for pair, known in expected.items() if is_one(*known)}
        assert list(got) == sorted(got)
        assert any(agree == 0 for _, agree in got.values()) == (found is alike)


def _equal(one: FixedColumn, i: int, other: FixedColumn, j: int) -> bool:
    return bool(one.present[i] and other.present[j] and (one.values[i] == other.values[j]).all())


def test_a_key_both_have_agrees_or_disagrees(made: World) -> None:
    (found,) = _all(made, 1000)["keys", "a"]
    for k, key in enumerate(KEYS):
        left, right = (d.records.match_keys[key] for d in made.datasets)
        both = left.present[found.left] & right.present[found.right]
        told = ((found.agree | found.disagree) >> np.uint64(k)) & np.uint64(1) == 1
        assert np.array_equal(both, told)
    assert not (found.agree & found.disagree).any()


def test_pairs_within_a_party_are_seen_once_and_share_no_key(made: World) -> None:
    (found,) = _all(made, 1000)["within", "b"]
    assert (found.left < found.right).all()
    assert not found.agree.any()


def test_only_representatives_are_compared() -> None:
    bits = np.random.default_rng(1).integers(0, 256, (1, 64), dtype=np.uint8)
    left = dataset("a", 3, {"x": full(np.repeat(bits, 3, axis=0))}, groups=[0, 0, 2])
    right = dataset("b", 2, {"x": full(np.repeat(bits, 2, axis=0))}, groups=[5, 5])
    chunk = plan([shape_of(left), shape_of(right)])[0]
    found = find(chunk, left, right, seed=1)
    assert list(zip(found.left, found.right, strict=True)) == [(0, 0), (2, 0)]


def test_the_floor_is_inclusive(made: World) -> None:
    a, b = made.datasets
    chunk = next(c for c in plan([shape_of(a), shape_of(b)]) if c.kind == "cross")
    found = find(chunk, a, b, seed=9)
    keyless = found.z[found.agree == 0, 0]
    for floor, expected in (
        (keyless.min(), len(keyless)),
        (np.nextafter(keyless.min(), 99), len(keyless) - 1),
    ):
        again = find(_with_floor(chunk, float(floor)), a, b, seed=9)
        assert (again.agree == 0).sum() == expected


def _with_floor(chunk: Chunk, floor: float) -> Chunk:
    return Chunk.from_json({**chunk.to_json(), "floor": floor})


def test_the_floor_rises_with_the_size_of_the_datasets() -> None:
    assert least_z(0, 0) == least_z(20, 500) == 3.5
    assert least_z(10_000, 16_000) == pytest.approx(4.06, abs=0.01)
    assert least_z(1_000_000, 10) == pytest.approx(4.93, abs=0.01)


def test_a_chunk_repeated_gives_the_same_bytes(made: World) -> None:
    for chunk in plan([shape_of(d) for d in made.datasets], rows_per_chunk=60):
        again = Chunk.from_json(json.loads(json.dumps(chunk.to_json())))
        assert again == chunk
        once, twice = (
            to_arrow(find(c, made.named(c.left), made.named(c.right), seed=9)).serialize()
            for c in (chunk, again)
        )
        assert once.to_pybytes() == twice.to_pybytes()


def test_candidates_survive_arrow(made: World) -> None:
    for parts in _all(made, 60).values():
        for part in parts:
            again = from_arrow(to_arrow(part))
            assert again.chunk == part.chunk
            for column in ("left", "right", "z", "agree", "disagree"):
                ours, theirs = getattr(part, column), getattr(again, column)
                assert ours.dtype == theirs.dtype
                assert np.array_equal(ours, theirs, equal_nan=column == "z")


def test_another_table_is_not_taken_for_candidates(made: World) -> None:
    batch = to_arrow(_all(made, 1000)["cross", "a"][0])
    with pytest.raises(EncodingRefused, match="not the candidates"):
        from_arrow(batch.replace_schema_metadata({}))
    with pytest.raises(EncodingRefused, match="columns"):
        from_arrow(batch.select(["right", "left", *batch.schema.names[2:]]))


@pytest.mark.threat("T08")
def test_saturated_filters_do_not_flood() -> None:
    ones = full(np.full((300, 64), 255, np.uint8))
    zeros = full(np.zeros((300, 64), np.uint8))
    for one, other in ((ones, ones), (zeros, ones), (zeros, zeros)):
        left, right = dataset("a", 300, {"x": one}), dataset("b", 300, {"x": other})
        for chunk in plan([shape_of(left), shape_of(right)]):
            by_party: dict[str, Dataset] = {"a": left, "b": right}
            assert len(find(chunk, by_party[chunk.left], by_party[chunk.right], seed=1)) == 0


@pytest.mark.threat("T08")
def test_one_filter_sent_many_times_by_both_is_refused() -> None:
    bits = np.random.default_rng(1).integers(0, 256, (1, 64), dtype=np.uint8)
    same = full(np.repeat(bits, 200, axis=0))
    left, right = dataset("a", 200, {"x": same}), dataset("b", 200, {"x": same})
    chunk = plan([shape_of(left), shape_of(right)])[0]
    with pytest.raises(TooManyCandidates, match="limit is 1000"):
        find(_with_floor(chunk, 0.0), left, right, seed=1, limit=1000)


def test_clks_of_different_lengths_are_refused() -> None:
    left = dataset("a", 30, {"x": full(np.full((30, 64), 15, np.uint8))})
    right = dataset("b", 30, {"x": full(np.full((30, 128), 15, np.uint8))})
    chunk = plan([shape_of(left), shape_of(right)])[0]
    with pytest.raises(EncodingRefused, match="length"):
        find(chunk, left, right, seed=1)


def test_a_chunk_wants_its_own_datasets(made: World) -> None:
    a, b = made.datasets
    chunk = plan([shape_of(a), shape_of(b)])[0]
    with pytest.raises(MatchingFailed, match="other datasets"):
        find(chunk, b, a, seed=1)


def test_a_plan_needs_two_parties_with_something_in_common() -> None:
    a = dataset("a", 1, {"x": full(np.full((1, 64), 15, np.uint8))})
    b = dataset("b", 1, {"y": full(np.full((1, 64), 15, np.uint8))})
    with pytest.raises(MatchingFailed, match="in common"):
        plan([shape_of(a), shape_of(b)])
    with pytest.raises(MatchingFailed, match="two or more"):
        plan([shape_of(a)])
    with pytest.raises(MatchingFailed, match="each once"):
        plan([shape_of(a), shape_of(a)])
    with pytest.raises(MatchingFailed, match="one row"):
        plan([shape_of(a), shape_of(b)], rows_per_chunk=0)


def test_a_dataset_without_records_has_one_empty_chunk() -> None:
    empty = dataset("a", 0, {"x": full(np.zeros((0, 64), np.uint8))})
    other = dataset("b", 1, {"x": full(np.full((1, 64), 15, np.uint8))})
    chunks = plan([shape_of(empty), shape_of(other)])
    assert [(c.kind, c.left, c.stop) for c in chunks] == [
        ("cross", "a", 0), ("within", "a", 0), ("within", "b", 1)
    ]  # fmt: skip
    assert len(find(chunks[0], empty, other, seed=1)) == 0


def test_keys_alone_make_candidates() -> None:
    keys = full(np.arange(32, dtype=np.uint8).reshape(2, 16))
    left, right = dataset("a", 2, {}, {"k": keys}), dataset("b", 2, {}, {"k": keys})
    chunks = plan([shape_of(left), shape_of(right)])
    assert [c.kind for c in chunks] == ["keys"]
    found = find(chunks[0], left, right, seed=1)
    assert found.left.tolist() == found.right.tolist() == [0, 1]
    assert found.z.shape == (2, 0)


def test_pairs_within_a_party_are_compared_once_for_all_partners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same as chunk by chunk, each by itself, with a third of the work."""
    made = world(*[range(n, n + 60) for n in (0, 30, 60, 90)], seed=4)
    calls: list[int] = []
    real = candidates.pairs_reaching

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(candidates, "pairs_reaching", counted)
    chunks = [c for c in plan([shape_of(d) for d in made.datasets]) if c.kind == "within"]
    finder = candidates.Finder(made.named, seed=1)
    together = [finder.find(c) for c in chunks]
    assert (len(chunks), len(calls)) == (12, 4)
    for chunk, found in zip(chunks, together, strict=True):
        alone = find(chunk, made.named(chunk.left), made.named(chunk.right), seed=1)
        assert found.chunk == alone.chunk
        assert candidates.to_arrow(found).equals(candidates.to_arrow(alone))
    assert len(calls) == 4 + 12
