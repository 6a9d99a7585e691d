"""A run that reuses what an earlier one compared finds what one that compares all finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linkage.errors import EncodingRefused
from linkage.matching import reuse
from linkage.matching.candidates import CandidateChunk, Finder
from linkage.matching.dataset import Dataset, representatives, shape_of
from linkage.matching.identity import result_digest
from linkage.matching.planning import Chunk, plan, plan_rest
from linkage.matching.reuse import Compared, Cover, CoverKey, Key, Piece
from linkage.matching.reusing import ReusingFinder
from linkage.matching.solve import solve
from linkage.matching.staging import rest
from linkage.matching.weights import weigh
from linkage.records import EncodedRecords, FixedColumn
from tests.unit.matching.worlds import world

SEED = 1


class Ran:
    """A run in memory; what it compared, as a broker would keep it; how many pairs it compared."""

    def __init__(
        self,
        datasets: dict[str, Dataset],
        earlier: Ran | None = None,
        *,
        rows_per_chunk: int = 70,
        reuses: bool = True,
        affordable: int = 10**12,
    ) -> None:
        self.pieces: dict[Key, list[Piece]] = {}
        self.comparisons, self.saved = 0, 0
        self.covers: dict[CoverKey, Cover] = {}
        self.asked: list[Compared | None] = []

        def find(key: Key) -> Compared | None:
            self.asked.append(earlier.compared(key) if earlier else None)
            return self.asked[-1]

        finder = Finder(datasets.__getitem__, seed=SEED)
        if reuses:
            finder = ReusingFinder(datasets.__getitem__, seed=SEED, earlier=find)
        shapes = [shape_of(d) for d in datasets.values()]
        chunks = plan(shapes, rows_per_chunk=rows_per_chunk, affordable=affordable)
        self.found = [self._find(finder, chunk) for chunk in chunks]
        people = {p: representatives(d.records) for p, d in datasets.items()}
        sets = rest(shapes, self.found, people, affordable=affordable)
        finder.know(sets)
        more = plan_rest(shapes, sets, rows_per_chunk=rows_per_chunk, affordable=affordable)
        self.found += [self._find(finder, chunk) for chunk in more]
        weights = weigh(shapes, self.found)
        entities = solve(weights, {p: d.records.groups for p, d in datasets.items()})
        names = {p: d.records.pseudonyms for p, d in datasets.items()}
        self.digest = result_digest(entities, names)

    def _find(self, finder: Finder, chunk: Chunk) -> CandidateChunk:
        found = finder.find(chunk)
        if not isinstance(finder, ReusingFinder):
            return found
        told = finder.told(chunk)
        self.comparisons += told.comparisons
        self.saved += told.saved
        # Through its file, as at the broker.
        pieces = reuse.pieces_from_arrow(reuse.pieces_to_arrow(told.pieces))
        for key, piece in pieces.items():
            self.pieces.setdefault(key, []).append(piece)
        for name, cover in finder.covers(chunk).items():
            self.covers[name] = reuse.cover_from_arrow(reuse.cover_to_arrow(cover))
        return found

    def compared(self, key: Key) -> Compared | None:
        if key not in self.pieces:
            return None
        left, right = (self.covers[name] for name in reuse.covers_of(key))
        return reuse.joined(left, right, self.pieces[key])


def same(one: Ran, other: Ran) -> None:
    assert len(one.found) == len(other.found)
    for mine, theirs in zip(one.found, other.found, strict=True):
        assert mine.chunk == theirs.chunk
        for name in ("left", "right", "z", "agree", "disagree"):
            assert getattr(mine, name).tobytes() == getattr(theirs, name).tobytes(), mine.chunk
    assert one.digest == other.digest


def version(whole: Dataset, rows: np.ndarray, changed: np.ndarray, seed: int) -> Dataset:
    """Return these records of a dataset, in this order, some with other encodings."""
    records, draw = whole.records, np.random.default_rng(seed)
    spoil = np.isin(rows, changed)

    def some(column: FixedColumn) -> FixedColumn:
        values = column.values[rows].copy()
        flips = draw.random((len(rows), values.shape[1] * 8)) < 0.05
        values[spoil] ^= np.packbits(flips, axis=1)[spoil]
        values[~column.present[rows]] = 0
        return FixedColumn(values, column.present[rows])

    def rekeyed(column: FixedColumn) -> FixedColumn:
        return FixedColumn(column.values[rows], column.present[rows])

    made = EncodedRecords(
        records.pseudonyms[rows],
        np.arange(len(rows), dtype=np.uint32),
        {name: some(column) for name, column in records.clks.items()},
        {name: rekeyed(column) for name, column in records.match_keys.items()},
    )
    return Dataset(whole.party, made, whole.collisions)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_versions_that_come_change_and_go(data: st.DataObject) -> None:
    made = world(range(160), range(60, 220), range(30, 130), seed=3)
    whole = {d.party: d for d in made.datasets}
    run: Ran | None = None
    affordable = data.draw(st.sampled_from([10**12, 10_000]))
    for step in range(3):
        draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        share = data.draw(st.sampled_from([0.5, 0.9, 0.99, 1.0]))
        now = {}
        for party, one in whole.items():
            rows = draw.permutation(len(one.records))
            rows = rows[: max(3, round(share * len(rows)))]
            changed = rows[draw.random(len(rows)) < data.draw(st.sampled_from([0.0, 0.05, 1.0]))]
            now[party] = version(one, rows, changed, step)
        size = data.draw(st.sampled_from([17, 70, 1_000]))
        fresh = Ran(now, rows_per_chunk=size, reuses=False, affordable=affordable)
        run = Ran(now, run, rows_per_chunk=size, affordable=affordable)
        same(run, fresh)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []

    def counted(left: Any, right: Any, *args: Any, **more: Any) -> Any:
        sizes.append(len(left) * len(right))
        return pairs_reaching(left, right, *args, **more)

    pairs_reaching = reuse.pairs_reaching
    monkeypatch.setattr(reuse, "pairs_reaching", counted)
    return sizes


def test_only_what_is_new_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(range(300), range(100, 400), seed=5)
    whole = {d.party: d for d in made.datasets}
    rows = np.arange(290)
    before = Ran({p: version(d, rows, rows[:0], 0) for p, d in whole.items()})
    sizes = counting(monkeypatch)
    again = Ran({p: version(d, rows, rows[:0], 0) for p, d in whole.items()}, before)
    assert sum(sizes) == 0
    same(again, Ran({p: version(d, rows, rows[:0], 0) for p, d in whole.items()}, reuses=False))
    every = np.arange(300)
    now = {p: version(d, every, every[:1], 0) for p, d in whole.items()}
    sizes.clear()
    later = Ran(now, again)
    # 11 of 300 are new or changed: with all of the other party, and of the own one.
    assert 0 < sum(sizes) <= 4 * 2 * 11 * 300
    same(later, Ran(now, reuses=False))


def test_a_floor_that_falls_below_what_was_kept_compares_all_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = world(range(300), range(100, 400), seed=5)
    whole = {d.party: d for d in made.datasets}
    before = Ran(whole)
    for pieces in before.pieces.values():
        pieces[:] = [replace(p, threshold=p.threshold + 1.0, pairs=p.pairs[:0]) for p in pieces]
    sizes = counting(monkeypatch)
    same(Ran(whole, before), Ran(whole, reuses=False))
    assert max(sizes) == 70 * 300


def test_a_cover_finds_the_unchanged() -> None:
    draw = np.random.default_rng(2)
    names = draw.integers(0, 256, (50, 16), dtype=np.uint8)
    words = draw.integers(0, 2**63, (50, 8), dtype=np.uint64)
    now, then = Cover.of(names[10:], words[10:]), Cover.of(names[:40], words[:40])
    assert now.places_of(then).tolist() == [-1] * 10 + list(range(30))
    words = words.copy()
    words[20, 3] ^= np.uint64(1)
    assert Cover.of(names, words).places_of(then).tolist() == [
        -1 if i == 20 else i for i in range(40)
    ]
    empty = Cover.of(names[:0], words[:0])
    assert empty.places_of(then).tolist() == [-1] * 40
    assert len(now.places_of(empty)) == 0


def test_other_tables_are_refused() -> None:
    table = reuse.cover_to_arrow(Cover.of(np.zeros((1, 16), np.uint8), np.zeros((1, 2), np.uint64)))
    with pytest.raises(EncodingRefused):
        reuse.pieces_from_arrow(table)
    with pytest.raises(EncodingRefused):
        reuse.cover_from_arrow(reuse.pieces_to_arrow({}))
    assert reuse.pieces_from_arrow(reuse.pieces_to_arrow({})) == {}
