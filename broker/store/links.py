"""
Rows of links: which pair of records tied a person together after which run, and why.

As with memberships, a link holds from the run of sequence `since` until, exclusive, that of
`until`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, case, func, select

from broker.store import bulk
from broker.store.tables import link
from linkage.matching.identity import find_in
from linkage.matching.links import TIERS
from linkage.records import Bytes2D

_TIERS = tuple(TIERS)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LinkRows:
    """
    Links by the names of their records: N parallel rows.

    left, right: uint8[N, 16], record pseudonyms. tier: int64[N], numbers in the order of
    linkage.matching.links.TIERS. model: int64[N].
    """

    left: Bytes2D
    right: Bytes2D
    tier: npt.NDArray[np.int64]
    model: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LinkFact:
    """Why two records are one person. left, right: record pseudonyms."""

    left: bytes
    right: bytes
    tier: str
    model: int
    since: int
    until: int | None


def write(connection: Connection, study_id: str, sequence: int, links: LinkRows) -> None:
    """Write what a run changed: links that ended, and those that began or changed their facts."""
    before, since = _holding(connection, study_id)
    old, new = _names(before), _names(links)
    order = np.argsort(old)
    place = find_in(old[order], new)
    known = place >= 0
    at = order[place[known]]
    same = np.zeros(len(new), np.bool_)
    same[known] = (before.tier[at] == links.tier[known]) & (before.model[at] == links.model[known])
    stays = np.zeros(len(old), np.bool_)
    stays[order[place[same]]] = True
    over, begun = np.flatnonzero(~stays), np.flatnonzero(~same)
    begun = begun[np.argsort(new[begun])]  # in the order of the key, as in `people`
    bulk.change(
        connection,
        link,
        len(over),
        to={"until": sequence},
        where={
            "study_id": study_id,
            "left_pseudonym": before.left[over],
            "right_pseudonym": before.right[over],
            "since": since[over],
        },
    )
    bulk.insert(
        connection,
        link,
        len(begun),
        {
            "study_id": study_id,
            "left_pseudonym": links.left[begun],
            "right_pseudonym": links.right[begun],
            "since": sequence,
            "tier": [_TIERS[number] for number in links.tier[begun]],
            "model": links.model[begun],
        },
    )


def among(
    connection: Connection, study_id: str, pseudonyms: Sequence[bytes], sequence: int
) -> list[LinkFact]:
    """Return the links that held among these records after a run, by left, then right."""
    c = link.c
    wanted = select(link).where(
        c.study_id == study_id,
        c.left_pseudonym.in_(pseudonyms),
        c.right_pseudonym.in_(pseudonyms),
        c.since <= sequence,
        c.until.is_(None) | (c.until > sequence),
    )
    rows = connection.execute(wanted.order_by(c.left_pseudonym, c.right_pseudonym))
    return [
        LinkFact(
            left=row.left_pseudonym,
            right=row.right_pseudonym,
            tier=row.tier,
            model=row.model,
            since=row.since,
            until=row.until,
        )
        for row in rows
    ]


def held_at(connection: Connection, study_id: str, sequence: int) -> LinkRows:
    """Return the links that held after a run. A tier that this version does not know is -1."""
    held = (link.c.since <= sequence) & (link.c.until.is_(None) | (link.c.until > sequence))
    return _read(connection, study_id, held)[0]


def changed(connection: Connection, study_id: str, first: int, second: int) -> tuple[int, int]:
    """
    Return how many links held after the run of sequence `second` that did not after that of
    `first`, an earlier one, and the other way round. A link of another tier or model is the same.
    """
    c = link.c
    over = (c.since <= first) & (c.until > first) & (c.until <= second)
    begun = (c.since > first) & (c.since <= second) & (c.until.is_(None) | (c.until > second))
    counts = select(func.sum(case((begun, 1), else_=0)), func.sum(case((over, 1), else_=0)))
    mine = c.study_id == study_id
    gained, lost = (int(n or 0) for n in connection.execute(counts.where(mine)).one())
    if not gained or not lost:
        return gained, lost
    pairs = select(c.left_pseudonym, c.right_pseudonym).where(mine)
    both = pairs.where(over).intersect(pairs.where(begun)).subquery()
    same = connection.execute(select(func.count()).select_from(both)).scalar_one()
    return gained - same, lost - same


def _holding(connection: Connection, study_id: str) -> tuple[LinkRows, npt.NDArray[np.int64]]:
    """Return the links that hold now, and since when."""
    return _read(connection, study_id, link.c.until.is_(None))


def _read(
    connection: Connection, study_id: str, which: ColumnElement[bool]
) -> tuple[LinkRows, npt.NDArray[np.int64]]:
    c = link.c
    wanted = select(c.left_pseudonym, c.right_pseudonym, c.tier, c.model, c.since)
    numbers = {name: number for number, name in enumerate(_TIERS)}
    left, right = [np.zeros((0, 16), np.uint8)], [np.zeros((0, 16), np.uint8)]
    facts = [np.zeros((0, 3), np.int64)]
    for rows in bulk.read(connection, wanted.where(c.study_id == study_id, which)):
        one, other, tier, model, since = zip(*rows, strict=True)
        left.append(bulk.matrix(one))
        right.append(bulk.matrix(other))
        # A tier that this version does not know is none of its own, so such a link begins anew.
        facts.append(np.array([[numbers.get(t, -1) for t in tier], model, since], np.int64).T)
    joined = np.concatenate(facts)
    found = LinkRows(np.concatenate(left), np.concatenate(right), joined[:, 0], joined[:, 1])
    return found, joined[:, 2]


def _names(links: LinkRows) -> npt.NDArray[np.bytes_]:
    """Return one name a link: S32[N]; see linkage.matching.identity for its zero bytes."""
    both = np.ascontiguousarray(np.concatenate([links.left, links.right], axis=1))
    return both.view("S32").reshape(len(links.left))
