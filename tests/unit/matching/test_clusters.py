"""Persons whom more than five parties hold: found whole, and taken apart where a pair is weak."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.matching.dataset import Dataset
from linkage.matching.engine import link
from linkage.matching.hierarchy import cut
from linkage.matching.hyperedges import Pairs
from linkage.sealing import Identity
from tests.broker_packages import encoded
from tests.broker_world import STUDY, sign_for

PARTIES = 8
Weights = Mapping[tuple[tuple[int, int], tuple[int, int]], float]


def pairs_of(weights: Weights) -> dict[tuple[int, int], Pairs]:
    """weights: log weight by two records, each (party, row)."""
    found: dict[tuple[int, int], list[tuple[int, int, float]]] = {}
    for ((one, row), (other, partner)), weight in weights.items():
        found.setdefault((one, other), []).append((row, partner, weight))
    return {
        key: Pairs(
            left=np.array([a for a, _, _ in rows]),
            right=np.array([b for _, b, _ in rows]),
            log_weight=np.array([w for _, _, w in rows]),
            log_prior=-8.0,
            missed=0.02,
        )
        for key, rows in found.items()
    }


def one_person(weak: int | None = None, *, weight: float = 12.0, bad: float = -3.0) -> Weights:
    """A record of every party, every pair strong, but for those of party `weak`."""
    return {
        ((a, 0), (b, 0)): bad if weak in (a, b) else weight
        for a, b in combinations(range(PARTIES), 2)
    }


def together(weights: Weights, *records: tuple[int, int]) -> float:
    """Return the probability that these records are one person."""
    edges, chance = cut(pairs_of(weights), PARTIES)
    inside = np.ones(len(chance), bool)
    for party, row in records:
        inside &= edges.members[:, party] == row
    return float(chance[inside].sum())


def test_all_records_of_a_person_are_together() -> None:
    weights = one_person()
    assert together(weights, *((party, 0) for party in range(PARTIES))) > 0.99
    for a, b in combinations(range(PARTIES), 2):
        assert together(weights, (a, 0), (b, 0)) > 0.99


def test_a_weak_record_can_stay_out() -> None:
    for weak in (0, 3, PARTIES - 1):
        weights = one_person(weak)
        strong = [(party, 0) for party in range(PARTIES) if party != weak]
        assert together(weights, *strong) > 0.95
        assert together(weights, *strong, (weak, 0)) < 0.2


def test_two_persons_tied_by_one_weak_pair_come_apart() -> None:
    left, right = range(4), range(4, PARTIES)
    weights = {
        ((a, 0), (b, 0)): 12.0 for side in (left, right) for a, b in combinations(side, 2)
    } | {((0, 0), (4, 0)): -4.0}
    assert together(weights, *((party, 0) for party in left)) > 0.95
    assert together(weights, *((party, 0) for party in right)) > 0.95
    assert together(weights, (0, 0), (4, 0)) < 0.05


def test_a_party_is_held_once() -> None:
    """Two records of party 0 claim the same person: the better one has it."""
    weights = dict(one_person())
    weights |= {((0, 1), (b, 0)): 6.0 for b in range(1, PARTIES)}
    edges, _ = cut(pairs_of(weights), PARTIES)
    assert together(weights, *((party, 0) for party in range(PARTIES))) > 0.9
    assert together(weights, (0, 1), (1, 0)) < 0.1
    assert len(np.unique(edges.members, axis=0)) == len(edges.members), "no set twice"


def test_a_person_is_as_likely_whole_as_all_cuts_of_its_tree_say() -> None:
    """A record that is likely in stays in, however many others there are; the sum is exact."""
    for weight in (-1.0, 0.0, 1.0, 3.0):
        chance = together(one_person(4, bad=weight), (4, 0), (0, 0))
        assert chance == pytest.approx(1 / (1 + np.exp(-weight)), abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 14))
def test_probabilities_are_those_of_all_configurations(seed: int, count: int) -> None:
    """
    Pairs between trees claim as in an enumeration of all disjoint sets, where these make no circle.
    """
    draw = np.random.default_rng(seed)
    weights: dict[tuple[tuple[int, int], tuple[int, int]], float] = {}
    records = [(int(draw.integers(PARTIES)), 0)]
    for row in range(1, count):
        known = records[draw.integers(len(records))]
        party = int(draw.choice([p for p in range(PARTIES) if p != known[0]]))
        one, other = sorted((known, (party, row)))
        weights[one, other] = float(draw.normal(0.0, 3.0))
        records.append((party, row))
    edges, chance = cut(pairs_of(weights), PARTIES)
    total, held = 0.0, np.zeros(len(chance))
    for chosen in range(2 ** len(chance)) if len(chance) <= 12 else ():
        some = [k for k in range(len(chance)) if chosen >> k & 1]
        rows = [(p, r) for k in some for p, r in enumerate(edges.members[k]) if r >= 0]
        if len(set(rows)) == len(rows) and all(chance[k] > 0 for k in some):
            weight = float(np.exp(edges.log_weight[some].sum()))
            total += weight
            held[some] += weight
    if total:
        assert chance == pytest.approx(held / total, abs=2e-3)


def test_the_number_of_sets_does_not_explode() -> None:
    edges, _ = cut(pairs_of(one_person()), PARTIES)
    assert len(edges.members) == 28 + PARTIES - 2
    size = (edges.members >= 0).sum(axis=1)
    assert size.max() == PARTIES


@pytest.mark.parametrize("hospitals", [6, 11])
def test_everybody_in_every_one_of_many_datasets(hospitals: int) -> None:
    """Contributors of one commons and other parties, all with the same people."""
    names = ", ".join(f'"hospital-{i}"' for i in range(hospitals))
    text = STUDY.replace('id = "imaging"\n', f'id = "imaging"\ncontributors = [{names}]\n')
    signed, _ = sign_for(Identity.generate("broker", kem="X25519").public(), "many", text=text)
    people = 60
    datasets = []
    for uploader in signed.study.uploaders:
        records = encoded(signed, uploader, range(people))
        collisions = dict.fromkeys(records.match_keys, 0)
        datasets.append(Dataset(party=uploader, records=records, collisions=collisions))
    result = link(datasets, seed=1, workers=1)
    assert people <= result.entities.count <= people + 2
