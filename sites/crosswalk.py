"""
A release arrives: open the crosswalk and write one cross-commons ID for every record.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from linkage.errors import NotFound, PackageRefused
from linkage.idtables import CROSSWALK as COLUMNS
from linkage.idtables import unpack
from linkage.messages import BROKER, CROSSWALK
from linkage.pseudonyms import format_id
from linkage.sealing import Context, unseal
from linkage.signed_study import SignedStudy
from sites.client import BrokerClient
from sites.vault import Vault


def fetch_ids(
    broker: BrokerClient, signed: SignedStudy, party: str, vault: Vault, release: str = ""
) -> dict[str, str]:
    """
    Return the cross-commons ID of every record id, from `release` or else the newest one.

    Raises NotFound where there is none yet, PackageRefused where it is not for this party.
    """
    study = signed.study.study.id
    waiting = broker.inbox(study, purpose=CROSSWALK, subject=release)
    if not waiting:
        raise NotFound(
            "no release for this party is waiting at the broker",
            hint="the broker admin releases IDs to the parties that the study file names",
        )
    item = waiting[-1]
    context = Context(study, BROKER, party, CROSSWALK, (item.subject,))
    opened = unseal(
        broker.fetch(study, item),
        sender=signed.pin(BROKER),
        recipient=vault.identity(),
        context=context,
    )
    table = unpack(opened, COLUMNS)
    record_ids = vault.load_map(vault.newest_dataset())
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
    """Write `record_id,cross_commons_id` rows, ordered by record id, in one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.making")
    with making.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("record_id", "cross_commons_id"))
        writer.writerows(sorted(ids.items()))
    os.replace(making, path)
