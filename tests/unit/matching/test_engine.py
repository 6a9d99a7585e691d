"""A whole run in memory: right on easy people, the same every time, clear on hopeless input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from linkage.errors import EncodingRefused, MatchingFailed
from linkage.matching import weights
from linkage.matching.candidates import find
from linkage.matching.dataset import Dataset, shape_of
from linkage.matching.engine import LinkageResult, link
from linkage.matching.planning import plan
from linkage.matching.solve import solve
from linkage.records import FixedColumn
from tests.unit.matching.worlds import World, dataset, full, world


def _links(result: LinkageResult, one: str, other: str) -> set[tuple[int, int]]:
    row_of = {entity: row for row, entity in enumerate(result.entities.of[one].tolist())}
    return {
        (row_of[entity], row)
        for row, entity in enumerate(result.entities.of[other].tolist())
        if entity in row_of
    }


def _true(made: World, one: str, other: str) -> set[tuple[int, int]]:
    row_of = {person: row for row, person in enumerate(made.truth[one].tolist())}
    return {
        (row_of[person], row)
        for row, person in enumerate(made.truth[other].tolist())
        if person in row_of
    }


def _f1(result: LinkageResult, made: World, one: str, other: str) -> float:
    links, true = _links(result, one, other), _true(made, one, other)
    return 2 * len(links & true) / (len(links) + len(true))


@pytest.fixture(scope="module")
def three() -> World:
    return world(range(300), range(150, 500), range(80, 400), seed=5)


def test_three_parties_find_each_other(three: World) -> None:
    result = link(three.datasets, seed=1)
    for comparison in result.weights.comparisons:
        assert _f1(result, three, *comparison.parties) > 0.98
        true = len(_true(three, *comparison.parties))
        assert comparison.estimate.expected_matches == pytest.approx(true, rel=0.03)
        assert comparison.estimate.chosen.precision > 0.97
    assert result.pairs_compared == 300 * 350 + 300 * 320 + 350 * 320


def test_the_result_does_not_depend_on_cut_threads_order_or_repetition(three: World) -> None:
    once = link(three.datasets, seed=1, workers=1)
    for again in (
        link(three.datasets, seed=1, workers=1),
        link(three.datasets, seed=1, workers=3, rows_per_chunk=37),
        link(three.datasets, seed=1, workers=40),  # several threads a search
        link(three.datasets[::-1], seed=1),
    ):
        assert again.digest == once.digest
        for one, other in zip(once.weights.comparisons, again.weights.comparisons, strict=True):
            assert np.array_equal(one.left, other.left)
            assert np.array_equal(one.right, other.right)
            assert np.array_equal(one.probability, other.probability)  # bit for bit
            assert one.estimate == other.estimate


def test_stages_one_by_one_with_arrow_between_give_the_same(three: World) -> None:
    from linkage.matching import candidates

    shapes = [shape_of(d) for d in three.datasets]
    chunks = [
        candidates.from_arrow(
            candidates.to_arrow(find(c, three.named(c.left), three.named(c.right), seed=1))
        )
        for c in plan(shapes)
    ]
    found = weights.from_arrow(weights.to_arrow(weights.weigh(shapes, chunks)))
    entities = solve(found, {d.party: d.records.groups for d in three.datasets})
    whole = link(three.datasets, seed=1)
    assert found.overall == whole.weights.overall
    assert found.warnings == whole.weights.warnings
    assert all((entities.of[p] == whole.entities.of[p]).all() for p in entities.of)


def test_another_table_is_not_taken_for_weights(three: World) -> None:
    table = weights.to_arrow(link(three.datasets, seed=1).weights)
    with pytest.raises(EncodingRefused, match="not the weights"):
        weights.from_arrow(table.replace_schema_metadata({}))
    with pytest.raises(MatchingFailed, match="incomplete"):
        weights.from_arrow(table.slice(0, table.num_rows - 1))


def test_progress_is_told_to_the_end(three: World) -> None:
    told: list[tuple[str, int, int]] = []
    link(three.datasets, seed=1, progress=lambda *step: told.append(step))
    assert told[0] == ("candidates", 0, 12)
    assert ("candidates", 12, 12) in told
    assert told[-1] == ("solve", 1, 1)


def test_strangers_are_not_linked() -> None:
    made = world(range(300), range(300, 700), seed=6)
    result = link(made.datasets, seed=1)
    assert not _links(result, "a", "b")
    assert result.weights.comparisons[0].estimate.expected_matches < 5
    assert any("only about" in w for w in result.weights.warnings)


@pytest.mark.parametrize("common", [0, 1, 10, 20])
def test_tiny_datasets(common: int) -> None:
    made = world(range(20), range(20 - common, 40 - common), seed=7)
    result = link(made.datasets, seed=1)
    links, true = _links(result, "a", "b"), _true(made, "a", "b")
    assert links <= true
    assert len(links) >= 0.8 * common
    assert any("estimates are rough" in w for w in result.weights.warnings)


def test_one_record_each() -> None:
    for common in (0, 1):
        made = world(range(1), range(1 - common, 2 - common), seed=8)
        result = link(made.datasets, seed=1)
        assert len(_links(result, "a", "b")) <= common


def test_an_empty_dataset_links_nothing_and_harms_nobody(three: World) -> None:
    empty = _take(three.named("c"), np.zeros(0, np.int64))
    result = link([*three.datasets[:2], empty], seed=1)
    assert _f1(result, three, "a", "b") > 0.98
    assert len(result.entities.of["c"]) == 0
    assert "party 'c' has no records" in result.weights.warnings


def test_all_datasets_empty() -> None:
    made = world(range(0), range(0), seed=1)
    result = link(made.datasets, seed=1)
    assert result.entities.count == 0
    assert result.weights.overall.chosen.links == 0


def test_parties_with_nothing_in_common_are_linked_through_a_third(three: World) -> None:
    """a and c have no CLK and no key in common; b has all that each of them has."""
    a, b, c = three.datasets
    a = _only(a, clks={"all": "x"}, keys=["key-a"])
    b = _only(b, clks={"all": "x"}, keys=["key-a", "key-b"])
    b = _with_clk(b, "y", b.records.clks["x"])
    c = _only(c, clks={"all": "y"}, keys=["key-b"])
    result = link([a, b, c], seed=1)
    assert [k.parties for k in result.weights.comparisons] == [("a", "b"), ("b", "c")]
    assert any("'a' and 'c' share no CLK" in w for w in result.weights.warnings)
    assert _f1(result, three, "a", "b") > 0.97
    through = _links(result, "a", "c")
    assert len(through) > 100
    assert len(through & _true(three, "a", "c")) > 0.99 * len(through)


def test_nothing_in_common_at_all_is_an_error(three: World) -> None:
    a, b, _ = three.datasets
    with pytest.raises(MatchingFailed, match="in common"):
        link([_only(a, clks={"all": "x"}, keys=[]), _only(b, clks={"all": "y"}, keys=[])], seed=1)


def test_without_match_keys_the_clks_still_link(three: World) -> None:
    pair = [_only(d, clks={"all": "all"}, keys=[]) for d in three.datasets[:2]]
    assert _f1(link(pair, seed=1), three, "a", "b") > 0.97


def test_all_keys_null_is_like_none(three: World) -> None:
    nulled = [_nulled(d) for d in three.datasets[:2]]
    assert _f1(link(nulled, seed=1), three, "a", "b") > 0.97


def test_without_clks_the_keys_still_link(three: World) -> None:
    pair = [_only(d, clks={}, keys=["key-a", "key-b", "key-c"]) for d in three.datasets[:2]]
    result = link(pair, seed=1)
    links, true = _links(result, "a", "b"), _true(three, "a", "b")
    assert links <= true
    assert len(links) > 0.85 * len(true)  # three spoilt or missing keys are beyond help


def test_duplicates_within_a_party_share_the_entity_of_their_first() -> None:
    made = world(range(100), range(100), seed=9)
    a, b = made.datasets
    twice = np.concatenate([np.arange(100), np.arange(5)])
    doubled = _take(a, twice, groups=twice.astype(np.uint32))
    of = link([doubled, b], seed=1).entities.of["a"]
    assert (of[100:] == of[:5]).all()


def test_people_held_twice_are_told() -> None:
    made = world(range(200), range(200), seed=11)
    a, b = made.datasets
    assert not any("look like one person" in w for w in link([a, b], seed=1).weights.warnings)
    twice = _take(_only(a, clks={"all": "all"}, keys=[]), np.r_[np.arange(200), np.arange(12)])
    (said,) = (w for w in link([twice, b], seed=1).weights.warnings if "look like one" in w)
    assert said.startswith("party 'a': 12 pairs of its own records look like one person")


@pytest.mark.threat("T08")
def test_saturated_filters_leave_the_others_unharmed(three: World) -> None:
    a, b = three.datasets[:2]
    column = a.records.clks["all"]
    values = column.values.copy()
    values[:50] = 255
    flooded = _with_clk(a, "all", FixedColumn(values, column.present))
    result = link([flooded, b], seed=1)
    assert any("50 filters of 'all' are nearly empty or full" in w for w in result.weights.warnings)
    links, true = _links(result, "a", "b"), _true(three, "a", "b")
    assert len(links & true) > 0.97 * len([t for t in true if t[0] >= 50])
    assert len(links - true) <= 2


def test_attested_collisions_make_a_lone_key_worth_less() -> None:
    """A key that five hundred people share by chance tells little; one nobody shares, a lot."""
    draw = np.random.default_rng(1)
    filters = [full(draw.integers(0, 256, (400, 64), dtype=np.uint8)) for _ in range(2)]
    keys = [draw.integers(0, 256, (400, 16), dtype=np.uint8) for _ in range(2)]
    keys[1][:100] = keys[0][:100]
    linked = []
    for collisions in (0, 500):
        pair = [
            dataset(p, 400, {"x": f}, {"k": full(k)}, collisions={"k": collisions})
            for p, f, k in zip("ab", filters, keys, strict=True)
        ]
        linked.append(link(pair, seed=1).weights.comparisons[0].estimate.expected_matches)
    assert linked[0] > 90
    assert linked[1] < 30


def test_four_parties() -> None:
    made = world(*[range(20 * k, 20 * k + 200) for k in range(4)], seed=10)
    result = link(made.datasets, seed=1)
    assert len(result.weights.comparisons) == 6
    for comparison in result.weights.comparisons:
        assert _f1(result, made, *comparison.parties) > 0.98


def _take(one: Dataset, rows: np.ndarray, groups: np.ndarray | None = None) -> Dataset:
    columns = one.records
    made = dataset(
        one.party,
        len(rows),
        {k: FixedColumn(c.values[rows], c.present[rows]) for k, c in columns.clks.items()},
        {k: FixedColumn(c.values[rows], c.present[rows]) for k, c in columns.match_keys.items()},
        groups=None if groups is None else groups.tolist(),
    )
    return made


def _only(one: Dataset, *, clks: dict[str, str], keys: list[str]) -> Dataset:
    records = replace(
        one.records,
        clks={new: one.records.clks[old] for old, new in clks.items()},
        match_keys={k: one.records.match_keys[k] for k in keys},
    )
    return Dataset(one.party, records, dict.fromkeys(keys, 0))


def _with_clk(one: Dataset, clk: str, column: FixedColumn) -> Dataset:
    records = replace(one.records, clks={**one.records.clks, clk: column})
    return Dataset(one.party, records, one.collisions)


def _nulled(one: Dataset) -> Dataset:
    n = len(one.records)
    null = FixedColumn(np.zeros((n, 16), np.uint8), np.zeros(n, dtype=bool))
    records = replace(one.records, match_keys=dict.fromkeys(one.records.match_keys, null))
    return Dataset(one.party, records, one.collisions)
