"""
A release arrives: open the crosswalk and write one cross-commons ID for every record; and, at an
enclave to which the stewards allowed it, how each ID was linked.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from linkage import idtables
from linkage.errors import NotFound, PackageRefused
from linkage.matching.links import TIERS
from linkage.messages import CROSSWALK, LINK_METHODS
from linkage.pseudonyms import format_ids
from sites import casemaps
from sites.private_file import private_file
from sites.releases import usable
from sites.session import Session


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fetched:
    """A release's IDs. ids: by record id. methods: (ID, method, tier, model), where they came."""

    release_id: str
    ids: dict[str, str]
    methods: list[tuple[str, str, str, int]]


def fetch_ids(session: Session, release: str = "", *, pinned: bool = False) -> dict[str, str]:
    """Return the cross-commons ID of every record id; see `fetch`."""
    return fetch(session, release, pinned=pinned).ids


def fetch(
    session: Session, release: str = "", *, pinned: bool = False, methods: bool = False
) -> Fetched:
    """
    Return the cross-commons ID of every record id, from `release` or else the newest one.

    pinned: also from a superseded one. methods: also how each was linked. Raises as `usable`, and
    PackageRefused where it is not for these records.
    """
    session.require_commons()
    state = usable(session, release, pinned=pinned)
    _, opened = session.receive(CROSSWALK, subject=state.release_id)
    table = idtables.unpack(opened, idtables.CROSSWALK)
    record_ids = casemaps.covering(session, table["record_pseudonym"])
    found = {
        record_ids.get(pseudonym.tobytes(), ""): one
        for pseudonym, one in zip(
            table["record_pseudonym"], format_ids(table["cross_commons_id"]), strict=True
        )
    }
    if "" in found or len(found) != len(record_ids):
        raise PackageRefused(
            "the release does not cover exactly the records of the newest dataset version",
            hint="ask the broker admin for a release of a run over your newest upload",
        )
    return Fetched(state.release_id, found, _methods(session, state.release_id) if methods else [])


def _methods(session: Session, release_id: str) -> list[tuple[str, str, str, int]]:
    try:
        _, opened = session.receive(LINK_METHODS, subject=release_id)
    except NotFound:
        raise NotFound(
            f"{release_id} does not say how IDs were linked",
            hint="the broker's admin asks for it (`release start --methods`), where the signed"
            " study has release_methods = true and every steward consents",
        ) from None
    table, tiers = idtables.unpack(opened, idtables.LINK_METHODS), tuple(TIERS)
    rows = []
    for one, tier, model in zip(
        format_ids(table["cross_commons_id"]), table["tier"], table["model"], strict=True
    ):
        if tier[0] >= len(tiers):
            raise PackageRefused(
                "a link has a tier that this software does not know",
                hint="both sides need the same software version",
            )
        name = tiers[tier[0]]
        rows.append((one, TIERS[name], name, int.from_bytes(model.tobytes(), "big")))
    return rows


def write_ids(ids: dict[str, str], path: Path) -> None:
    """
    Write `record_id,cross_commons_id` rows, ordered by record id, in one rename.

    The file says who is whom: only its owner can read it.
    """
    _write(path, ("record_id", "cross_commons_id"), sorted(ids.items()))


def write_methods(rows: list[tuple[str, str, str, int]], path: Path) -> None:
    """Write `cross_commons_id,method,tier,model` rows, ordered; only its owner can read them."""
    _write(path, ("cross_commons_id", "method", "tier", "model"), sorted(rows))


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with private_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
