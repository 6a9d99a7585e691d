"""`linkage-site check-omop`: whether the enclave's OMOP tables can answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkage.errors import SiteRefused
from sites.terminal import DryRun, show, told, would


@told
def check_omop(
    site: Annotated[Path, typer.Option("--site", help="The site file.")] = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Enclave: say which OMOP tables and index events criteria can use. Nothing leaves."""
    from sites.cohort.omop import OmopSource
    from sites.cohort.omop_check import check
    from sites.config import load_site

    config = load_site(site).omop
    if config is None:
        raise SiteRefused(
            file=str(site),
            line=0,
            key="omop",
            rule="is missing",
            hint='only the enclave has it: [omop] with path = "omop", or url_env for PostgreSQL',
        )
    if dry_run:
        would("look at the OMOP tables", {"site file": site}, as_json=as_json)
        return
    with OmopSource.open(config) as source:
        found = check(source)
    rows: dict[str, object] = {**found.tables}
    rows |= {f"index event {name!r}": said for name, said in found.index_events.items()}
    rows |= {f"note {n}": note for n, note in enumerate(found.notes, start=1)}
    show("OMOP tables", rows, as_json=as_json, data=found.to_json())
    if not found.usable:
        raise typer.Exit(4)  # as for a source that cannot be read
