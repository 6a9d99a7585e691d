"""`linkage-site release`: releases of cross-commons IDs, a steward's consent, pins."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sites.terminal import DryRun, show, told, would

if TYPE_CHECKING:
    from linkage.release_messages import ReleaseState
    from sites.session import Session

app = typer.Typer(
    no_args_is_help=True, help="Releases of cross-commons IDs: list, consent to, pin."
)
SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
Release = Annotated[str, typer.Argument(help="The release's ID.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
@told
def list_(
    site: SiteFile = Path("site.toml"), dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """List the releases that give this party IDs, or wait for its steward."""
    from sites.releases import own
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            would("ask", {"broker": session.broker.url, "as": session.party}, as_json=as_json)
            return
        found = own(session)
        party = session.party
    rows: dict[str, object] = {one.release_id: _line(one, party) for one in found}
    data = [one.model_dump(mode="json") for one in found]
    show("Releases" if found else "No release yet", rows, as_json=as_json, data=data)


@app.command("show")
@told
def show_(
    release: Release,
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Show a release: for whom, how good the linkage is, who consented, whether it may be used."""
    from sites.releases import shown
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            would("ask", {"broker": session.broker.url, "release": release}, as_json=as_json)
            return
        state = shown(session, release)
        rows = _described(state, session)
    show(release, rows, as_json=as_json, data=state.model_dump(mode="json"))


@app.command()
@told
def approve(
    release: Release,
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Steward: consent to a release, signed with this party's key."""
    _decide(release, site, approved=True, dry_run=dry_run, as_json=as_json)


@app.command()
@told
def deny(
    release: Release,
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Steward: refuse a release; that ends it."""
    _decide(release, site, approved=False, dry_run=dry_run, as_json=as_json)


@app.command()
@told
def pin(
    release: Release,
    name: Annotated[str, typer.Option("--for", help="What uses it, such as a cohort's id.")],
    site: SiteFile = Path("site.toml"),
    off: Annotated[bool, typer.Option("--off", help="It uses it no longer.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Tell the broker what here uses a release, so that its admin can warn you."""
    from sites import releases
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            what = "take the pin off" if off else "pin"
            would(what, {"release": release, "for": name}, as_json=as_json)
            return
        state = releases.pin(session, release, name, holds=not off)
        party = session.party
    rows: dict[str, object] = {"pins": ", ".join(state.pins.get(party, ())) or "none"}
    show(f"{release} is {'no longer ' if off else ''}pinned for {name}", rows, as_json=as_json)


def _decide(release: str, site: Path, *, approved: bool, dry_run: bool, as_json: bool) -> None:
    from sites.releases import decide, shown
    from sites.session import session_of

    with session_of(site) as session:
        if dry_run:
            rows = _described(shown(session, release), session)
            would("approve" if approved else "deny", rows, as_json=as_json)
            return
        state = decide(session, release, "approve" if approved else "deny")
        rows = _described(state, session)
    title = f"{release}: {'approved' if approved else 'denied'}"
    show(title, rows, as_json=as_json, data=state.model_dump(mode="json"))


def _line(one: ReleaseState, party: str) -> str:
    to = f"to {', '.join(one.terms.audience)}"
    if one.needs:
        you = " (YOU: linkage-site release show, then approve or deny)" * (party in one.needs)
        return f"{to}; waits for {', '.join(one.needs)}{you}"
    if one.state != "done":
        return f"{to}; {one.state}"
    return f"number {one.number} {to}; {_standing(one)}"


def _standing(one: ReleaseState) -> str:
    newer = f"take {one.newest}" if one.newest else "ask the broker's admin for a new one"
    if one.affected:
        return f"AFFECTED by withdrawals, used no more: {newer}"
    if one.checking:
        return "being checked for withdrawals, try again in a minute"
    return "current" if one.current else f"superseded: {newer}"


_ASK = "told to the enclave and the broker's admin only: ask them"


def _described(one: ReleaseState, session: Session) -> dict[str, object]:
    terms, party = one.terms, session.party
    enclave = session.signed.study.party_of_kind("enclave")
    rows: dict[str, object] = {
        "IDs go to": ", ".join(terms.audience),
        "so that": _consequence(one, enclave.id if enclave else ""),
        "your records in it": f"{one.records.get(party, 0):,}",
        "how IDs were linked": "told to the enclave" if terms.methods else "not told",
        "estimated precision": one.precision or _ASK,
        "estimated recall": one.recall or _ASK,
        "run": terms.run_id,
        "last day": terms.expires or "none",
        "asked": f"{dt.datetime.fromtimestamp(one.asked_at, dt.UTC):%Y-%m-%d %H:%M} UTC",
        "decisions": ", ".join(f"{p}: {c.decision}" for p, c in one.consents.items())
        or ("none yet" if one.needs else "none needed"),
        "waits for": ", ".join(one.needs) or "nobody",
        "state": _standing(one) if one.state == "done" else one.state,
    }
    if gone := one.withdrawn.get(party):
        rows["your records withdrawn since"] = f"{gone:,}"
    if one.pins.get(party):
        rows["pinned for"] = ", ".join(one.pins[party])
    if one.failure:
        rows["failure"] = one.failure
    return rows


def _consequence(one: ReleaseState, enclave: str) -> str:
    audience = one.terms.audience
    if one.terms.methods:
        return f"{enclave} learns which of its persons are linked at all, and on what evidence"
    if len(audience) == 1:
        return f"{audience[0]} can name persons without its record ids; it alone has these IDs"
    return "any two of these that put their lists side by side learn which persons they share"
