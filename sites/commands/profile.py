"""`linkage-site profile`: what is missing, wrong or odd in a source, before anything is encoded."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sites.terminal import Steps, out, show, told
from sites.workers import no_core_dumps

if TYPE_CHECKING:
    from linkage.study import StudyConfig
    from sites.config import SiteConfig
    from sites.profile import ProfilePlan

PAGE, DATA = "profile.html", "profile.json"


@told
def profile(
    site: Annotated[Path, typer.Option("--site", help="The site file.")] = Path("site.toml"),
    study: Annotated[
        Path | None,
        typer.Option(help="A study file or signed study; default: the one in the private folder."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for a page with plots, and the JSON.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and say; read and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what is missing, wrong or odd in this site's records, and what that costs in links."""
    from sites.config import load_site
    from sites.profile import plan_profile, profile_source
    from sites.profiling.page import save_profile
    from sites.profiling.screen import print_profile

    no_core_dumps()
    config = load_site(site)
    wanted = _study(config, study)
    if dry_run:
        _would(plan_profile(config.source, config.party, wanted), wanted, folder, as_json)
        return
    with Steps(quiet=as_json) as steps:
        report = profile_source(
            config.source,
            party=config.party,
            study=wanted,
            today=dt.date.today(),
            progress=steps.step,
        )
    if folder:
        save_profile(report, folder)
    if as_json:
        show("", {}, as_json=True, data=report.as_json())
        return
    print_profile(report, out)
    if folder:
        show("Written", {"page": folder / PAGE, "data": folder / DATA})


def _study(config: SiteConfig, study: Path | None) -> StudyConfig | None:
    """Return the study to measure against: a file, else the signed one here, else none."""
    from linkage.signed_study import load_signed_study
    from linkage.study import load_study
    from sites.vault import Vault

    trusted = config.broker.custodian if config.broker else None
    if study and study.suffix == ".json":
        return load_signed_study(study, custodian_fingerprint=trusted).study
    if study:
        return load_study(study)
    vault = Vault(config.private, config.keys)
    return vault.signed_study(trusted).study if vault.signed_study_file.exists() else None


def _would(
    plan: ProfilePlan, study: StudyConfig | None, folder: Path | None, as_json: bool
) -> None:
    rows: dict[str, object] = {
        "source": plan.source.name,
        "fields": ", ".join(plan.fields),
        "subgroups": ", ".join(plan.subgroups) or "none",
        "study": study.study.id if study else "none: nothing would be said about links",
        "would write": f"{folder / PAGE}, {folder / DATA}" if folder else "nothing",
    }
    show("Nothing is read or written (--dry-run)", rows, as_json=as_json)
