"""`linkage-site assert`: what a steward knows of single records, sealed to the broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sites.terminal import DryRun, show, told, would

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs; also the token of each row.")]


@told
def assert_(
    file: Annotated[Path, typer.Argument(help="CSV: record_id, assertion_id, verdict.")],
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send which of your records are, or are not, one person with another party's."""
    from sites.asserting import next_number, prepare, send
    from sites.session import require_tokenizer, session_of

    with session_of(site) as session:
        require_tokenizer(session.site, session.signed.study, site)
        made = prepare(session, file)
        rows: dict[str, object] = dict(made.counts)
        data = {**rows, "tokens": made.tokens}
        if dry_run:
            would("send the assertion list", data if as_json else rows, as_json=as_json)
            return
        sent = send(session, made.made, next_number(session))
    rows = {"list": sent.number, **rows}
    rows["counts"] = "from the next run on, where the other party asserts it too"
    show("Asserted", rows, as_json=as_json, data={"list": sent.number, **data})
