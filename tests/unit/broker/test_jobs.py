"""What releases, questions and deliveries hold: every record, and nothing that tells a match."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.crosswalks import (
    Members,
    crosswalks,
    delivery_crosswalk,
    draw_ids,
    link_methods,
    random_order,
)
from broker.store.links import LinkRows
from linkage import delivery, idtables
from linkage.pseudonyms import random_ids

KEY = bytes(range(32))


def members(*persons: int) -> Members:
    return Members(random_ids(len(persons)), np.array(persons, np.int64))


def unpacked(made: dict[str, bytes], party: str) -> dict[bytes, bytes]:
    table = idtables.unpack(made[party], idtables.CROSSWALK)
    names = [row.tobytes() for row in table["record_pseudonym"]]
    ids = [row.tobytes() for row in table["cross_commons_id"]]
    assert len(set(names)) == len(names)
    return dict(zip(names, ids, strict=True))


def released(party_members: dict[str, Members]) -> dict[str, dict[bytes, bytes]]:
    made = crosswalks(party_members, list(party_members), idtables.CROSSWALK, "cross_commons_id")
    return {party: unpacked(made, party) for party in party_members}


persons = st.lists(st.integers(0, 12), max_size=12)


@pytest.mark.threat("T07")
@settings(max_examples=60, deadline=None)
@given(st.lists(persons, min_size=1, max_size=3))
def test_one_id_a_person_everywhere_and_every_record_has_one(parties: list[list[int]]) -> None:
    given_members = {f"party-{i}": members(*who) for i, who in enumerate(parties)}
    ids = released(given_members)
    person_of: dict[bytes, int] = {}
    for party, who in given_members.items():
        assert len(ids[party]) == len(who.persons)
        for name, person in zip(who.pseudonyms, who.persons, strict=True):
            one = ids[party][name.tobytes()]
            assert person_of.setdefault(one, int(person)) == person
    assert len(person_of) == len({p for who in parties for p in who})


@pytest.mark.threat("T21")
def test_two_releases_cannot_be_pooled() -> None:
    same = {"a": members(1, 2, 3), "b": members(2, 3, 4)}
    first, second = released(same), released(same)
    assert not set(first["a"].values()) & set(second["a"].values())


@pytest.mark.threat("T07")
def test_rows_are_in_random_order() -> None:
    who = {"a": members(*range(200))}
    made = [crosswalks(who, ["a"], idtables.CROSSWALK, "cross_commons_id")["a"] for _ in range(2)]
    tables = [idtables.unpack(one, idtables.CROSSWALK)["record_pseudonym"] for one in made]
    assert not (tables[0] == tables[1]).all()
    assert not (tables[0] == who["a"].pseudonyms).all()
    assert sorted(random_order(50).tolist()) == list(range(50))


def test_a_party_without_records_gets_an_empty_table() -> None:
    assert released({"a": members(), "b": members(1)})["a"] == {}


def opens(table: dict[str, np.ndarray], who: bytes) -> list[tuple[bytes, bytes]]:
    """The enclave's records, with cohort IDs, whose row ID and key open rows of `who`."""
    wanted = (delivery.row_id(KEY, who), delivery.row_key(KEY, who))
    rows = zip(
        table["record_pseudonym"],
        table["cohort_id"],
        table["row_id"],
        table["row_key"],
        strict=True,
    )
    return [
        (name.tobytes(), cohort.tobytes())
        for name, cohort, row_id, row_key in rows
        if (row_id.tobytes(), row_key.tobytes()) == wanted
    ]


@settings(max_examples=60, deadline=None)
@given(persons, persons)
def test_exactly_the_matched_rows_open(imaging: list[int], enclave: list[int]) -> None:
    one, other = members(*imaging), members(*enclave)
    table = delivery_crosswalk(one, other, KEY)
    for name, person in zip(one.pseudonyms, one.persons, strict=True):
        found = opens(table, name.tobytes())
        matched = {n.tobytes() for n in other.pseudonyms[other.persons == person]}
        assert {record for record, _ in found} == matched
        assert len({cohort for _, cohort in found}) <= 1


@pytest.mark.threat("T07")
@settings(max_examples=60, deadline=None)
@given(persons, persons, st.randoms())
def test_nothing_but_opening_tells_who_is_matched(
    imaging: list[int], enclave: list[int], shuffled: object
) -> None:
    """
    The table's shape (rows a record, which rows share a value) is the same when the imaging party
    holds the same records of entirely different people.
    """
    strangers = [person + 1000 for person in imaging]
    for_matched = delivery_crosswalk(members(*imaging), members(*enclave), KEY)
    for_nobody = delivery_crosswalk(members(*strangers), members(*enclave), KEY)
    assert shape(for_matched) == shape(for_nobody)


def shape(table: dict[str, np.ndarray]) -> list[tuple[int, ...]]:
    """How often each record, cohort ID, row ID and row key occurs, together, sorted."""
    counts = []
    for column in table.values():
        _, which, count = np.unique(column, axis=0, return_inverse=True, return_counts=True)
        counts.append(count[which.ravel()] if len(column) else count)
    return sorted(zip(*(one.tolist() for one in counts), strict=True))


def test_duplicates_of_an_imaging_person_all_open() -> None:
    imaging, enclave = members(1, 1, 1, 2), members(1, 3)
    table = delivery_crosswalk(imaging, enclave, KEY)
    assert len(table["row_id"]) == 6  # two records, as many rows as the largest imaging person
    for name in imaging.pseudonyms[:3]:
        assert len(opens(table, name.tobytes())) == 1
    assert opens(table, imaging.pseudonyms[3].tobytes()) == []


def linked(left: Members, i: int, right: Members, j: int, tier: int, model: int = 2) -> LinkRows:
    return LinkRows(
        left.pseudonyms[i : i + 1],
        right.pseudonyms[j : j + 1],
        np.array([tier], np.int64),
        np.array([model], np.int64),
    )


def joined(*rows: LinkRows) -> LinkRows:
    return LinkRows(
        np.concatenate([one.left for one in rows]),
        np.concatenate([one.right for one in rows]),
        np.concatenate([one.tier for one in rows]),
        np.concatenate([one.model for one in rows]),
    )


def test_how_ids_were_linked_says_the_enclaves_own_links_once_each() -> None:
    who = {"imaging": members(1, 2, 5), "enclave": members(1, 1, 3, 4), "claims": members(1, 2)}
    imaging, enclave, claims = who.values()
    gone = members(4)
    why = joined(
        linked(imaging, 0, enclave, 0, 0),
        linked(enclave, 1, imaging, 0, 0),  # the same of the enclave's other record: once
        linked(enclave, 0, enclave, 1, 6),
        linked(enclave, 0, claims, 0, 5, model=300),
        linked(imaging, 1, claims, 1, 0),  # nothing of the enclave's
        linked(enclave, 3, gone, 0, 1),  # the other record is withdrawn
        linked(enclave, 2, imaging, 2, -1),  # a tier of newer software
    )
    drawn = draw_ids(who, ["enclave"])
    table = link_methods(why, who, "enclave", drawn)
    told = sorted(
        (one.tobytes(), int(tier[0]), int.from_bytes(model.tobytes(), "big"))
        for one, tier, model in zip(*table.values(), strict=True)
    )
    first = drawn.of(np.array([1]))[0].tobytes()
    assert told == [(first, 0, 2), (first, 5, 300), (first, 6, 2)]
    assert idtables.unpack(idtables.pack(table, idtables.LINK_METHODS), idtables.LINK_METHODS)
    nobody = link_methods(why, {"enclave": members()}, "enclave", draw_ids(who, []))
    assert len(nobody["tier"]) == 0


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
def test_a_table_is_as_large_as_its_rows_whatever_they_hold(rows: int) -> None:
    same = Members(random_ids(rows), np.zeros(rows, np.int64))
    apart = Members(random_ids(rows), np.arange(rows))
    sizes = {
        len(
            crosswalks(
                {"a": one, "b": members(0, 3)}, "ab", idtables.CROSSWALK, "cross_commons_id"
            )["a"]
        )
        for one in (same, apart)
    }
    assert len(sizes) == 1
    assert sizes.pop() < 1024 + 32 * rows
