"""Who is unique by the structure of match keys: where it works, and where it must not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.errors import LinkageError
from linkage.evaluation.attacks.registers import persons_of, simulated_registers
from linkage.evaluation.attacks.structure import (
    named_by_structure,
    refined,
    repeated_keys,
    unique_by_structure,
)
from linkage.records import EncodedRecords, FixedColumn
from linkage.study import load_study

STUDY = load_study(Path(__file__).parents[3] / "configs" / "three-commons" / "study.toml")
PAIR = ("imaging", "enclave")


def dataset(rows: list[list[int]], clk: list[bool] | None = None) -> EncodedRecords:
    """Return records of these keys by rule; 0 is null. Each record is a group of its own."""
    n = len(rows)
    numbers = np.array(rows, np.uint8).reshape(n, -1)
    names = np.zeros((n, 16), np.uint8)
    names[:, 0] = np.arange(n)
    columns = {}
    for rule in range(numbers.shape[1]):
        values = np.zeros((n, 16), np.uint8)
        values[:, 0], values[:, 9] = numbers[:, rule], rule
        present = numbers[:, rule] > 0
        columns[f"rule-{rule}"] = FixedColumn(np.where(present[:, None], values, 0), present)
    mask = np.ones(n, bool) if clk is None else np.array(clk)
    clks = {"names": FixedColumn(np.zeros((n, 0), np.uint8), mask)}
    return EncodedRecords(names.astype(np.uint8), np.arange(n, dtype=np.uint32), clks, columns)


def classes(labels: list[object]) -> list[int]:
    """Return the same partition whatever the labels are: the first member of each class."""
    return [labels.index(one) for one in labels]


def reference(datasets: list[list[list[int]]], *, fillers: bool) -> list[int]:
    """Return the classes of colour refinement, record by record, with nothing hashed."""
    records = [(place, row) for place, rows in enumerate(datasets) for row in rows]
    colours: list[object] = [
        (place, () if fillers else tuple(key > 0 for key in row)) for place, row in records
    ]
    while True:
        finer: list[object] = []
        for i, (_, row) in enumerate(records):
            near: Counter[object] = Counter()
            for j, (_, other) in enumerate(records):
                shared = tuple(a == b > 0 for a, b in zip(row, other, strict=True))
                if i != j and any(shared):
                    near[shared, colours[j]] += 1
            finer.append((colours[i], frozenset(near.items())))
        numbers = classes(finer)
        if len(set(numbers)) == len(set(colours)):
            return numbers
        colours = list(numbers)


keys = st.lists(st.integers(0, 3), min_size=3, max_size=3)


@given(st.lists(st.lists(keys, min_size=1, max_size=4), min_size=1, max_size=2), st.booleans())
def test_refines_as_the_reference_does(datasets: list[list[list[int]]], fillers: bool) -> None:
    seen = refined([dataset(rows) for rows in datasets], fillers=fillers, clk_fillers=True)
    assert classes(seen.colours.tolist()) == reference(datasets, fillers=fillers)


def test_many_holders_of_a_key_are_told_from_few() -> None:
    crowd = [[1, 0]] * 12 + [[2, 0]] * 11 + [[1, 7]]
    found = unique_by_structure([dataset(crowd)])
    assert (found.records, found.unique, found.classes) == (24, 1, 3)
    assert unique_by_structure([dataset(crowd)], rules=["rule-0"]).unique == 0


def test_two_values_are_not_one_where_half_their_bytes_agree() -> None:
    one = dataset([[1], [1]])
    one.match_keys["rule-0"].values[1, 15] = 1
    assert not unique_by_structure([one]).rounds
    assert repeated_keys(one.match_keys["rule-0"], one.groups).repeated == 0


def test_the_only_gap_names_its_record_unless_filled() -> None:
    rows = [[i + 1, 100 + i] for i in range(9)]
    rows[4][1] = 0
    assert unique_by_structure([dataset(rows)]).unique == 1
    assert unique_by_structure([dataset(rows)], fillers=True).unique == 0


def test_the_only_missing_clk_names_its_record_unless_filled() -> None:
    one = dataset([[1], [2], [3]], clk=[True, False, True])
    assert unique_by_structure([one], fillers=True).unique == 1
    assert unique_by_structure([one], clk_fillers=True).unique == 0


def test_the_order_of_records_changes_nothing() -> None:
    rows = [[1, 1], [1, 2], [3, 2], [4, 0], [5, 5], [6, 6]]
    one, other = refined([dataset(rows)]), refined([dataset(rows[::-1])])
    assert one.colours.tolist() == other.colours.tolist()[::-1]


def test_nothing_is_refused_and_one_record_is_unique() -> None:
    with pytest.raises(LinkageError):
        unique_by_structure([])
    assert unique_by_structure([dataset([[1]])]).share == 1.0


@pytest.fixture(scope="module")
def sent() -> list[EncodedRecords]:
    return list(simulated_registers(STUDY, 10_000, seed=1, parties=PAIR).values())


@pytest.fixture(scope="module")
def unguarded() -> list[EncodedRecords]:
    return list(simulated_registers(STUDY, 10_000, seed=1, parties=PAIR, nulled=False).values())


@pytest.mark.threat("T04")
def test_repeated_keys_make_people_unique_and_nulling_and_fillers_help(
    sent: list[EncodedRecords], unguarded: list[EncodedRecords]
) -> None:
    shares = [
        unique_by_structure(unguarded).share,
        unique_by_structure(sent).share,
        unique_by_structure(sent, fillers=True).share,
        unique_by_structure(sent, fillers=True, clk_fillers=True).share,
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.005 > 2 * shares[2]
    assert unique_by_structure(unguarded, fillers=True).share > 3 * shares[2]


@pytest.mark.threat("T04")
def test_nothing_repeats_in_what_a_site_sends(
    sent: list[EncodedRecords], unguarded: list[EncodedRecords]
) -> None:
    def repeated(datasets: list[EncodedRecords]) -> int:
        return sum(
            repeated_keys(column, one.groups).records
            for one in datasets
            for column in one.match_keys.values()
        )

    assert repeated(unguarded) > 100
    assert repeated(sent) == 0


@pytest.mark.threat("T04")
def test_frequencies_name_a_value_as_frequent_as_no_other() -> None:
    column = dataset([[1], [1], [1], [2], [2], [3], [3], [4], [0]]).match_keys["rule-0"]
    found = repeated_keys(column, np.arange(9, dtype=np.uint32))
    assert (found.values, found.repeated, found.most) == (4, 3, 3)
    assert (found.records, found.named) == (7, 3)
    one_person = np.array([0, 0, 0, 3, 4, 5, 6, 7, 8], np.uint32)
    assert repeated_keys(column, one_person).most == 2


@pytest.mark.threat("T04")
def test_a_list_names_fewer_than_the_datasets_themselves_would(
    sent: list[EncodedRecords],
) -> None:
    listed = list(simulated_registers(STUDY, 10_000, seed=1, parties=PAIR, listed=True).values())
    who = np.concatenate([persons_of(one) for one in sent])
    assert np.array_equal(who, np.concatenate([persons_of(one) for one in listed]))
    same = list(simulated_registers(STUDY, 10_000, seed=1, parties=PAIR).values())
    best = named_by_structure(sent, same, (who, who))
    assert best.correct == unique_by_structure(sent).unique  # another study key hides nothing
    assert best.correct > 3 * named_by_structure(sent, listed, (who, who)).correct > 0
    wrong = np.roll(who, 1)
    assert named_by_structure(sent, same, (who, wrong)).correct == 0
