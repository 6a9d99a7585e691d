"""The small-cell rule, attacked by everybody who knows how it works."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.errors import Conflict
from sites.cohort.disclosure import HIDDEN, CellRule

RULES = st.builds(CellRule, st.integers(2, 25), st.integers(1, 2))
CELLS = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.integers(0, 60), min_size=1)


def read_as_number(shown: object) -> int | None:
    return shown if isinstance(shown, int) else None


@pytest.mark.parametrize(
    ("count", "rounding", "shown"),
    [
        (0, 1, 0),
        (1, 1, "<11"),
        (10, 1, "<11"),
        (11, 1, 11),
        (0, 5, 0),
        (10, 5, "<11"),
        (11, 5, 15),
        (12, 5, 15),
        (17, 5, 15),
        (18, 5, 20),
        (462, 5, 460),
        (463, 5, 465),
    ],
)
def test_a_lone_count(count: int, rounding: int, shown: int | str) -> None:
    assert CellRule(11, rounding).show(count) == shown


@pytest.mark.threat("T18")
@given(RULES, CELLS)
def test_a_table_shows_no_small_count(rule: CellRule, cells: dict[str, int]) -> None:
    for shown in (rule.show_table(cells) or {}).values():
        assert shown == HIDDEN or shown == 0 or int(shown) >= rule.minimum


@given(RULES, CELLS)
def test_a_table_shows_as_much_as_it_may(rule: CellRule, cells: dict[str, int]) -> None:
    if not any(rule.small(count) for count in cells.values()):
        assert HIDDEN not in (rule.show_table(cells) or {}).values()


@pytest.mark.threat("T18")
@pytest.mark.parametrize(("minimum", "width", "largest"), [(4, 4, 11), (3, 4, 12), (5, 3, 18)])
def test_nobody_who_knows_the_rule_and_the_sum_can_work_out_a_hidden_cell(
    minimum: int, width: int, largest: int
) -> None:
    """Every table with the same sum and the same output is found by trying all of them."""
    rule = CellRule(minimum)
    alike = defaultdict(list)
    for counts in itertools.product(range(largest), repeat=width):
        shown = rule.show_table(dict(zip("abcd"[:width], counts, strict=True)))
        if shown is not None and sum(counts) < largest:
            alike[sum(counts), tuple(shown.values())].append(counts)
    hidden = 0
    for (_, shown_cells), tables in alike.items():
        for position, shown_cell in enumerate(shown_cells):
            if shown_cell == HIDDEN:
                hidden += 1
                assert len({table[position] for table in tables}) > 1
    assert hidden > 100


def test_a_table_of_few_people_is_not_shown_at_all() -> None:
    assert CellRule(11).show_table({"f": 3, "m": 4, "u": 0}) is None
    assert CellRule(11).show_table(dict.fromkeys("abcdefghijk", 1)) is None


def test_one_small_cell_hides_the_next_larger_and_all_its_equals() -> None:
    table = CellRule(11).show_table({"a": 3, "b": 40, "c": 30, "d": 30, "e": 0})
    assert table == {"a": HIDDEN, "b": 40, "c": HIDDEN, "d": HIDDEN, "e": 0}


@pytest.mark.threat("T18")
@given(
    st.integers(2, 25),
    st.lists(st.integers(0, 200), min_size=1).map(lambda n: sorted(n, reverse=True)),
)
def test_no_two_steps_differ_by_a_small_count(minimum: int, counts: list[int]) -> None:
    shown = CellRule(minimum).show_steps(counts)
    numbers = [n for n in map(read_as_number, shown) if n is not None]
    assert all(n == 0 or n >= minimum for n in numbers)
    for before, after in itertools.pairwise(numbers):
        assert before == after or before - after >= minimum
    assert shown[-1] == CellRule(minimum).show(counts[-1])


def test_steps_that_grow_are_a_bug_and_senseless_rules_are_refused() -> None:
    with pytest.raises(Conflict):
        CellRule(11).show_steps([5, 6])
    for minimum, rounding in ((1, 1), (11, 0), (11, 12)):
        with pytest.raises(Conflict):
            CellRule(minimum, rounding)


@pytest.mark.threat("T18")
def test_averaging_identical_questions_gains_nothing() -> None:
    rule = CellRule(11, 5)
    assert len({str(rule.show_table({"f": 237, "m": 226})) for _ in range(100)}) == 1
