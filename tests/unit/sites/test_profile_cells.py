"""Small cells stay hidden: a reader who knows every sum and every span cannot work them out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sites.profiling.cells import Cell, bounds, protect, protect_sizes, small
from sites.profiling.report import in_tens
from sites.profiling.words import cell, count, percent

TABLES = st.integers(2, 3).flatmap(
    lambda columns: st.lists(
        st.lists(
            st.one_of(st.integers(0, 12), st.integers(0, 400)), min_size=columns, max_size=columns
        ),
        min_size=1,
        max_size=6,
    )
)


@pytest.mark.parametrize(
    "counts",
    [
        [[497, 3], [490, 10], [40, 0]],
        [[30, 4], [31, 0]],
        [[12, 3], [14, 2], [11, 0]],
        [[9, 9], [30, 20]],
    ],
)
def test_nobody_finds_a_small_cell_by_trying_all_tables(counts: list[list[int]]) -> None:
    told = protect(counts)
    tables = _tables(told, counts)
    for i, row in enumerate(counts):
        if small(row[0]):
            assert len({guess[i] for guess in tables}) >= 3
        if small(row[1]):
            assert len({guess[i] for guess in tables}) >= 3


@given(TABLES)
@settings(max_examples=150, deadline=None)
def test_what_is_told_holds_the_truth_and_no_small_count(counts: list[list[int]]) -> None:
    told = protect(counts)
    rows = [sum(row) for row in counts]
    columns = [sum(column) for column in zip(*counts, strict=True)]
    low, high = bounds(told, rows, columns)
    for i, row in enumerate(counts):
        for j, number in enumerate(row):
            assert told[i][j].low <= number <= told[i][j].high
            if small(number):
                assert not told[i][j].exact
                # Only sums that say it by themselves (one group, one person) leave one count.
                everything = [[Cell(0, sum(line))] * len(line) for line in counts]
                least, most = bounds(everything, rows, columns)
                if most[i][j] - least[i][j] >= 12:
                    assert high[i][j] - low[i][j] >= 1


@given(
    st.lists(st.tuples(st.integers(0, 14), st.integers(0, 30)), min_size=1, max_size=3).map(
        lambda rows: [list(row) for row in rows]
    )
)
@settings(max_examples=150, deadline=None)
def test_as_many_counts_stay_possible_as_the_sums_allow(counts: list[list[int]]) -> None:
    hidden = [[Cell(0, sum(row))] * 2 for row in counts]
    told, free = _tables(protect(counts), counts), _tables(hidden, counts)
    for i, row in enumerate(counts):
        if any(map(small, row)):
            possible, most = len({one[i] for one in told}), len({one[i] for one in free})
            assert possible >= min(5, most)


def _tables(told: list[list[Cell]], counts: list[list[int]]) -> list[tuple[int, ...]]:
    """Return the first column of every table of two columns that fits what is told and the sums."""
    rows, total = [sum(row) for row in counts], sum(row[0] for row in counts)
    firsts = [
        [n for n in range(a.low, a.high + 1) if b.low <= size - n <= b.high]
        for (a, b), size in zip(told, rows, strict=True)
    ]
    return [guess for guess in itertools.product(*firsts) if sum(guess) == total]


def test_a_table_without_small_cells_is_told_as_it_is() -> None:
    counts = [[100, 20], [50, 0], [10, 30]]
    assert protect(counts) == [[Cell(n, n) for n in row] for row in counts]


def test_a_small_cell_blurs_the_largest_row_with_it() -> None:
    told = protect([[497, 3], [470, 30], [40, 10]])
    assert told[0] == [Cell(491, 500), Cell(0, 9)]
    assert not told[1][1].exact
    assert told[2] == [Cell(40, 40), Cell(10, 10)]


def test_two_groups_of_one_could_be_one_group_of_two() -> None:
    counts = [[1, 300], [1, 200], [0, 400]]
    told = protect(counts)
    low, high = bounds(told, [301, 201, 400], [2, 900])
    assert (low[0][0], high[0][0]) == (low[1][0], high[1][0]) == (0, 2)


def test_a_column_of_nobody_is_no_secret() -> None:
    assert protect([[0, 4, 30], [0, 5, 90]])[0][0] == Cell(0, 0)


def test_the_size_of_one_small_group_cannot_be_subtracted() -> None:
    told = protect_sizes([900, 95, 5])
    assert told[2] == Cell(0, 9)
    assert told[1] == Cell(95, 95)
    assert told[0].high - told[0].low >= 9
    assert protect_sizes([900, 95]) == [Cell(900, 900), Cell(95, 95)]


def test_bars_below_ten_are_left_out_and_cannot_be_subtracted() -> None:
    made = in_tens({str(i): 25 for i in range(10)} | {"few": 4})
    assert made is not None
    assert {one.label for one in made} == {str(i) for i in range(10)}
    assert {one.records for one in made} == {20}
    assert in_tens({"1": 29, "2": 9}) is None  # of 38 in all, nothing else could be


def test_words_for_cells() -> None:
    assert cell(Cell(97, 97), 100) == "97.0 %"
    assert cell(Cell(0, 9), 100) == "<10"
    assert cell(Cell(91, 100), 100) == "all but <10"
    assert cell(Cell(90, 95), 100) == "90-95 %"
    assert cell(Cell(0, 100), 100) == "hidden"
    assert cell(Cell(0, 9), 9) == "<10"
    assert (count(Cell(1200, 1200)), count(Cell(0, 9))) == ("1,200", "<10")
    assert (percent(1, 3000), percent(2999, 3000), percent(0, 9)) == (
        "under 0.1 %",
        "over 99.9 %",
        "0.0 %",
    )
