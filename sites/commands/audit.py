"""`linkage-site audit`: what the broker's audit log showed this site."""

from __future__ import annotations

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

    with session_of(site) as session:
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
