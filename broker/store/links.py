"""
Rows of links: which pair of records tied a person together after which run, and why.

As with memberships, a link holds from the run of sequence `since` until, exclusive, that of
`until`. How many links a run has in common with each one before is counted as it ends, when its
links are at hand: a page that compares two runs then reads three numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, case, func, or_, select

from broker.store import bulk
from broker.store.tables import link, links_in_common
from linkage.matching.identity import find_in
from linkage.matching.links import TIERS
from linkage.records import Bytes2D

_TIERS = tuple(TIERS)
_BACK = 200
"""Runs before it with which a run is compared as it ends; those further back are counted anew."""


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
    """
    Write what a run changed: links that ended, and those that began or changed their facts. And how
    many it has in common with each run before.
    """
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
    held_since = np.full(len(new), sequence, np.int64)
    held_since[known] = since[at]
    _write_common(connection, study_id, sequence, new, held_since)


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
    c = links_in_common.c
    three = ((first, first), (second, first), (second, second))
    found = select(c.links).where(
        c.study_id == study_id,
        or_(*((c.second == later) & (c.first == before) for later, before in three)),
    )
    counts = connection.execute(found.order_by(c.second, c.first)).scalars().all()
    if len(counts) < len(three):
        # Of a run that an earlier version ended, or that lies too far back.
        return counted(connection, study_id, first, second)
    of_first, of_both, of_second = counts
    return of_second - of_both, of_first - of_both


def counted(connection: Connection, study_id: str, first: int, second: int) -> tuple[int, int]:
    """Return what `changed` does, from the links themselves: of a million, a third of a second."""
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


def _write_common(
    connection: Connection,
    study_id: str,
    sequence: int,
    names: npt.NDArray[np.bytes_],
    held_since: npt.NDArray[np.int64],
) -> None:
    """
    Write how many links of a run held after each run before. names: of its links, S32[N].
    held_since: the run from which on each has been among the links, at least; int64[N].
    """
    start = max(1, sequence - _BACK)
    steps = np.bincount(np.maximum(held_since, start) - start, minlength=sequence - start + 1)
    ordered: npt.NDArray[np.bytes_] | None = None
    c = link.c
    earlier = select(c.left_pseudonym, c.right_pseudonym, c.since, c.until).where(
        c.study_id == study_id, c.until > start, c.until < sequence
    )
    # A link that was lost and found again holds in a run before through another row.
    for rows in bulk.read(connection, earlier):
        ordered = np.sort(names) if ordered is None else ordered
        left, right, since, until = zip(*rows, strict=True)
        again = find_in(ordered, _joined(bulk.matrix(left), bulk.matrix(right))) >= 0
        spans = np.array([since, until], np.int64)[:, again]
        np.add.at(steps, np.maximum(spans[0], start) - start, 1)
        np.subtract.at(steps, spans[1] - start, 1)
    columns: dict[str, bulk.Column] = {
        "study_id": study_id,
        "second": sequence,
        "first": np.arange(start, sequence + 1),
        "links": np.cumsum(steps),
    }
    bulk.insert(connection, links_in_common, len(steps), columns)


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
    return _joined(links.left, links.right)


def _joined(left: Bytes2D, right: Bytes2D) -> npt.NDArray[np.bytes_]:
    """Return one name a link: S32[N]; see linkage.matching.identity for its zero bytes."""
    both = np.ascontiguousarray(np.concatenate([left, right], axis=1))
    return both.view("S32").reshape(len(left))
