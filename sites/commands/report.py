"""
`linkage-cohort share-report, report`: the report of a delivered cohort, out of the enclave.

The enclave's data manager shares it, after reading all that leaves; the researcher reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sites.terminal import DryRun, show, told

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
Question = Annotated[str, typer.Argument(help="The question's ID.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Folder = Annotated[Path, typer.Option("--folder", help="Where your questions' keys are kept.")]
Cohort = Annotated[
    Path | None, typer.Option("--cohort", help="The cohort's folder; default: the agent's.")
]


@told
def share_report(
    question: Question,
    site: SiteFile = Path("site.toml"),
    cohort: Cohort = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Enclave: share a delivered cohort's report with the researcher; --dry-run shows all of it."""
    from sites.report_words import report_in_words
    from sites.session import session_of
    from sites.sharing import preview, share

    with session_of(site) as session:
        if dry_run:
            report, title = preview(session, question, cohort), "Dry run: all that would leave"
        else:
            made = share(session, question, cohort)
            report = made.report
            title = "Shared with the researcher" if made.new else "Was shared before; it stands"
    show(title, report_in_words(report), as_json=as_json, data=report)


@told
def report(
    question: Question,
    site: SiteFile = Path("site.toml"),
    folder: Folder = Path("questions"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Researcher: read the report of a delivered cohort, with the question's reading key."""
    from sites.report_words import report_in_words
    from sites.session import session_of
    from sites.sharing import read_report
    from sites.terminal import would

    with session_of(site) as session:
        if dry_run:
            would("fetch a report", {"question": question, "folder": folder}, as_json=as_json)
            return
        found = read_report(session, question, folder)
    show(str(found["title"]), report_in_words(found), as_json=as_json, data=found)


def register(app: typer.Typer) -> None:
    """Add these commands to `linkage-cohort`."""
    app.command("share-report")(share_report)
    app.command("report")(report)
