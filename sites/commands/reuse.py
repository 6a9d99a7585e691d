"""`linkage-site performance, refresh`: what a delivered cohort is used for again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sites.terminal import DryRun, show, told, would

if TYPE_CHECKING:
    from sites.vault import Vault

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
_SITE = Path("site.toml")
Cohort = Annotated[Path, typer.Option("--cohort", help="The delivered folder.")]


@told
def performance(
    predictions: Annotated[Path, typer.Argument(help="CSV: cohort_id,score,label.")],
    cohort: Cohort,
    threshold: Annotated[float, typer.Option(help="A score from here on is a finding.")] = 0.5,
    out: Annotated[Path | None, typer.Option(help="An HTML page to write.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    site: Annotated[
        Path, typer.Option("--site", help="The enclave's site file: is the cohort still in use?")
    ] = _SITE,
) -> None:
    """Enclave: how well a model predicts in a delivered cohort, by subgroup, suppressed."""
    from sites.cohort.performance import performance as measure
    from sites.cohort.performance import read_predictions
    from sites.cohort.performance_page import performance_page, summary
    from sites.cohort.saved import open_saved
    from sites.ended import known_state, require_in_use

    saved, vault = open_saved(cohort), known_state(site, default=_SITE)
    require_in_use(saved.report, vault)
    read = read_predictions(predictions, saved)
    if dry_run:
        would("measure", {"cohort": cohort, "threshold": threshold}, as_json=as_json)
        return
    found = measure(saved, read, threshold=threshold)
    if out:
        out.write_text(performance_page(found), encoding="utf-8")
        out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    rows = summary(found) | ({"page": out} if out else {}) | _checked(vault)
    show("Performance by subgroup", rows, as_json=as_json, data=found)


def _checked(vault: Vault | None) -> dict[str, object]:
    if vault is not None:
        return {}
    return {"NOT checked": "whether the cohort was revoked: name the enclave's --site"}


@told
def refresh(
    question: Annotated[str, typer.Argument(help="The newer question's ID.")],
    cohort: Annotated[Path, typer.Option("--cohort", help="The earlier delivered folder.")],
    out: Annotated[Path, typer.Option(help="A new folder for the refreshed cohort.")],
    site: Annotated[Path, typer.Option("--site", help="The site file.")] = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Enclave: join a newer delivery of a saved cohort, and tell what changed, suppressed."""
    from sites.cohort.refreshed import why_hidden
    from sites.cohort.saved import open_saved
    from sites.refreshing import check
    from sites.refreshing import refresh as join_newer
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            check(session, open_saved(cohort), question)
            would("refresh", {"question": question, "folder": out}, as_json=as_json)
            return
        found = join_newer(session, cohort, question, out).told
    rows = {
        "persons now": found["after"]["persons"],
        "new": found["new"],
        "gone": found["gone"],
        "in both": found["in_both"],
        **({"why hidden": why} if (why := why_hidden(found)) else {}),
        "folder": out,
    }
    show("Cohort refreshed", rows, as_json=as_json, data=found)
