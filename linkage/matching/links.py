"""
What ties the records of one person together: the links of a run, with the facts of each.

    tiers = tiers_of(weights, chunks)                 beside weigh, while the candidates are at hand
    links = links_of(weights, tiers, entities, groups)        after solve

A **link** is a pair of records of one entity that was accepted by itself: its probability reaches
its comparison's link threshold, or somebody asserted it, or the site found both in its own dataset.
So every entity of two and more records is connected by its links. Each says

    method   who decided               "probabilistic", "asserted", "grouped", "reviewed"
    tier     on which evidence         see TIERS
    model    by which model's version  weights.MODEL_VERSION

and no score: scores stay in the run's sealed blobs (docs/threat-model.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused, MatchingFailed
from linkage.matching.candidates import CandidateChunk
from linkage.matching.solve import Entities, Groups
from linkage.matching.weights import Comparison, Weights

TIERS = {
    "keys and CLK": "probabilistic",
    "keys only": "probabilistic",
    "CLK only": "probabilistic",
    "third party": "probabilistic",
    "second look": "probabilistic",
    "asserted": "asserted",
    "duplicate": "grouped",
    "reviewed": "reviewed",
}
"""
Evidence tiers, and the method of each. keys and CLK: a match key agrees, and a CLK is alike beyond
the floor. third party: no candidate itself, a record of another party ties both. second look: the
sites were asked about this pair. duplicate: two records of one dataset, grouped by the site.
reviewed: reviewers decided about this pair in an earlier run.
"""
_KEYS_AND_CLK, _KEYS, _CLK, _THIRD, _LOOK, _ASSERTED, _DUPLICATE, _REVIEWED = range(len(TIERS))
_NAMES = tuple(TIERS)
_EVIDENCE_OF = frozenset({"keys", "cross", "known"})
"""Kinds of chunks whose pairs are candidates; the others show chance and loss."""

Tiers = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.uint32]
Pairs = tuple[Rows, Rows]
"""Rows of two parties in sorted order, pair by pair."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Links:
    """
    The links of a run: L parallel rows, ordered by left party, left row, right party, right row.

    parties: in sorted order. left_party, right_party: int16[L], numbers of them, left <= right.
    left, right: uint32[L], record rows. tier: uint8[L], numbers in the order of TIERS.
    """

    parties: tuple[str, ...]
    left_party: npt.NDArray[np.int16]
    left: Rows
    right_party: npt.NDArray[np.int16]
    right: Rows
    tier: Tiers

    def __len__(self) -> int:
        return len(self.left)

    def counts(self) -> dict[str, int]:
        """Return the number of links of each tier that occurs."""
        found = np.bincount(self.tier, minlength=len(_NAMES)).tolist()
        return {name: count for name, count in zip(_NAMES, found, strict=True) if count}


def tiers_of(
    weights: Weights,
    chunks: Sequence[CandidateChunk],
    *,
    looked: Mapping[tuple[str, str], Pairs] | None = None,
    reviewed: Mapping[tuple[str, str], Pairs] | None = None,
) -> list[Tiers]:
    """
    Return the evidence tier of every weighted pair: for each comparison uint8[P], parallel to it.

    looked: by comparison, the pairs whose weight a second look gave. reviewed: those that reviewers
    decided about, who stand over a look.
    """
    of: dict[tuple[str, str], list[CandidateChunk]] = {}
    for chunk in chunks:
        if chunk.chunk.kind in _EVIDENCE_OF:
            of.setdefault(chunk.chunk.comparison, []).append(chunk)
    return [
        _tiers(
            c,
            of.get(c.parties, []),
            {_LOOK: (looked or {}).get(c.parties), _REVIEWED: (reviewed or {}).get(c.parties)},
        )
        for c in weights.comparisons
    ]


def _tiers(
    comparison: Comparison, chunks: list[CandidateChunk], told: Mapping[int, Pairs | None]
) -> Tiers:
    wanted = _codes(comparison.left, comparison.right)
    tiers = np.full(len(wanted), _THIRD, np.uint8)
    for chunk in chunks:
        rows, found = _matching(wanted, _codes(chunk.left, chunk.right))
        keyed = chunk.agree[found] > 0
        z = np.where(np.isnan(chunk.z[found]), -np.inf, chunk.z[found])
        alike = (z >= chunk.chunk.floor).any(axis=1)
        tiers[rows] = np.where(keyed, np.where(alike, _KEYS_AND_CLK, _KEYS), _CLK)
    for tier, pairs in told.items():
        if pairs is not None:
            tiers[_matching(wanted, _codes(*pairs))[0]] = tier
    return tiers


def links_of(
    weights: Weights,
    tiers: Sequence[Tiers],
    entities: Entities,
    groups: Mapping[str, Groups],
    *,
    threshold: float | None = None,
    asserted: Mapping[tuple[str, str], Pairs] | None = None,
) -> Links:
    """
    Return the links of a solved run.

    threshold: as `solve` was called with. asserted: by comparison, the pairs that parties asserted
    to be one person; they count as that whatever else speaks for them. Raises MatchingFailed if
    tiers and weights do not fit, or an asserted pair is no part of one entity.
    """
    parties = tuple(sorted(groups))
    number = {party: i for i, party in enumerate(parties)}
    said = dict(asserted or {})
    blocks: list[npt.NDArray[np.int64]] = [np.zeros((0, 5), np.int64)]
    if len(tiers) != len(weights.comparisons):
        raise MatchingFailed("the evidence tiers are of another run")

    def add(one: str, other: str, left: Rows, right: Rows, tier: npt.NDArray[np.integer]) -> None:
        ends = np.full((len(left), 2), [number[one], number[other]], np.int64)
        blocks.append(np.column_stack([ends[:, 0], left, ends[:, 1], right, tier]))

    for c, tier in zip(weights.comparisons, tiers, strict=True):
        if len(tier) != len(c.left):
            raise MatchingFailed("the evidence tiers are of another run")
        one, other = c.parties
        least = c.estimate.link_threshold if threshold is None else threshold
        same = entities.of[one][c.left] == entities.of[other][c.right]
        kept = (c.probability >= least) & same
        if c.parties in said:
            kept[_matching(_codes(c.left, c.right), _codes(*said[c.parties]))[0]] = False
        add(one, other, c.left[kept], c.right[kept], tier[kept])
    for (one, other), (left, right) in said.items():
        if (entities.of[one][left] != entities.of[other][right]).any():
            raise MatchingFailed("an asserted link is no part of a person")
        add(one, other, left, right, np.full(len(left), _ASSERTED))
    for party in parties:
        _, first, member = np.unique(groups[party], return_index=True, return_inverse=True)
        named = first[member.ravel()]
        rows = np.flatnonzero(named != np.arange(len(named)))
        add(party, party, _rows(named[rows]), _rows(rows), np.full(len(rows), _DUPLICATE))
    whole = np.concatenate(blocks)
    whole = whole[np.lexsort((whole[:, 3], whole[:, 2], whole[:, 1], whole[:, 0]))]
    return Links(
        parties=parties,
        left_party=whole[:, 0].astype(np.int16),
        left=_rows(whole[:, 1]),
        right_party=whole[:, 2].astype(np.int16),
        right=_rows(whole[:, 3]),
        tier=whole[:, 4].astype(np.uint8),
    )


def _rows(values: npt.NDArray[np.integer]) -> Rows:
    return values.astype(np.uint32)


def _codes(left: Rows, right: Rows) -> npt.NDArray[np.uint64]:
    """Return one number a pair: uint64[P]."""
    return left.astype(np.uint64) << np.uint64(32) | right.astype(np.uint64)


def _matching(
    wanted: npt.NDArray[np.uint64], among: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the positions in both of every pair that both hold; each holds a pair once."""
    _, rows, found = np.intersect1d(wanted, among, assume_unique=True, return_indices=True)
    return rows, found


def tiers_to_arrow(tiers: Sequence[Tiers]) -> pa.Table:
    """Return all tiers as one column, comparisons one after another; their sizes as metadata."""
    whole = np.concatenate([np.zeros(0, np.uint8), *tiers])
    sizes = " ".join(str(len(one)) for one in tiers)
    return pa.table({"tier": whole}).replace_schema_metadata({"tiers": sizes})


def tiers_from_arrow(table: pa.Table) -> list[Tiers]:
    """Read what `tiers_to_arrow` wrote. Raises EncodingRefused for another table."""
    metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
    if b"tiers" not in metadata or table.column_names != ["tier"]:
        raise EncodingRefused("these are not the evidence tiers of a run")
    sizes = [int(one) for one in metadata[b"tiers"].split()]
    whole = table["tier"].to_numpy()
    if sum(sizes) != len(whole):
        raise EncodingRefused("the evidence tiers of a run are incomplete")
    return [np.asarray(one) for one in np.split(whole, np.cumsum(sizes)[:-1])] if sizes else []


def to_arrow(links: Links) -> pa.Table:
    """Return the links as one table; the parties travel in the schema's metadata."""
    columns = ("left_party", "left", "right_party", "right", "tier")
    table = pa.table({name: getattr(links, name) for name in columns})
    return table.replace_schema_metadata({"links": " ".join(links.parties)})


def from_arrow(table: pa.Table) -> Links:
    """Read what `to_arrow` wrote. Raises EncodingRefused for another table."""
    metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
    if b"links" not in metadata:
        raise EncodingRefused("these are not the links of a run")
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return Links(parties=tuple(metadata[b"links"].decode().split()), **columns)
