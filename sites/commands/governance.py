"""`linkage-site confirm, opt-out, certificate`: agree, take out, and see destroyed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from linkage.shown_text import plain
from sites.terminal import DryRun, out, show, told, would

if TYPE_CHECKING:
    from linkage.governance import OptOutState
    from sites.session import Session

_WAIT_SECONDS = 10.0
"""For the broker's worker to read an opt-out list."""

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Yes = Annotated[bool, typer.Option("--yes", help="Confirm without being asked.")]


@told
def confirm(
    site: SiteFile = Path("site.toml"),
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Compare the broker's signed study with yours, show what it says, and agree to it."""
    from sites import confirming
    from sites.session import session_of

    with session_of(site) as session:
        confirming.require_same(session)
        rows = confirming.agreed_to(session.signed.study, session.party)
        rows["release gate"] = session.signed.release_gate
        rows["study hash"] = session.signed.study_hash
        if dry_run or not (yes or _asked(rows, as_json=as_json)):
            rows["to agree"] = "linkage-site confirm --yes"
            would("confirm the signed study", rows, as_json=as_json)
            return
        found = confirming.confirm(session)
    rows["confirmed by"] = ", ".join(p.party for p in found.parties if p.confirmed_at is not None)
    rows["still to confirm"] = ", ".join(found.waiting) or "nobody"
    if found.state == "draft":
        rows["next"] = "wait for the others; linkage-site status says when the study is open"
    else:
        rows["next"] = "the study is open: linkage-site tokenize, linkage-site submit"
    data = {
        "study_hash": session.signed.study_hash,
        "state": found.state,
        "waiting": found.waiting,
    }
    show("Study confirmed", rows, as_json=as_json, data=data)


def _asked(rows: dict[str, object], *, as_json: bool) -> bool:
    """Ask at a terminal whether the party agrees; nobody else can be asked."""
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    for name, value in rows.items():
        out.print(Text(plain(f"  {name}: {value}")))
    return typer.confirm("Does your organisation agree to this?", default=False)


@told
def opt_out(
    file: Annotated[
        Path | None, typer.Argument(help="CSV with one column, record_id.", show_default=False)
    ] = None,
    site: SiteFile = Path("site.toml"),
    lift: Annotated[bool, typer.Option("--lift", help="They are opted out no longer.")] = False,
    look: Annotated[
        bool, typer.Option("--show", help="Show the newest list and what had held its records.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take records out of the linkage at once, whatever dataset version holds them."""
    from linkage.errors import SourceRefused
    from sites import opting_out
    from sites.session import require_tokenizer, session_of
    from sites.withdrawal import read_record_ids

    if (file is None) != look or (look and lift):
        raise SourceRefused(
            file="opt-out",
            rule="needs a list of record ids, or --show alone",
            hint="linkage-site opt-out opted-out.csv",
        )
    with session_of(site, expired_too=True) as session:
        require_tokenizer(session.site, session.signed.study, site)
        if file is None:
            _shown(session, as_json=as_json)
            return
        done = opting_out.change(session.vault, read_record_ids(file), lift=lift, keep=not dry_run)
        rows: dict[str, object] = {
            "record ids in the list": done.named,
            "not so before": done.changed,
            "opted out in all": done.all,
        }
        if dry_run:
            would("lift the opt-out" if lift else "opt out", rows, as_json=as_json)
            return
        sent = opting_out.send(session)
        state = opting_out.answered(session, sent.number, wait_s=_WAIT_SECONDS)
        rows["kept in the private folder"] = opting_out.keep_statement(session.vault, state)
    title = "No longer opted out" if lift else "Opted out"
    _say(title, state, rows, as_json=as_json)


@told
def certificate(
    file: Annotated[
        Path | None,
        typer.Argument(help="A certificate; else it is fetched and kept.", show_default=False),
    ] = None,
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Show and verify the broker's certificate that it has destroyed the study."""
    from sites import destroyed
    from sites.config import load_site
    from sites.session import session_of, trusted_study

    if file is not None:
        _, signed = trusted_study(load_site(site), expired_too=True)
        found = destroyed.read_file(file, signed)
        where = file
    else:
        with session_of(site, expired_too=True) as session:
            if dry_run:
                would("fetch", {"from": session.broker.url}, as_json=as_json)
                return
            found = session.broker.destruction(session.study_id)
            found.check(session.signed)
            where = destroyed.keep(found, session.vault.folder)
    rows = destroyed.rows(found) | {"file": where}
    data = found.model_dump(mode="json")
    show(f"Study {found.study_id} is destroyed", rows, as_json=as_json, data=data)


def _shown(session: Session, *, as_json: bool) -> None:
    sent = session.broker.opt_outs(session.study_id)
    if not sent:
        show("This site has opted nothing out", {}, as_json=as_json, data=[])
        return
    rows: dict[str, object] = {"list": sent[0].number, "records": sent[0].records}
    _say("Opted out", sent[0], rows, as_json=as_json)


def _say(title: str, state: OptOutState, rows: dict[str, object], *, as_json: bool) -> None:
    from sites.opting_out import statement

    show(title, rows, as_json=as_json, data=state.model_dump(mode="json"))
    if not as_json:
        for line in statement(state):
            out.print(Text(plain(line)))
