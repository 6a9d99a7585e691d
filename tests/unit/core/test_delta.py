"""A delta applied to its base is the whole dataset version, whatever changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.delta import REMOVED, apply_delta, in_pseudonym_order, is_among, removals
from linkage.errors import EncodingRefused
from linkage.records import EncodedRecords, FixedColumn

People = dict[int, tuple[int, int]]
"""By record: its encodings, as a number, and its group, as a number."""


def records(people: People) -> EncodedRecords:
    ids = sorted(people)
    names = np.zeros((len(ids), 16), np.uint8)
    first: dict[int, int] = {}
    groups = [first.setdefault(people[i][1], row) for row, i in enumerate(ids)]
    for row, i in enumerate(ids):
        names[row, 0], names[row, 15] = (i * 37) % 251, i
    values = np.array([[people[i][0]] for i in ids], np.uint8).reshape(-1, 1)
    column = FixedColumn(values, values[:, 0] > 1)
    key = FixedColumn(np.repeat(values, 16, axis=1), values[:, 0] > 2)
    made = EncodedRecords(names, np.array(groups, np.uint32), {"clk": column}, {"rule": key})
    return in_pseudonym_order(made)


def delta(old: People, new: People) -> EncodedRecords:
    """Say what changed in the plainest way: whole groups in which anything did."""

    def members(people: People, i: int) -> set[int]:
        return {j for j, (_, group) in people.items() if group == people[i][1]}

    changed = {
        i
        for i in new
        if i not in old or old[i][0] != new[i][0] or members(old, i) != members(new, i)
    }
    told = {j for i in changed for j in members(new, i)}
    rows = records({i: new[i] for i in told})
    gone = records({i: old[i] for i in old.keys() - new.keys()}).pseudonyms
    nulls = removals(gone, {"clk": 1}, ["rule"], 16)

    def both(left: FixedColumn, right: FixedColumn) -> FixedColumn:
        return FixedColumn(
            np.concatenate([left.values, right.values]),
            np.concatenate([left.present, right.present]),
        )

    return EncodedRecords(
        np.concatenate([rows.pseudonyms, nulls.pseudonyms]),
        np.concatenate([rows.groups, nulls.groups]),
        {"clk": both(rows.clks["clk"], nulls.clks["clk"])},
        {"rule": both(rows.match_keys["rule"], nulls.match_keys["rule"])},
    )


people = st.dictionaries(
    st.integers(0, 12), st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(people, people)
def test_base_and_delta_make_the_whole(old: People, new: People) -> None:
    found, expected = apply_delta(records(old), delta(old, new)), records(new)
    assert (found.pseudonyms == expected.pseudonyms).all()
    assert (found.groups == expected.groups).all()
    for ours, theirs in ((found.clks, expected.clks), (found.match_keys, expected.match_keys)):
        for name in ours:
            assert (ours[name].values == theirs[name].values).all()
            assert (ours[name].present == theirs[name].present).all()


def test_a_delta_that_does_not_fit_its_base_is_refused() -> None:
    base = records({1: (3, 1), 2: (3, 1), 3: (3, 2)})
    with pytest.raises(EncodingRefused, match="that its base lacks"):
        apply_delta(base, delta({9: (1, 1)}, {}))
    pair = base.pseudonyms[base.groups == base.groups[base.pseudonyms[:, 15] == 1][0]]
    half = removals(pair[:1], {"clk": 1}, ["rule"], 16)
    with pytest.raises(EncodingRefused, match="only a part of a group"):
        apply_delta(base, half)
    loose = delta({}, {5: (1, 1)})
    for group in (7, REMOVED - 1):
        loose.groups[0] = group
        with pytest.raises(EncodingRefused, match="group is none of its rows"):
            apply_delta(base, loose)


def test_a_group_is_told_whole_whichever_member_stays() -> None:
    base = records({1: (3, 1), 2: (3, 1), 3: (3, 2)})
    pair = base.pseudonyms[np.isin(base.pseudonyms[:, 15], [1, 2])]
    for one in (pair[:1], pair[1:]):
        with pytest.raises(EncodingRefused, match="only a part of a group"):
            apply_delta(base, removals(one, {"clk": 1}, ["rule"], 16))
    assert len(apply_delta(base, removals(pair, {"clk": 1}, ["rule"], 16))) == 1


@pytest.mark.parametrize("groups", [[99, 99, 99], [1, 0, 0], [2, 2, 1]])
def test_a_base_whose_groups_are_named_by_no_member_is_refused(groups: list[int]) -> None:
    base = records({1: (3, 1), 2: (3, 2), 3: (3, 3)})
    base.groups[:] = groups
    with pytest.raises(EncodingRefused, match="not named by a row of it"):
        apply_delta(base, delta({}, {5: (1, 1)}))


def test_is_among_compares_all_sixteen_bytes() -> None:
    one = np.zeros((3, 16), np.uint8)
    one[1, 15], one[2, 0] = 1, 1
    assert is_among(one, one[1:2]).tolist() == [False, True, False]
    assert is_among(one[:0], one).tolist() == []
