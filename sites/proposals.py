"""
What people decided or asked in the broker's portal, carried out here with the party's key.

    for one in waiting(session):
        state, said = carry_out(session, one)

Only for the people and kinds that the site file names in [agent] portal: for them this site trusts
the broker's sign-in, and nothing else of the broker (ADR 31). What is proposed is checked against
what the site computes itself, then signed and sent by the code behind the commands.

Safe to kill anywhere, and done once: what is begun is written down before it is done, with all that
chance has part in; the next process asks the broker whether it was done, and does the very same
again if not. What was settled is only settled again, whatever the broker shows.
"""

from __future__ import annotations

import json
import time
from typing import Any, Literal

from pydantic import ValidationError

from linkage.errors import (
    CohortRefused,
    Conflict,
    KeyRefused,
    LinkageError,
    NotAllowed,
    NotFound,
    PackageRefused,
)
from linkage.proposal_messages import LASTS_DAYS, ProposalSaid, ProposalSettled, ProposalState
from sites.proposed import Begun, found, prepare
from sites.session import Session

REFUSALS = (CohortRefused, Conflict, NotAllowed, NotFound, PackageRefused)
"""Faults of what is proposed, told to its person; any other is this site's, and tried again."""

_DAY = 86_400
_KEPT_DAYS = 90
_MOST_NOTE = 4000

State = Literal["done", "refused", "waits"]


def waiting(session: Session) -> list[ProposalState]:
    """Return what waits for this party's agent, oldest first; nothing without [agent] portal."""
    if not session.site.agent.portal or session.site.contributor:
        return []
    _forget_old(session)
    return session.broker.proposals(session.study_id)


def held(session: Session, one: ProposalState) -> str:
    """
    Return why this site leaves a proposal as it is, "" where it carries it out.

    Raises PackageRefused for what is not this party's at all.
    """
    mine = (session.study_id, session.party)
    if one.body is None or (one.study_id, one.party) != mine or one.body.kind != one.kind:
        raise PackageRefused(
            "the broker shows a proposal that is not for this party",
            hint="tell the broker's admin; nothing was done",
        )
    agent = session.site.agent
    instead = f"; by hand: {one.body.command}" if one.body.command else ""
    if one.person not in agent.portal:
        return f"[agent] portal does not name {one.person!r}{instead}"
    if one.kind not in agent.portal_kinds:
        return f"[agent] portal_kinds does not have {one.kind!r}{instead}"
    if one.made_at > time.time():
        return "it was made later than this machine's clock says; is a clock wrong?"
    return ""


def carry_out(session: Session, one: ProposalState) -> tuple[State, str]:
    """
    Do what is proposed, or refuse it, and tell the broker; return what became of it, in words.

    Raises LinkageError for what is this site's own fault, or the broker's; then it is tried again.
    """
    if why := held(session, one):
        return "waits", why
    begun = _begun(session, one)
    settled = begun.settled if begun else None
    if begun is not None and begun.digest != one.digest:
        settled = _refused(Conflict("it was another proposal when this site first saw it"))
    elif settled is None:
        settled = _settle(session, one, begun)
    elif settled.state == "done":
        # A broker that was restored from a backup may have forgotten that it was begun.
        _begin(session, one)
    try:
        _say(session, one, **settled.model_dump())
    except Conflict as fault:
        if settled.state == "done":
            raise
        return "refused", fault.message
    return settled.state, _words(one, settled)


def _settle(session: Session, one: ProposalState, begun: Begun | None) -> ProposalSettled:
    """Do it, unless it was done; write down and return what became of it."""
    try:
        done = found(session, one, begun) if begun else None
        if done is None:
            # One that this site has begun is not too old, however long it was away.
            if begun is None and time.time() >= one.made_at + LASTS_DAYS * _DAY:
                raise Conflict(f"it is older than {LASTS_DAYS} days", hint="propose it again")
            ready = prepare(session, one, begun)
            _begin(session, one)
            begun = ready.begun
            _keep(session, one, begun)
            done = ready.act()
    except REFUSALS as fault:
        done = _refused(fault)
    if begun is not None:
        _keep(session, one, Begun(begun.digest, begun.request, done))
    return done


def _begin(session: Session, one: ProposalState) -> None:
    """Tell the broker that it is carried out now, so that nobody withdraws it."""
    _say(session, one, state="begun")


def _say(session: Session, one: ProposalState, **what: Any) -> None:
    """Sign and send what becomes of a proposal."""
    about = {"study_id": session.study_id, "proposal_id": one.proposal_id, "party": session.party}
    said = ProposalSaid.model_validate({**about, **what})
    session.broker.say_of_proposal(said.sign(session.identity))


def _sentences(fault: LinkageError) -> str:
    hint = f" {fault.hint[:1].upper()}{fault.hint[1:]}." if fault.hint else ""
    return f"{fault.message}.{hint}"


def _refused(fault: LinkageError) -> ProposalSettled:
    """Return a refusal with its reasons, for whoever proposed it."""
    others = getattr(fault, "others", ())[:9]
    lines = [_sentences(one) for one in (fault, *others)]
    plain = "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
    return ProposalSettled(state="refused", note=plain[:_MOST_NOTE])


def _words(one: ProposalState, settled: ProposalSettled) -> str:
    """Return what became of it, for a log that may travel."""
    did = f"{getattr(one.body, 'decision', one.kind)} {one.about or settled.result}".strip()
    if one.kind == "ask":
        # Its reasons quote the specification; they are for who asked.
        return did if settled.state == "done" else f"{did}; {one.person} reads the reasons"
    return f"{did}: {settled.note}" if settled.note else did


def _name(one: ProposalState) -> str:
    return f"proposals/{one.proposal_id}"


def _begun(session: Session, one: ProposalState) -> Begun | None:
    kept = session.vault.kept(_name(one))
    if kept is None:
        return None
    try:
        content: dict[str, Any] = json.loads(kept)
        settled = content["settled"] and ProposalSettled.model_validate(content["settled"])
        return Begun(content["digest"], content["request"], settled or None)
    except (ValueError, KeyError, TypeError, ValidationError):
        raise KeyRefused(
            "what this site remembers of a proposal cannot be read",
            hint="another version of the software wrote it; decide with the command instead",
        ) from None


def _keep(session: Session, one: ProposalState, begun: Begun) -> None:
    settled = begun.settled.model_dump(mode="json") if begun.settled else None
    content = {"digest": begun.digest, "request": begun.request, "settled": settled}
    session.vault.keep(_name(one), json.dumps(content).encode())


def _forget_old(session: Session) -> None:
    """Forget what is long over: by then it would be too old to be done again."""
    folder = session.vault.folder / "kept" / "proposals"
    for path in folder.glob("[!.]*") if folder.exists() else ():
        if path.stat().st_mtime < time.time() - _KEPT_DAYS * _DAY:
            path.unlink(missing_ok=True)
