"""
From pairs to entities: which records are one person, stage 5 of a run.

Greedy, best pair first: a pair at or above its threshold merges the entities of its two records,
unless both already hold a record of one party. So an entity never has two records of a party, and
no chain of weak links can tie two of them together. Ties are broken by parties (sorted), left row,
right row. Records that the site grouped as duplicates inherit the entity of their representative.

What parties assert (linkage.matching.asserted) goes before all pairs: records asserted to be one
person are merged first, and no merge ever brings two together that are asserted to be different.

Without assertions the same rule as anonlink's probabilistic greedy solver with a merge threshold of
0; a test holds both equal, and another the readable reference, `solve_reference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused, MatchingFailed
from linkage.matching.weights import Weights

MOST_PARTIES = 63

Groups = npt.NDArray[np.uint32]
PairsBy = Mapping[tuple[str, str], tuple[Groups, Groups]]
"""Rows of two parties in sorted order, pair by pair; each pair once."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Asserted:
    """
    Pairs of rows, each the first of its group, that are one person, and that are two. `same` ties
    no two records of one party together, nor any two that are `different`.
    """

    same: PairsBy = field(default_factory=dict)
    different: PairsBy = field(default_factory=dict)


_NOTHING = Asserted()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Entities:
    """
    One entity number for every record. of: by party, int64[N], numbers 0 to count - 1 in order of
    first appearance: parties sorted, then rows. Records without a link are entities of their own.
    """

    of: Mapping[str, npt.NDArray[np.int64]]
    count: int


def solve(
    weights: Weights,
    groups: Mapping[str, Groups],
    *,
    threshold: float | None = None,
    asserted: Asserted = _NOTHING,
) -> Entities:
    """
    Return the entity of every record.

    groups: by party, uint32[N], equal for duplicates within the dataset (EncodedRecords.groups).
    threshold: least probability to link, inclusive, for all comparisons; None takes each
    comparison's own link threshold. Raises MatchingFailed if rows or parties do not fit, or if what
    is asserted contradicts itself (`asserted.settle` leaves no such thing).
    """
    parties = sorted(groups)
    if len(parties) > MOST_PARTIES:
        raise MatchingFailed(f"more than {MOST_PARTIES} parties cannot be solved at once")
    offset = dict(
        zip(parties, np.cumsum([0, *(len(groups[p]) for p in parties)])[:-1], strict=True)
    )
    pairs, probability = _accepted(weights, groups, offset, threshold)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], pairs[:, 3], pairs[:, 2], -probability))
    party = np.repeat(np.arange(len(parties)), [len(groups[p]) for p in parties])
    same, different = (_flat(said, groups, offset) for said in (asserted.same, asserted.different))
    root = _merge(
        np.concatenate([same[:, 0], pairs[order, 0]]),
        np.concatenate([same[:, 1], pairs[order, 1]]),
        np.left_shift(1, party.astype(np.int64)),
        different,
    )
    if (root[same[:, 0]] != root[same[:, 1]]).any():
        raise MatchingFailed("what is asserted to be one person contradicts itself")
    inherited = _inherit(root, groups, parties, offset)
    _, first, number = np.unique(inherited, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first, kind="stable"), kind="stable")
    entity = rank[number.ravel()] if len(number) else np.zeros(0, np.int64)
    return Entities(
        of={p: entity[offset[p] : offset[p] + len(groups[p])].astype(np.int64) for p in parties},
        count=len(first),
    )


def _accepted(
    weights: Weights,
    groups: Mapping[str, Groups],
    offset: Mapping[str, int],
    threshold: float | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return (left, right, left party, right party) of each pair to link, and its probability."""
    blocks, values = [np.zeros((0, 4), np.int64)], [np.zeros(0)]
    names = sorted(groups)
    for c in weights.comparisons:
        if not set(c.parties) <= groups.keys():
            raise MatchingFailed("the weights name a party that has no groups")
        for party, rows in zip(c.parties, (c.left, c.right), strict=True):
            if len(rows) and int(rows.max()) >= len(groups[party]):
                raise MatchingFailed("the weights name a record that its dataset does not have")
        least = c.estimate.link_threshold if threshold is None else threshold
        taken = c.probability >= least
        one, other = c.parties
        left = c.left[taken].astype(np.int64) + offset[one]
        right = c.right[taken].astype(np.int64) + offset[other]
        numbers = np.full((len(left), 2), [names.index(one), names.index(other)])
        blocks.append(np.concatenate([np.stack([left, right], axis=1), numbers], axis=1))
        values.append(c.probability[taken])
    return np.concatenate(blocks), np.concatenate(values)


def _flat(
    said: PairsBy, groups: Mapping[str, Groups], offset: Mapping[str, int]
) -> npt.NDArray[np.int64]:
    """Return asserted pairs as numbers of records: int64[A, 2]."""
    blocks = [np.zeros((0, 2), np.int64)]
    for both, rows in said.items():
        if not set(both) <= groups.keys() or any(
            len(one) and int(one.max()) >= len(groups[p]) for p, one in zip(both, rows, strict=True)
        ):
            raise MatchingFailed("what is asserted names a record that its dataset does not have")
        numbers = [one.astype(np.int64) + offset[p] for p, one in zip(both, rows, strict=True)]
        blocks.append(np.stack(numbers, axis=1))
    return np.concatenate(blocks)


def _inherit(
    root: npt.NDArray[np.int64],
    groups: Mapping[str, Groups],
    parties: list[str],
    offset: Mapping[str, int],
) -> npt.NDArray[np.int64]:
    """Give every record of a group the root of the group's first record."""
    inherited = root.copy()
    for p in parties:
        _, first, member = np.unique(groups[p], return_index=True, return_inverse=True)
        start = offset[p]
        inherited[start : start + len(groups[p])] = root[start + first[member.ravel()]]
    return inherited


@numba.njit(cache=True, nogil=True)
def _merge(left, right, parties, different):  # type: ignore[no-untyped-def]
    """
    Union-find over pairs in order; `parties` holds one bit a record and is consumed.

    different: int64[D, 2], records that stay apart. Each entity has a list of those that its
    records must not meet: `first` of its root, `following`, -1 at the end.
    """
    parent = np.arange(len(parties))
    first = np.full(len(parties) if len(different) else 0, -1, np.int64)
    following = np.full(2 * len(different), -1, np.int64)
    for e in range(2 * len(different)):
        mine = different[e // 2, e % 2]
        following[e], first[mine] = first[mine], e
    for k in range(len(left)):
        i, j = left[k], right[k]
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        while parent[j] != j:
            parent[j] = parent[parent[j]]
            j = parent[j]
        if i != j and parties[i] & parties[j] == 0:
            low, high = min(i, j), max(i, j)
            if len(different):
                e, last = first[high], -1
                while e >= 0:
                    other = different[e // 2, 1 - e % 2]
                    while parent[other] != other:
                        other = parent[other]
                    if other == low:
                        break
                    e, last = following[e], e
                if e >= 0:
                    continue
                if last >= 0:
                    following[last], first[low] = first[low], first[high]
            parent[high] = low
            parties[low] |= parties[high]
    for i in range(len(parent)):
        root = i
        while parent[root] != root:
            root = parent[root]
        parent[i] = root
    return parent


def to_arrow(entities: Entities) -> pa.Table:
    """Return party, row, entity of every record, parties sorted, rows ascending."""
    parties = sorted(entities.of)
    sizes = [len(entities.of[p]) for p in parties]
    empty = [np.zeros(0, np.int64)]
    return pa.table(
        {
            "party": pa.array(np.repeat(np.array(parties, dtype=object), sizes), pa.string()),
            "row": np.concatenate([*empty, *(np.arange(n) for n in sizes)]),
            "entity": np.concatenate([*empty, *(entities.of[p] for p in parties)]),
        }
    ).replace_schema_metadata({"parties": " ".join(parties)})


def from_arrow(table: pa.Table) -> Entities:
    """Read what `to_arrow` wrote. Raises EncodingRefused for another table."""
    metadata = table.schema.metadata or {}
    if b"parties" not in metadata or table.column_names != ["party", "row", "entity"]:
        raise EncodingRefused("these are not the entities of a run")
    party = np.asarray(table["party"].to_pylist(), dtype=object)
    entity = table["entity"].to_numpy()
    of = {p: entity[party == p] for p in metadata[b"parties"].decode().split()}
    return Entities(of=of, count=int(entity.max()) + 1 if len(entity) else 0)
