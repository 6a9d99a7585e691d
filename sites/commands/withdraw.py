"""`linkage-site withdraw`: records, or all of this site's data, that are to be linked no more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkage.errors import SourceRefused
from sites.terminal import DryRun, show, told, would

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


_SLIP = "--take-back takes them off; such a record stays out whenever it comes"


@told
def withdraw(
    file: Annotated[
        Path | None, typer.Argument(help="CSV with one column, record_id.", show_default=False)
    ] = None,
    site: SiteFile = Path("site.toml"),
    take_back: Annotated[
        bool, typer.Option("--take-back", help="They are withdrawn no longer.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option("--everything", help="Delete this site's dataset versions at the broker."),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Leave records out from the next dataset version on; or take back everything at once."""
    if (file is None) != everything or (everything and take_back):
        raise SourceRefused(
            file="withdraw",
            rule="needs a list of record ids, or --everything alone",
            hint="linkage-site withdraw withdrawn.csv",
        )
    if file is None:
        _everything(site, dry_run=dry_run, as_json=as_json)
        return
    from sites.config import load_site
    from sites.session import require_tokenizer, trusted_study
    from sites.withdrawal import change, not_found, read_record_ids

    config = load_site(site)
    vault, signed = trusted_study(config)
    require_tokenizer(config, signed.study, site)
    record_ids = read_record_ids(file)
    strange = [] if take_back else not_found(vault, record_ids)
    done = change(vault, record_ids, take_back=take_back, keep=not dry_run)
    rows: dict[str, object] = {
        "record ids in the list": done.named,
        "not so before": done.changed,
        "withdrawn in all": done.all,
    }
    if strange:
        first = f"first in row {strange[0]}"
        rows["OF NO RECORD HERE"] = f"{len(strange):,}, {first}: mistyped? {_SLIP}"
    data = {
        "named": done.named,
        "changed": done.changed,
        "withdrawn": done.all,
        "not_found": len(strange),
    }
    if dry_run:
        would("take back the withdrawal" if take_back else "withdraw", rows, as_json=as_json)
        return
    rows["next"] = "linkage-site tokenize --delta, linkage-site submit"
    show("No longer withdrawn" if take_back else "Withdrawn", rows, as_json=as_json, data=data)


def _everything(site: Path, *, dry_run: bool, as_json: bool) -> None:
    from sites.session import require_tokenizer, session_of
    from sites.withdrawal import everything

    with session_of(site, expired_too=True) as session:
        require_tokenizer(session.site, session.signed.study, site)
        rows: dict[str, object] = {"from": session.broker.url, "uploader": session.uploader}
        if dry_run:
            would("take back every dataset version", rows, as_json=as_json)
            return
        gone = session.broker.withdraw_datasets(everything(session))
    rows["dataset versions"] = len(gone)
    rows["released before"] = "stays released; tell the broker's admin to start a run"
    data = {"withdrawn": [one.dataset for one in gone]}
    show("Everything is withdrawn", rows, as_json=as_json, data=data)
