"""
`linkage-cohort request, status, show, counts, ask, answer, approve, deny, revoke, deliver`.

A researcher asks, reads counts and answers stewards; a steward reads, asks back and decides; the
enclave's data manager orders the delivery.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sites.terminal import DryRun, show, told, would

if TYPE_CHECKING:
    from linkage.messages import Decision, QuestionState
    from sites.session import Session

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
Spec = Annotated[Path, typer.Argument(help="The cohort specification (TOML or JSON).")]
Question = Annotated[str, typer.Argument(help="The question's ID.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Folder = Annotated[Path, typer.Option("--folder", help="Where your questions' keys are kept.")]
Text = Annotated[str, typer.Argument(help="What you want to say; nothing about a person.")]
_FOLDER = Path("questions")


@told
def request(
    spec: Spec,
    site: SiteFile = Path("site.toml"),
    run: Annotated[str, typer.Option(help="Linkage run; default: the newest finished.")] = "",
    expires: Annotated[
        str, typer.Option(metavar="DATE", help="Last day, UTC; default: in 180 days.")
    ] = "",
    folder: Folder = _FOLDER,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Ask a cohort question through the enclave's site. Only counts can come of it."""
    from linkage.cohort.spec import load_spec
    from sites.asking import ask, last_day, require_date
    from sites.session import session_of

    asked, until = load_spec(spec), require_date(expires)
    with session_of(site) as session:
        until = until or last_day(session).isoformat()
        if dry_run:
            rows: dict[str, object] = {"broker": session.broker.url, "until": until}
            would("ask", {**rows, "specification fingerprint": asked.hash}, as_json=as_json)
            return
        made = ask(session, asked, run, folder=folder, expires=until)
    rows = {
        "question": made.job.job_id,
        "hash for the stewards": made.request.spec_hash,
        "until": until,
        "reading key": made.key_file,
        "next": f"linkage-cohort counts {made.job.job_id} --site {site} --folder {folder}",
    }
    show("Question asked", rows, as_json=as_json)


@told
def status(
    site: SiteFile = Path("site.toml"),
    question: Annotated[str, typer.Option(help="Only this question.")] = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """List the study's questions: why, until when, who decided, what each waits for."""
    from sites.ended import remember_ended
    from sites.question_words import summary
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            would("ask", {"broker": session.broker.url, "as": session.uploader}, as_json=as_json)
            return
        asked = session.broker.questions(session.study_id)
        for one in asked:
            remember_ended(session, one)
        chosen = [one for one in asked if question in ("", one.question_id)]
        for one in [] if as_json else chosen:
            show(f"{one.question_id}: {one.title}", summary(one, session))
    if as_json or not chosen:
        data = [one.model_dump(mode="json") for one in chosen]
        show("No question yet", {}, as_json=as_json, data=data)


@told
def show_question(
    question: Question,
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Steward: all that a decision needs: purpose, variables, counts, expiry, who said what."""
    from sites import question_words as words
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            would("read", {"broker": session.broker.url, "question": question}, as_json=as_json)
            return
        one = session.broker.question(session.study_id, question)
        said = session.broker.remarks(session.study_id, question)
        counts = _counts_here(session, one)
        if as_json:
            content = {
                "question": one.model_dump(mode="json"),
                "counts": counts,
                "remarks": [state.model_dump(mode="json") for state in said],
            }
            typer.echo(json.dumps(content, indent=1))
            return
        show(f"{one.question_id}: {one.title}", words.head(one, session))
        show("What would leave whom", words.leaving(one, session))
        if counts is not None:
            show("Counts, suppressed by the enclave", words.counts_in_words(counts))
        show("Decisions", words.decisions(one, session))
        if said:
            show("Asked back", words.remarks(said, one, session))
        if rows := words.commands(one, session, site):
            show("What you can do", rows)


@told
def counts(
    question: Question,
    site: SiteFile = Path("site.toml"),
    folder: Folder = _FOLDER,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Researcher: read the suppressed counts of a question, with its reading key."""
    from sites.asking import read_counts
    from sites.question_words import counts_in_words
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            would("fetch counts", {"question": question, "folder": folder}, as_json=as_json)
            return
        found = read_counts(session, question, folder)
    show(f"Persons: {found['persons']}", counts_in_words(found), as_json=as_json, data=found)


@told
def ask(
    question: Question, text: Text, site: SiteFile = Path("site.toml"), dry_run: DryRun = False
) -> None:
    """Steward: ask the researcher something before you decide, signed with this party's key."""
    from sites.questions import ask_back
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            would("ask back", {"question": question, "text": text})
            return
        said = ask_back(session, question, text)
        _said("Asked back", said, session, question)


@told
def answer(
    question: Question,
    number: Annotated[int, typer.Argument(min=1, help="Which question back you answer.")],
    text: Text,
    site: SiteFile = Path("site.toml"),
    folder: Folder = _FOLDER,
    dry_run: DryRun = False,
) -> None:
    """Researcher: answer what a steward asked back, signed with the question's reading key."""
    from sites.asking import answer_back
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            would("answer", {"question": question, "number": number, "text": text})
            return
        said = answer_back(session, question, number, text, folder)
        _said("Answered", said, session, question)


@told
def approve(
    question: Question,
    site: SiteFile = Path("site.toml"),
    until: Annotated[str, typer.Option(metavar="DATE", help="Last day of your approval.")] = "",
    dry_run: DryRun = False,
) -> None:
    """Steward: approve a question's delivery, signed with this party's key."""
    _decide(question, site, "approve", until=until, dry_run=dry_run)


@told
def deny(question: Question, site: SiteFile = Path("site.toml"), dry_run: DryRun = False) -> None:
    """Steward: deny a question, signed with this party's key."""
    _decide(question, site, "deny", dry_run=dry_run)


@told
def revoke(question: Question, site: SiteFile = Path("site.toml"), dry_run: DryRun = False) -> None:
    """Steward: take an approval back; also after the delivery, which nobody then uses any more."""
    _decide(question, site, "revoke", dry_run=dry_run)


@told
def deliver(
    question: Question,
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Order the delivery of a question that every steward approved."""
    from sites.question_words import head
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            about = session.broker.question(session.study_id, question)
            would("order the delivery", head(about, session), as_json=as_json)
            return
        job = session.broker.start_delivery(session.study_id, question)
    rows: dict[str, object] = {"delivery": job.job_id, "state": job.state}
    show("Delivery ordered", rows, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add these commands to `linkage-cohort`."""
    for command in (request, status):
        app.command()(command)
    app.command("show")(show_question)
    for other in (counts, ask, answer, approve, deny, revoke, deliver):
        app.command()(other)


def _decide(
    question: str, site: Path, decision: Decision, *, until: str = "", dry_run: bool
) -> None:
    from sites.asking import require_date
    from sites.question_words import decisions, head
    from sites.questions import decide
    from sites.session import session_of

    until = require_date(until)
    with session_of(site, expired_too=decision != "approve") as session:
        about = session.broker.question(session.study_id, question)
        if dry_run:
            would(decision, head(about, session))
            return
        decide(session, question, decision, expires=until)
        about = session.broker.question(session.study_id, question)
        rows: dict[str, object] = {"question": question, "title": about.title}
        rows |= decisions(about, session) | {"now": head(about, session)["now"]}
    show({"approve": "Approved", "deny": "Denied", "revoke": "Revoked"}[decision], rows)


def _counts_here(session: Session, one: QuestionState) -> dict[str, Any] | None:
    """Return the counts that came to this party, or that it made; None where there are none."""
    from sites.counted import counts_for_steward, own_counts

    return own_counts(session, one) or counts_for_steward(session, one)


def _said(title: str, said: list[Any], session: Session, question: str) -> None:
    from sites.question_words import remarks

    one = session.broker.question(session.study_id, question)
    show(title, remarks(said, one, session))
