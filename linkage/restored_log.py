"""
A broker's log that goes on from a backup: where it was restored, and which heads it kept.

    found = restoration(Path("log.jsonl"), signer, entry=4711, digest="3f...")

What came after the backup is gone, and whoever kept heads of it sees a log that was cut off. The
admin tells number and hash of the entry that says so by telephone; whoever compares them with an
export knows that this is that log, and that it owns up to the loss.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from linkage.audit_chain import AuditHead, parse_head, verify_export
from linkage.errors import HistoryAltered
from linkage.sealing import PublicIdentity

ACTION = "restored from backup"


@dataclass(frozen=True, slots=True)
class Restoration:
    """
    kept: how many heads the backup had; later ones of before are lost. made_at: of the backup, as
    the log says. heads: all of the export, from the first.
    """

    entry: int
    kept: int
    made_at: str
    heads: tuple[AuditHead, ...]


def restoration(path: Path, signer: PublicIdentity, *, entry: int, digest: str) -> Restoration:
    """
    Verify an export of the log and return what its entry number `entry` says of a restoration.

    Raises SourceRefused for what is no export, HistoryAltered for one that does not verify, or
    whose entry is another than the one whose hash `digest` was told.
    """
    verify_export(path, signer)
    number, told, heads = 0, "", list[AuditHead]()
    # Line by line, as it was verified: a log of ten years is large.
    with path.open("rb") as file:
        for at, line in enumerate((raw[:-1] for raw in file), start=1):
            if line.startswith(b'{"head":'):
                heads.append(parse_head(line[8:-1], f"{path.name}, line {at}"))
            elif line.startswith(b'{"entry":'):
                number += 1
                if number == entry and line[-66:-2].decode() == digest:
                    told = line[9:-75].decode()
    said = json.loads(told) if told else {}
    if said.get("action") != ACTION:
        raise HistoryAltered(
            f"entry {entry} of {path.name} does not say, under that hash, that the broker was"
            " restored from a backup",
            hint="compare number and hash with the broker's admin by telephone; the export must be"
            " younger than the restoration",
        )
    detail = said["detail"]
    return Restoration(entry, int(detail["heads"]), str(detail["backup made at"]), tuple(heads))
