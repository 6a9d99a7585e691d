"""
`linkage-site tokenize, submit, status, ids`: from a site's records to its IDs.

What is heavy to import is imported by the command that needs it, so that help answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sites.commands import summaries
from sites.terminal import DryRun, Steps, show, told, would
from sites.workers import no_core_dumps, start_early

if TYPE_CHECKING:
    from linkage.signed_study import SignedStudy
    from sites.config import SiteConfig, SourceConfig

_LARGE = 8 * 1024 * 1024
"""Bytes; about two batches of records."""

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@told
def tokenize(
    site: SiteFile = Path("site.toml"),
    dataset: Annotated[
        int | None, typer.Option(min=1, help="Dataset version; default: next.")
    ] = None,
    delta: Annotated[
        bool, typer.Option("--delta", help="Package only what differs from the newest version.")
    ] = False,
    reject_file: Annotated[
        Path | None,
        typer.Option(help="Leave bad records out and list them here, with unusable values."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Worker processes; default: one a processor.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Turn this site's records into a sealed package. Nothing leaves the machine yet."""
    no_core_dumps()
    from sites.config import load_site

    config = load_site(site)
    if not dry_run and workers != 0 and _is_large(config.source):
        start_early()
    from sites.required import require_keys
    from sites.session import require_tokenizer, trusted_study
    from sites.strata_config import marks_told
    from sites.tokenizer import tokenize as make_package

    vault, signed = trusted_study(config)
    require_tokenizer(config, signed.study, site)
    if dry_run:
        require_keys(signed, config.uploader, vault)
        _check(config, signed, quarantine=reject_file is not None, as_json=as_json)
        return
    with Steps(quiet=as_json) as steps:
        done = make_package(
            config.source,
            config.uploader,
            signed,
            vault,
            dataset=dataset,
            delta=delta,
            reject_file=reject_file,
            workers=workers,
            strata=config.strata,
            progress=steps.step,
        )
    secret = vault.keystore.where("contributor.secret")
    gate = signed.release_gate
    asked = signed.study.strata
    summaries.tell(
        done,
        reject_file,
        secret=secret,
        release_gate=gate,
        marks=marks_told(asked, asked if config.strata.send else ()),
        as_json=as_json,
    )


@told
def submit(
    site: SiteFile = Path("site.toml"),
    dataset: Annotated[
        int | None, typer.Option(min=1, help="Dataset version; default: newest.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Upload the sealed package; run it again to go on after an interruption."""
    from sites.session import require_tokenizer, session_of
    from sites.upload import check_package, submit_dataset

    with session_of(site) as session, Steps(quiet=as_json) as steps:
        require_tokenizer(session.site, session.signed.study, site)
        number = dataset or session.vault.newest_dataset()
        gate = session.signed.release_gate
        if dry_run:
            checked = check_package(session, number)
            rows = {"to": session.broker.url, **checked, "release gate": gate}
            would("upload", rows, as_json=as_json)
            return
        state = submit_dataset(
            session, number, lambda done, n: steps.step("upload MB", *_mb(done, n))
        )
    rows = {"study": state.study_id, "dataset version": state.dataset, "state": state.state}
    rows["release gate"] = gate
    later = "" if session.site.contributor else ", then linkage-site ids once IDs are released"
    show("Submitted", rows | {"next": f"linkage-site status{later}"}, as_json=as_json, data=rows)


@told
def status(
    site: SiteFile = Path("site.toml"), dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Show who has submitted, and what this site has to do."""
    from sites import releases
    from sites.second_looks import waiting_rows
    from sites.session import session_of
    from sites.upload import epoch_notice, status_rows

    with session_of(site) as session:
        if dry_run:
            would("ask", {"broker": session.broker.url, "as": session.uploader}, as_json=as_json)
            return
        state = session.broker.study(session.study_id)
        notice = epoch_notice(state, session.signed, session.uploader)
        gate, looks = session.signed.release_gate, waiting_rows(session)
        looks |= releases.waiting_rows(session)
    rows = status_rows(state) | ({"YOU": notice} if notice else {}) | looks
    rows["release gate"] = gate
    show(f"Study {state.study_id}: {state.title}", rows, as_json=as_json, data=state.model_dump())


@told
def ids(
    out: Annotated[Path, typer.Option(help="The CSV to write: record_id, cross_commons_id.")],
    site: SiteFile = Path("site.toml"),
    release: Annotated[str, typer.Option(help="Release; default: the newest.")] = "",
    pinned: Annotated[
        bool, typer.Option("--pinned", help="Also a superseded release, for work begun with it.")
    ] = False,
    methods: Annotated[
        Path | None,
        typer.Option(help="Enclave: a CSV of how IDs were linked, where stewards allowed it."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the cross-commons ID of every record, once a release includes this party."""
    from sites.crosswalk import fetch, write_ids, write_methods
    from sites.session import session_of

    with session_of(site) as session:
        found = fetch(session, release, pinned=pinned, methods=methods is not None)
    rows: dict[str, object] = {
        "release": found.release_id,
        "file": out,
        "records": len(found.ids),
    }
    if methods is not None:
        rows |= {"methods": methods, "links": len(found.methods)}
    if dry_run:
        would("write", rows, as_json=as_json)
        return
    write_ids(found.ids, out)
    if methods is not None:
        write_methods(found.methods, methods)
    show("IDs fetched", rows, as_json=as_json)


def _mb(done: int, total: int) -> tuple[int, int]:
    return done // 1_000_000, max(1, total // 1_000_000)


def _is_large(source: SourceConfig) -> bool:
    """Say whether the source is a file so large that worker processes will be wanted."""
    file = getattr(source, "file", None)
    return isinstance(file, Path) and file.is_file() and file.stat().st_size > _LARGE


def _check(config: SiteConfig, signed: SignedStudy, *, quarantine: bool, as_json: bool) -> None:
    from sites.checking import check_source
    from sites.required import require_declared
    from sites.strata import chosen_strata, columns_of
    from sites.strata_config import marks_told

    study = signed.study
    party = study.party_of_uploader(config.uploader)
    marked = chosen_strata(config.strata, config.source, study, party)
    extra = columns_of(marked, config.source)
    with Steps(quiet=as_json) as steps:
        found = check_source(
            config.source, party.fields, extra, quarantine=quarantine, progress=steps.step
        )
    require_declared(study, config.uploader, found.records)
    marks = marks_told(study.strata, [one.stratum for one in marked])
    gate = signed.release_gate
    summaries.tell_check(found, release_gate=gate, marks=marks, as_json=as_json)
