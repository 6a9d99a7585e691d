"""
`linkage-site counts, counted, accept-forgotten, join`: the enclave's part in cohort questions and
deliveries.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sites.terminal import DryRun, show, told, would

if TYPE_CHECKING:
    from sites.session import Session

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
Question = Annotated[str, typer.Argument(help="The question's ID.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@told
def counts(
    question: Question,
    site: SiteFile = Path("site.toml"),
    out: Annotated[Path | None, typer.Option(help="A JSON file to write.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Enclave: count the persons of a question, with small cells suppressed."""
    from sites.enclave import count
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            would("count", _asked(session, question), as_json=as_json)
            return
        found = count(session, question)
    if out:
        out.write_text(json.dumps(found.to_json(), indent=1), encoding="utf-8")
    rows: dict[str, object] = dict(found.attrition)
    show(f"Persons: {found.persons}", rows, as_json=as_json, data=found.to_json())


@told
def counted(
    site: SiteFile = Path("site.toml"), dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Enclave: list the questions that were counted here, and what was shown of them."""
    from sites import forgotten
    from sites.count_ledger import ledger_of, listed
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            folder = session.vault.folder / "kept" / "counts"
            would("list the ledger of counts", {"folder": folder}, as_json=as_json)
            return
        rows = listed(ledger_of(session)) + forgotten.listed(session)
    if as_json or not rows:
        show("No question was counted here yet", {}, as_json=as_json, data=rows)
    for one in [] if as_json else rows:
        show(one.pop("question"), one)


@told
def accept_forgotten(
    site: SiteFile = Path("site.toml"), dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Enclave: go on counting though answers are lost; what can be is entered again first."""
    from sites.enclave import enter
    from sites.forgotten import accept, forgotten
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            missing: dict[str, object] = {
                one.subject: one.question.title for one in forgotten(session)
            }
            would("enter again, or accept as lost", missing, as_json=as_json)
            return
        lost: dict[str, object] = {one.subject: one.why for one in accept(session, enter)}
    lost = lost or {"nothing is lost": "all was entered again"}
    show("Accepted: counting goes on", lost, as_json=as_json)


@told
def join(
    question: Question,
    out: Annotated[Path, typer.Option(help="A new folder for the cohort.")],
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Enclave: build the approved cohort: OMOP, image_occurrence, image manifest, report."""
    from sites.enclave import join as build
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            rows = {**_asked(session, question), "folder": out}
            would("join", rows, as_json=as_json)
            return
        made = build(session, question, out).delivery
    rows = {
        "persons": f"{made.persons:,}",
        "imaging studies": f"{made.studies:,}",
        "image rows": f"{made.series:,}",
        **{f"lost: {why}": f"{lost:,}" for why, lost in made.lost.items()},
        "folder": made.folder,
    }
    show("Cohort delivered", rows, as_json=as_json, data=made.report)


def _asked(session: Session, question: str) -> dict[str, object]:
    state = session.broker.question(session.study_id, question)
    return {"question": state.question_id, "title": state.title, "state": state.state}
