"""
Going on with a broker that was restored from a backup: the old heads stay, as evidence.

A site's client stops when the log no longer holds heads that it was shown. That is right: it cannot
tell a restoration from a log that was cut off on purpose. A person can, by telephone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from linkage.audit_chain import AuditHead, read_heads
from linkage.errors import Conflict, HistoryAltered, NotFound
from linkage.restored_log import Restoration
from linkage.whole_file import write_private
from sites.audit_heads import CONFLICT, KeptHeads


@dataclass(frozen=True, slots=True)
class Accepted:
    """
    lost: heads that this site was shown and the log lacks. kept: heads that agree, or came since
    the restoration. aside: where the old files are.
    """

    lost: int
    kept: int
    aside: tuple[Path, ...]


def accept(heads: KeptHeads, told: Restoration, *, dry_run: bool = False) -> Accepted:
    """
    Put the kept heads aside, and go on with those of the restored log.

    Raises HistoryAltered where a head from before the backup is another one: then it is no
    restoration of this log. NotFound where no head is kept, Conflict where none was lost.
    """
    if not heads.path.exists():
        raise NotFound("no audit head is kept here", hint="there is nothing to accept")
    old = [one.head for one in read_heads(heads.path, heads.signer)]
    for one in old:
        if one.sequence <= told.kept and told.heads[one.sequence - 1].digest != one.digest:
            raise HistoryAltered(
                f"head {one.sequence} is older than the backup, and the log has another one",
                hint="this is not the log that was restored: keep your files, tell all parties",
            )
    both = [one for one in old if one.sequence <= len(told.heads)]
    if all(_in(told.heads, one) for one in both):
        raise Conflict(
            "as far as the export goes, every head that is kept here is in it: nothing was lost",
            hint="go on; if the client stops, ask for an export that is younger",
        )
    lost = [one for one in old if not _in(told.heads, one)]
    # Of what came before this site looked, it has no word of its own.
    goes_on = [one for one in told.heads if one.sequence >= old[0].sequence]
    aside = [
        (path, path.with_name(f"{path.stem}.until-entry-{told.entry}{path.suffix}"))
        for path in (heads.path, heads.path.with_name(CONFLICT))
        if path.exists()
    ]
    if not dry_run:
        _exchange(heads.path, aside, goes_on)
    return Accepted(len(lost), len(goes_on), tuple(new for _, new in aside))


def _in(log: tuple[AuditHead, ...], head: AuditHead) -> bool:
    return head.sequence <= len(log) and log[head.sequence - 1].digest == head.digest


def _exchange(path: Path, aside: list[tuple[Path, Path]], goes_on: list[AuditHead]) -> None:
    """First a second name for every old file: cut short anywhere, nothing is lost."""
    for old, new in aside:
        new.unlink(missing_ok=True)
        os.link(old, new)
    write_private(path, b"".join(one.canonical() + b"\n" for one in goes_on))
    for old, _ in aside:
        if old != path:
            old.unlink()
