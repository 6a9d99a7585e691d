"""`linkage-site export`: IDs in the layouts of other systems, with a warning before each."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sites.terminal import DryRun, err, show, told, would

if TYPE_CHECKING:
    from sites.exports import Exported

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@told
def export(
    kind: Annotated[
        str,
        typer.Option("--format", help="token-record-id, linked-external-data or gen3-crosswalk."),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    site: SiteFile = Path("site.toml"),
    discloses: Annotated[
        str, typer.Option(help="What it gives away, in the word that its warning names.")
    ] = "",
    release: Annotated[str, typer.Option(help="Release; default: the newest.")] = "",
    pinned: Annotated[bool, typer.Option("--pinned", help="Also a superseded release.")] = False,
    others: Annotated[
        list[str] | None,
        typer.Option("--with", help="NAME=FILE: another party's list of IDs; repeat."),
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="Case formats: datasets.submitter_id of all these cases.")
    ] = "",
    column: Annotated[
        str, typer.Option(help="gen3-crosswalk: your own ids, as commons_url|type|name.")
    ] = "",
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Only list what was exported here.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write IDs as another system wants them. Each format gives something away and says what."""
    if ledger:
        _show_ledger(site, as_json=as_json)
        return
    from linkage.errors import SiteRefused
    from sites import exports
    from sites.crosswalk import fetch
    from sites.session import session_of

    exports.require_told(kind, discloses)
    if out is None:
        raise SiteRefused(
            file="export", line=0, key="--out", rule="is missing", hint="name the file to write"
        )
    lists = [exports.read_other(one, records=kind == "gen3-crosswalk") for one in others or ()]
    with session_of(site) as session:
        found = fetch(session, release, pinned=pinned)
        if kind == "token-record-id":
            rows = exports.token_record_id(found.ids, dataset=dataset)
        elif kind == "linked-external-data":
            rows = exports.linked_external_data(found.ids, lists, dataset=dataset)
        else:
            rows = exports.gen3_crosswalk(found.ids, column, lists)
        done = exports.exported(kind, found.release_id, out, rows, lists)
        said: dict[str, object] = {
            "release": found.release_id,
            "file": out,
            "records": len(found.ids),
            "rows": done.rows,
            "gives away": exports.DISCLOSES[kind][1],
        }
        if lists and not done.rows:
            said["none in common"] = "is the other list of the same release?"
        if dry_run:
            would("write", said, as_json=as_json)
            return
        # First the note: nothing leaves unrecorded.
        exports.note(session.vault, done)
        exports.write(rows, out, tabs=kind != "gen3-crosswalk")
    if kind != "gen3-crosswalk" and not dataset and not as_json:
        err.print("Gen3 wants datasets.submitter_id with each case: --dataset, or add the column.")
    show("Exported", said, as_json=as_json)


def _show_ledger(site: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from sites import exports
    from sites.config import load_site
    from sites.session import trusted_study

    vault, _ = trusted_study(load_site(site))
    lines = exports.ledger(vault)
    rows: dict[str, object] = {f"{n}.": _told(one) for n, one in enumerate(lines, start=1)}
    data = [asdict(one) for one in lines]
    show(
        "Exported here" if lines else "Nothing was exported here", rows, as_json=as_json, data=data
    )


def _told(one: Exported) -> str:
    when = f"{dt.datetime.fromtimestamp(one.at, dt.UTC):%Y-%m-%d %H:%M} UTC"
    said = f"{when}  {one.format}, {one.rows:,} rows of {one.release} to {one.file}"
    return said + (f", compared with {', '.join(one.others)}" if one.others else "")
