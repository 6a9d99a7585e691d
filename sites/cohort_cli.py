"""
`linkage-cohort`: ask for a linked cohort, decide about one, follow it.

A researcher validates and requests; a steward approves or denies; the enclave's data manager
orders the delivery. What each site then does is `linkage-site answer`, `counts` and `join`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sites.terminal import DryRun, out, show, told, would

if TYPE_CHECKING:
    from linkage.messages import QuestionState
    from sites.session import Session

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ask for a linked imaging and clinical cohort, decide about it, follow it.",
)
SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
Spec = Annotated[Path, typer.Argument(help="The cohort specification (TOML).")]
Question = Annotated[str, typer.Argument(help="The question's ID.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
@told
def validate(spec: Spec, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Check a specification and say in words what will be asked of whom. Sends nothing."""
    from sites.cohort.spec import explain, load_spec

    loaded = load_spec(spec)
    if not as_json:
        out.print(explain(loaded), markup=False, highlight=False)
    rows: dict[str, object] = {"specification hash": loaded.hash}
    if dry_run:
        rows["dry run"] = "as always: this command only checks"
    show(f"{spec} is acceptable", rows, as_json=as_json)


@app.command()
@told
def request(
    spec: Spec,
    site: SiteFile = Path("site.toml"),
    run: Annotated[str, typer.Option(help="Linkage run; default: the newest finished.")] = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Ask a cohort question through the enclave's site. Only counts can come of it."""
    from sites.cohort.spec import load_spec
    from sites.questions import request_of
    from sites.session import session_of

    asked = request_of(load_spec(spec), run)
    rows: dict[str, object] = {"specification hash": asked.spec_hash}
    with session_of(site) as session:
        if dry_run:
            would("ask", {"broker": session.broker.url, **rows}, as_json=as_json)
            return
        job = session.broker.ask_question(session.study_id, asked)
    rows = {"question": job.job_id, **rows}
    show("Question asked", rows, as_json=as_json)


@app.command()
@told
def status(
    site: SiteFile = Path("site.toml"),
    question: Annotated[str, typer.Option(help="Only this question.")] = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """List the study's questions: what is asked, of whom, who approved, what is delivered."""
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            would("ask", {"broker": session.broker.url, "as": session.uploader}, as_json=as_json)
            return
        asked = session.broker.questions(session.study_id)
        chosen = [one for one in asked if question in ("", one.question_id)]
        for one in [] if as_json else chosen:
            show(f"{one.question_id}: {one.title}", _described(one, session))
    if as_json or not chosen:
        show("No question yet", {}, as_json=as_json, data=[o.model_dump() for o in chosen])


@app.command()
@told
def approve(
    question: Question, site: SiteFile = Path("site.toml"), dry_run: DryRun = False
) -> None:
    """Steward: approve a question's delivery, signed with this party's key."""
    _decide(question, site, approved=True, dry_run=dry_run)


@app.command()
@told
def deny(question: Question, site: SiteFile = Path("site.toml"), dry_run: DryRun = False) -> None:
    """Steward: deny a question's delivery, signed with this party's key."""
    _decide(question, site, approved=False, dry_run=dry_run)


@app.command()
@told
def deliver(
    question: Question,
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Order the delivery of a question that every steward approved."""
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            about = session.broker.question(session.study_id, question)
            would("order the delivery", _described(about, session), as_json=as_json)
            return
        job = session.broker.start_delivery(session.study_id, question)
    rows: dict[str, object] = {"delivery": job.job_id, "state": job.state}
    show("Delivery ordered", rows, as_json=as_json)


def _decide(question: str, site: Path, *, approved: bool, dry_run: bool) -> None:
    from sites.questions import decide
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            about = session.broker.question(session.study_id, question)
            would("approve" if approved else "deny", _described(about, session))
            return
        about = decide(session, question, "approve" if approved else "deny")
        rows = {"question": question, "title": about.title, **_described(about, session)}
    show("Approved" if approved else "Denied", rows)


def _described(one: QuestionState, session: Session) -> dict[str, object]:
    from sites.cohort import spec

    rows: dict[str, object] = {"purpose": one.purpose, "specification hash": one.spec_hash}
    if one.imaging is not None:
        rows["asked of you"] = "; ".join(
            spec.imaging_in_words(spec.imaging_criteria(one.imaging)) or ["all images"]
        )
    if one.clinical is not None:
        rows["asked of you"] = "; ".join(
            spec.clinical_in_words(spec.clinical_criteria(one.clinical)) or ["all persons"]
        )
    decided = [f"{party}: {decision}" for party, decision in one.approvals.items()]
    rows["decisions"] = ", ".join(decided) or "none yet"
    rows["delivery"] = one.delivery_id or "not ordered"
    return rows


if __name__ == "__main__":
    app()
