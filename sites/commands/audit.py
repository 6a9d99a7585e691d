"""`linkage-site audit, accept-restored`: what the broker's audit log showed this site."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Annotated

import typer

from sites.terminal import DryRun, show, told, would

_WAIT_SECONDS = 15.0
_POLL_SECONDS = 0.5

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@told
def audit(
    site: SiteFile = Path("site.toml"), dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Have the broker sign its audit log now; check the head against those kept here."""
    from sites.session import session_of

    with session_of(site, expired_too=True) as session:
        heads = session.heads
        if dry_run:
            kept = {"broker": session.broker.url, "heads": heads.path, "kept": heads.count()}
            would("fetch a new head", kept, as_json=as_json)
            return
        asked, before = time.time(), heads.newest()
        session.broker.wish_head(session.study_id)
        number = before.sequence if before else 0
        deadline = time.monotonic() + _WAIT_SECONDS
        # Each answer carries the newest head; the client checks and keeps it.
        while (newest := heads.newest()) is None or newest.sequence <= number:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
            session.broker.study(session.study_id)
    rows: dict[str, object] = {"heads kept": heads.count(), "file": heads.path}
    if newest is None:
        rows["CAUTION"] = "the broker has signed no head; ask its admin whether a worker runs"
    else:
        rows |= {"newest": newest.sequence, "of": newest.moment}
        rows["digest"] = newest.digest
        if newest.sequence <= number:
            minutes = max(0, round((asked - newest.at) / 60))
            rows["CAUTION"] = (
                f"the broker signed none when asked; the newest is {minutes:,} minutes old: ask its"
                " admin whether a worker runs"
            )
    show("One history so far", rows, as_json=as_json, data={k: str(v) for k, v in rows.items()})


@told
def accept_restored(
    export: Annotated[Path, typer.Argument(help="An export of the broker's audit log.")],
    entry: Annotated[int, typer.Option(help="Number of the entry 'restored from backup'.")],
    digest: Annotated[str, typer.Option("--hash", help="Its hash, as read out by telephone.")],
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a broker that was restored from a backup; the old heads are kept as evidence."""
    from linkage.messages import BROKER
    from linkage.restored_log import restoration
    from sites.config import load_site
    from sites.restored import accept
    from sites.session import kept_heads, trusted_study

    # Taking records back stays possible after the last day, and needs the broker's answers.
    vault, signed = trusted_study(load_site(site), expired_too=True)
    found = restoration(export, signed.pin(BROKER), entry=entry, digest=digest.strip().lower())
    made = accept(kept_heads(vault, signed), found, dry_run=dry_run)
    rows: dict[str, object] = {
        "backup made at": _when(found.made_at),
        "heads lost with it": made.lost,
        "heads to go on from": made.kept,
        "evidence": ", ".join(str(path) for path in made.aside),
        "next": "give the evidence to your auditor; send again what you sent since the backup",
    }
    if dry_run:
        would("accept the restored log", rows, as_json=as_json)
        return
    data = {key: str(value) for key, value in rows.items()}
    show("Accepted: one history again", rows, as_json=as_json, data=data)


def _when(at: str) -> str:
    """Return Unix seconds, as the log has them, for people; what is none of these stays."""
    if not at.isdecimal() or len(at) > 11:
        return at
    return f"{dt.datetime.fromtimestamp(int(at), dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
