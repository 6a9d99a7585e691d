"""
A release arrives: open the crosswalk and write one cross-commons ID for every record.
"""

from __future__ import annotations

import csv
from pathlib import Path

from linkage import idtables
from linkage.errors import NotFound, PackageRefused
from linkage.messages import CROSSWALK
from linkage.pseudonyms import format_id
from sites import casemaps
from sites.private_file import private_file
from sites.session import Session


def fetch_ids(session: Session, release: str = "") -> dict[str, str]:
    """
    Return the cross-commons ID of every record id, from `release` or else the newest one.

    Raises NotFound where there is none yet, PackageRefused where it is not for these records.
    """
    try:
        _, opened = session.receive(CROSSWALK, subject=release)
    except NotFound as fault:
        said = f"release {release!r} holds no IDs" if release else "no IDs are released yet"
        raise NotFound(f"{said} for {session.party!r}", hint=fault.hint) from None
    table = idtables.unpack(opened, idtables.CROSSWALK)
    record_ids = casemaps.covering(session, table["record_pseudonym"])
    found = {
        record_ids.get(pseudonym.tobytes(), ""): format_id(raw.tobytes())
        for pseudonym, raw in zip(table["record_pseudonym"], table["cross_commons_id"], strict=True)
    }
    if "" in found or len(found) != len(record_ids):
        raise PackageRefused(
            "the release does not cover exactly the records of the newest dataset version",
            hint="ask the broker admin for a release of a run over your newest upload",
        )
    return found


def write_ids(ids: dict[str, str], path: Path) -> None:
    """
    Write `record_id,cross_commons_id` rows, ordered by record id, in one rename.

    The file says who is whom: only its owner can read it.
    """
    with private_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(("record_id", "cross_commons_id"))
        writer.writerows(sorted(ids.items()))
