"""
What the parties' assertion lists say together: which records must, and which must not, be one
person.

    settled = settle(lists, pseudonyms, groups)
    entities = solve(weights, groups, asserted=settled.asserted)

An assertion counts where two or more uploaders name it, with one verdict. Assertions can still
contradict each other: along their chains two records of one dataset, or two records that are
asserted to be different, would be one person. Then none of the "same" of that chain counts,
whatever their order, while "different" stands: apart is the safe side. Every contradiction is
reported by its tokens, which their sites can tell the assertion id of, and by who said it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.assertions import AssertionList
from linkage.matching.identity import as_names, find_in
from linkage.matching.solve import Asserted, Groups, PairsBy
from linkage.records import Bytes2D

MOST_TOLD = 100
"""Contradictions that a report names; it counts them all."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Settled:
    """report: what an admin may know; counts, and the tokens of contradictions."""

    asserted: Asserted
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Said:
    """What one uploader says under one token. record: number among all first records."""

    uploader: str
    record: int
    different: bool


@dataclass(frozen=True, slots=True)
class _Claim:
    """An assertion that two or more uploaders name. name: its token."""

    name: bytes
    said: tuple[_Said, ...]


def settle(
    lists: Mapping[str, AssertionList],
    pseudonyms: Mapping[str, Bytes2D],
    groups: Mapping[str, Groups],
) -> Settled:
    """
    Return what the lists say of the records of a run.

    lists: by uploader. pseudonyms, groups: of every uploader's records (EncodedRecords). A record
    that its dataset lacks says nothing and is counted; one that the site grouped with others
    stands for its group.
    """
    parties = sorted(pseudonyms)
    start = dict(
        zip(parties, np.cumsum([0, *(len(pseudonyms[p]) for p in parties)]).tolist(), strict=False)
    )
    named: dict[bytes, list[_Said]] = {}
    unknown: dict[str, int] = {}
    for party in sorted(set(lists) & set(parties)):
        rows = first_rows(lists[party].pseudonyms, pseudonyms[party], groups[party])
        unknown[party] = int((rows < 0).sum())
        for row, token, different in zip(
            rows.tolist(), lists[party].tokens, lists[party].different.tolist(), strict=True
        ):
            if row >= 0:
                said = _Said(party, start[party] + row, different)
                named.setdefault(token.tobytes(), []).append(said)
    claims = [_Claim(token, tuple(said)) for token, said in sorted(named.items()) if len(said) > 1]
    both = [c for c in claims if len({said.different for said in c.said}) > 1]
    apart = [c for c in claims if all(said.different for said in c.said)]
    one = [c for c in claims if not any(said.different for said in c.said)]
    kept, chains = _without_contradictions(one, apart)
    contradictions = [_told([c], "one says same, another different") for c in both] + chains
    asserted = Asserted(_pairs(kept, start), _pairs(apart, start))
    return Settled(
        asserted,
        {
            "same": _count(asserted.same),
            "different": _count(asserted.different),
            "one_side_only": sum(len(said) == 1 for said in named.values()),
            "unknown_records": {party: n for party, n in unknown.items() if n},
            "contradictions": len(contradictions),
            "contradicting": contradictions[:MOST_TOLD],
        },
    )


def first_rows(wanted: Bytes2D, pseudonyms: Bytes2D, groups: Groups) -> npt.NDArray[np.int64]:
    """Return the first row of each wanted record's group; -1 for a record that is not there."""
    names = as_names(pseudonyms)
    order = np.argsort(names, kind="stable")
    place = find_in(names[order], as_names(wanted))
    if not len(names):
        return place
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    return np.where(place >= 0, first[member.ravel()][order[place]], -1).astype(np.int64)


def _without_contradictions(
    one: Sequence[_Claim], apart: Sequence[_Claim]
) -> tuple[list[_Claim], list[dict[str, Any]]]:
    """Return the claims of "same" that contradict nothing, and what is to be told of the others."""
    parent: dict[int, int] = {}

    def root(record: int) -> int:
        while (above := parent.setdefault(record, record)) != record:
            parent[record] = parent[above]
            record = parent[record]
        return record

    for claim in one:
        for said in claim.said[1:]:
            parent[root(said.record)] = root(claim.said[0].record)
    chains: dict[int, list[_Claim]] = {}
    for claim in one:
        chains.setdefault(root(claim.said[0].record), []).append(claim)
    against: dict[int, list[_Claim]] = {}
    for claim in apart:
        for left, right in combinations(claim.said, 2):
            chained = left.record in parent and right.record in parent
            if chained and root(left.record) == root(right.record):
                against.setdefault(root(left.record), []).append(claim)
    kept: list[_Claim] = []
    told: list[dict[str, Any]] = []
    for chain, claims in chains.items():
        records = {(said.uploader, said.record) for claim in claims for said in claim.said}
        if chain in against:
            told.append(_told([*claims, *against[chain]], "same along a chain, yet different"))
        elif len({uploader for uploader, _ in records}) < len(records):
            told.append(_told(claims, "two records of one dataset along a chain"))
        else:
            kept += claims
    return kept, told


def _told(claims: Sequence[_Claim], why: str) -> dict[str, Any]:
    return {
        "why": why,
        "uploaders": sorted({said.uploader for claim in claims for said in claim.said}),
        "tokens": sorted({claim.name.hex() for claim in claims}),
    }


def _pairs(claims: Sequence[_Claim], start: Mapping[str, int]) -> dict[Any, tuple[Groups, Groups]]:
    found: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for claim in claims:
        for left, right in combinations(claim.said, 2):  # in the order of their uploaders
            pair = (left.record - start[left.uploader], right.record - start[right.uploader])
            found.setdefault((left.uploader, right.uploader), set()).add(pair)
    return {
        both: (
            np.array([left for left, _ in sorted(pairs)], np.uint32),
            np.array([right for _, right in sorted(pairs)], np.uint32),
        )
        for both, pairs in sorted(found.items())
    }


def _count(pairs: PairsBy) -> int:
    return sum(len(left) for left, _ in pairs.values())
