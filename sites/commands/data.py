"""
`linkage-site init, tokenize, submit, status, ids`: from a site's records to its IDs.

What is heavy to import is imported by the command that needs it, so that help answers at once.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linkage.errors import Conflict
from sites.terminal import Steps, err, show, told

if TYPE_CHECKING:
    from sites.tokenizer import TokenizeSummary

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@told
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder for this site.")] = Path(),
) -> None:
    """Write a commented site file to start from."""
    path = folder / "site.toml"
    if path.exists():
        raise Conflict(f"{path} exists and is not overwritten", hint="choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(resources.files("sites").joinpath("site.example.toml").read_text("utf-8"))
    command = f"linkage-site keys identity {folder / 'private'} --name YOUR-PARTY-ID"
    show("Site file written", {"edit": path, "next": command})


@told
def tokenize(
    site: SiteFile = Path("site.toml"),
    dataset: Annotated[int | None, typer.Option(help="Dataset version; default: next.")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn this site's records into a sealed package. Nothing leaves the machine yet."""
    from sites.config import load_site
    from sites.tokenizer import tokenize as make_package
    from sites.vault import Vault

    config = load_site(site)
    vault = Vault(config.private)
    signed = vault.signed_study(config.broker.custodian if config.broker else None)
    with Steps(quiet=as_json) as steps:
        done = make_package(
            config.source, config.party, signed, vault, dataset=dataset, progress=steps.step
        )
    show("Tokenized", _summary(done), as_json=as_json)
    for bad in done.quarantined:
        err.print(f"quarantined: row {bad.row} {bad.field}: {bad.rule}", highlight=False)


@told
def submit(
    site: SiteFile = Path("site.toml"),
    dataset: Annotated[int | None, typer.Option(help="Dataset version; default: newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload the sealed package; run it again to go on after an interruption."""
    from sites.session import session_of
    from sites.upload import submit as upload

    with session_of(site) as session, Steps(quiet=as_json) as steps:
        package = session.vault.package(dataset or session.vault.newest_dataset())
        state = upload(package, session.broker, lambda done, n: steps.step("upload", done, n))
    rows: dict[str, object] = {"study": state.study_id, "dataset version": state.dataset}
    show("Submitted", {**rows, "state": state.state}, as_json=as_json)


@told
def status(site: SiteFile = Path("site.toml"), as_json: AsJson = False) -> None:
    """Show which parties have submitted."""
    from sites.session import session_of

    with session_of(site) as session:
        state = session.broker.study(session.study_id)
    rows: dict[str, object] = {
        one.party: f"dataset version {one.dataset}, {one.records:,} records"
        if one.records
        else "not submitted yet"
        for one in state.parties
    }
    show(f"Study {state.study_id}: {state.title}", rows, as_json=as_json, data=state.model_dump())


@told
def ids(
    out: Annotated[Path, typer.Option(help="The CSV to write: record_id, cross_commons_id.")],
    site: SiteFile = Path("site.toml"),
    release: Annotated[str, typer.Option(help="Release; default: the newest.")] = "",
    as_json: AsJson = False,
) -> None:
    """Fetch the cross-commons ID of every record, once a release includes this party."""
    from sites.crosswalk import fetch_ids, write_ids
    from sites.session import session_of

    with session_of(site) as session:
        found = fetch_ids(session, release)
    write_ids(found, out)
    show("IDs fetched", {"file": out, "records": len(found)}, as_json=as_json)


def _summary(done: TokenizeSummary) -> dict[str, object]:
    rows: dict[str, object] = {
        "dataset version": done.dataset,
        "records": f"{done.records:,}",
        "duplicates grouped": f"{done.records - done.groups:,}",
        "quarantined rows": len(done.quarantined),
        "sealed parts": done.parts,
        "package": done.package,
    }
    for field, reasons in done.nulls.items():
        if reasons:
            rows[f"no {field}"] = ", ".join(f"{n:,} {why}" for why, n in sorted(reasons.items()))
    return rows
