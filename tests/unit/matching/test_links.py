"""Every link says who decided it, on which evidence and by which model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from linkage.errors import EncodingRefused, MatchingFailed
from linkage.matching import links
from linkage.matching.candidates import CandidateChunk, Chunk
from linkage.matching.engine import link
from linkage.matching.estimates import estimate
from linkage.matching.links import Links, links_of, tiers_of
from linkage.matching.solve import Entities, solve
from linkage.matching.weights import Comparison, Weights
from tests.unit.matching.worlds import world

NAMES = tuple(links.TIERS)


def _rows(*rows: int) -> np.ndarray:
    return np.array(rows, np.uint32)


def _weights(parties: tuple[str, str], pairs: list[tuple[int, int, float]]) -> Weights:
    left, right, p = zip(*pairs, strict=True)
    probability = np.array(p)
    quality = estimate(probability, probability, float(probability.sum()))
    one = Comparison(parties, _rows(*left), _rows(*right), probability, quality)
    return Weights((one,), quality, ())


def _chunk(kind: str, pairs: list[tuple[int, int, int, float]]) -> CandidateChunk:
    left, right, agree, z = zip(*pairs, strict=True)
    plan = Chunk("cross", "a", "b", "b", ("all",), ("k",), 0, 9, 3.5)
    return CandidateChunk(
        replace(plan, kind=kind),  # type: ignore[arg-type]
        _rows(*left),
        _rows(*right),
        np.array(z)[:, None],
        np.array(agree, np.uint64),
        np.zeros(len(left), np.uint64),
    )


def _said(made: Links) -> list[tuple[str, int, str, int, str]]:
    p = made.parties
    ends = zip(made.left_party, made.left, made.right_party, made.right, made.tier, strict=True)
    return [(p[a], int(i), p[b], int(j), NAMES[t]) for a, i, b, j, t in ends]


def test_the_tier_names_the_evidence_of_the_pair_itself() -> None:
    weights = _weights(
        ("a", "b"), [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0), (3, 3, 1.0), (4, 4, 0.9)]
    )
    chunks = [
        _chunk("cross", [(0, 0, 1, 3.5), (1, 1, 1, 3.49), (2, 2, 0, 9.0), (4, 4, 0, 4.0)]),
        _chunk("cross", [(5, 5, 1, np.nan)]),
        _chunk("within", [(3, 3, 1, 9.0)]),
    ]
    (tiers,) = tiers_of(weights, chunks)
    assert [NAMES[t] for t in tiers] == [
        "keys and CLK",
        "keys only",
        "CLK only",
        "third party",
        "CLK only",
    ]
    looked = {("a", "b"): (_rows(4, 7), _rows(4, 7))}
    assert NAMES[tiers_of(weights, chunks, looked=looked)[0][4]] == "second look"


def test_a_pair_without_any_clk_is_of_keys_only() -> None:
    (tiers,) = tiers_of(_weights(("a", "b"), [(0, 0, 1.0)]), [_chunk("cross", [(0, 0, 1, np.nan)])])
    assert [NAMES[t] for t in tiers] == ["keys only"]


def test_links_are_accepted_pairs_of_one_entity_and_the_sites_duplicates() -> None:
    weights = _weights(("a", "b"), [(0, 0, 0.9), (1, 0, 0.8), (1, 1, 0.7), (2, 2, 0.2)])
    groups = {"a": np.array([0, 1, 2, 1], np.uint32), "b": np.array([0, 1, 2], np.uint32)}
    entities = solve(weights, groups, threshold=0.7)
    (tiers,) = tiers_of(weights, [_chunk("cross", [(0, 0, 1, 9.0), (1, 1, 0, 9.0)])])
    made = links_of(weights, [tiers], entities, groups, threshold=0.7)
    assert _said(made) == [
        ("a", 0, "b", 0, "keys and CLK"),
        ("a", 1, "a", 3, "duplicate"),
        ("a", 1, "b", 1, "CLK only"),
    ]
    assert made.counts() == {"keys and CLK": 1, "CLK only": 1, "duplicate": 1}
    asserted = {("a", "b"): (_rows(1), _rows(1))}
    again = links_of(weights, [tiers], entities, groups, threshold=0.7, asserted=asserted)
    assert _said(again)[-1] == ("a", 1, "b", 1, "asserted")
    assert len(again) == 3
    # Inclusive: a hair above its probability, the pair is no link.
    fewer = links_of(weights, [tiers], entities, groups, threshold=np.nextafter(0.7, 1))
    assert len(fewer) == 2


def test_an_asserted_link_that_is_not_solved_is_a_fault() -> None:
    weights = _weights(("a", "b"), [(0, 0, 0.9)])
    apart = Entities({"a": np.array([0]), "b": np.array([1])}, 2)
    groups = {"a": np.array([0], np.uint32), "b": np.array([0], np.uint32)}
    asserted = {("a", "b"): (_rows(0), _rows(0))}
    with pytest.raises(MatchingFailed, match="no part of a person"):
        links_of(weights, tiers_of(weights, []), apart, groups, asserted=asserted)
    with pytest.raises(MatchingFailed, match="another run"):
        links_of(weights, [], apart, groups)


def test_the_links_of_a_run_connect_each_entity_and_nothing_else() -> None:
    made = world(range(200), range(100, 300), range(50, 250), seed=3)
    result = link(made.datasets, seed=1)
    groups = {d.party: d.records.groups for d in made.datasets}
    tiers = tiers_of(result.weights, [])
    found = links_of(result.weights, tiers, result.entities, groups)
    parent: dict[tuple[str, int], tuple[str, int]] = {}

    def root(record: tuple[str, int]) -> tuple[str, int]:
        while record in parent:
            record = parent[record]
        return record

    for one, i, other, j, tier in _said(found):
        assert tier == "third party"  # no chunk was shown
        assert result.entities.of[one][i] == result.entities.of[other][j]
        if root((one, i)) != root((other, j)):
            parent[root((one, i))] = root((other, j))
    joined = len({root((p, i)) for p, of in result.entities.of.items() for i in range(len(of))})
    assert joined == result.entities.count


def test_tables_and_back() -> None:
    weights = _weights(("a", "b"), [(0, 0, 0.9)])
    tiers = tiers_of(weights, [])
    back = links.tiers_from_arrow(links.tiers_to_arrow(tiers))
    assert [t.tolist() for t in back] == [t.tolist() for t in tiers]
    assert links.tiers_from_arrow(links.tiers_to_arrow([])) == []
    groups = {"a": np.array([0, 0], np.uint32), "b": np.array([0], np.uint32)}
    made = links_of(weights, tiers, solve(weights, groups), groups)
    assert _said(links.from_arrow(links.to_arrow(made))) == _said(made)
    for read in (links.tiers_from_arrow, links.from_arrow):
        with pytest.raises(EncodingRefused):
            read(links.to_arrow(made).replace_schema_metadata({}))
