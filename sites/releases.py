"""
Releases as a site sees them: a steward's decision, and whether one may be used.

    decide(session, release_id, "approve")
    state = usable(session, release_id, pinned=False)

What a steward signs is the hash of the terms that this site was shown, computed here. Whoever takes
a release that needed consent checks everybody's signature, so a broker can show the one terms and
carry out others only where nobody looks.
"""

from __future__ import annotations

from typing import Literal

from linkage.errors import Conflict, LinkageError, NotFound, PackageRefused
from linkage.release_messages import ReleaseConsent, ReleasePin, ReleaseState, ReleaseTerms
from sites.session import Session


def decide(session: Session, release_id: str, decision: Literal["approve", "deny"]) -> ReleaseState:
    """Send this party's signed decision about a release; return how it then stands."""
    state = shown(session, release_id)
    return session.broker.consent(consent_of(session, state, decision))


def consent_of(
    session: Session, state: ReleaseState, decision: Literal["approve", "deny"]
) -> ReleaseConsent:
    """Return this party's signed decision about a release as it was shown."""
    consent = ReleaseConsent(
        study_id=session.study_id,
        release_id=state.release_id,
        terms_hash=state.terms.hash,
        party=session.party,
        decision=decision,
    )
    return consent.sign(session.identity)


def shown(session: Session, release_id: str) -> ReleaseState:
    """
    Return a release. Raises NotFound, and PackageRefused where the broker answers about another
    one or goes beyond what the custodian signed.
    """
    return _checked(session, session.broker.release(session.study_id, release_id), release_id)


def own(session: Session) -> list[ReleaseState]:
    """Return the releases that give this party IDs or need its consent, newest first."""
    return session.broker.releases(session.study_id)


def usable(session: Session, release_id: str = "", *, pinned: bool = False) -> ReleaseState:
    """
    Return the release to fetch: the one named, else the newest that gives this party IDs.

    Raises NotFound where there is none, Conflict for one that is not made, is superseded (unless
    `pinned`), or of which records were withdrawn since; PackageRefused where a steward's consent is
    missing or not signed by that party.
    """
    if release_id:
        state = shown(session, release_id)
    else:
        made = [
            one
            for one in own(session)
            if one.state == "done" and session.party in one.terms.audience
        ]
        if not made:
            raise NotFound(f"no IDs are released yet for {session.party!r}", hint=_when(session))
        newest = max(made, key=lambda one: (one.made_at or 0, one.number or 0))
        state = _checked(session, newest, newest.release_id)
    name = state.release_id
    if session.party not in state.terms.audience:
        raise NotFound(
            f"{name} gives {session.party!r} no IDs",
            hint="`linkage-site release list` shows those that do",
        )
    if state.state != "done":
        waits = f", for: {', '.join(state.needs)}" if state.needs else ""
        raise Conflict(
            f"{name} is {state.state}{waits}; there are no IDs", hint="try later, or ask the admin"
        )
    newer = f"take {state.newest}" if state.newest else "ask the broker's admin for a new release"
    if state.affected:
        raise Conflict(
            f"records of {name} were withdrawn since it was made; it is used no more", hint=newer
        )
    if state.checking:
        raise Conflict(
            f"the broker is looking whether records of {name} were withdrawn",
            hint="try again in a minute",
        )
    if not state.current and not pinned:
        raise Conflict(
            f"{name} was superseded by a newer release",
            hint=f"{newer}; or, for what was begun with this one, add --pinned",
        )
    require_consents(session, state)
    return state


def _when(session: Session) -> str:
    """Say what the newest release of IDs for this party waits for, where one was asked for."""
    asked = [one for one in own(session) if session.party in one.terms.audience and one.needs]
    if not asked:
        return "ask the broker admin whether they were prepared for this party, or try later"
    newest = max(asked, key=lambda one: one.asked_at)
    return (
        f"{newest.release_id} waits for the stewards of {', '.join(newest.needs)}:"
        " linkage-site release list"
    )


def waiting_rows(session: Session) -> dict[str, str]:
    """Return what to tell a party whose steward has to decide; contributors are never asked."""
    if session.site.contributor:
        return {}
    found = [one for one in own(session) if session.party in one.needs]
    if not found:
        return {}
    wait = "release waits" if len(found) == 1 else "releases wait"
    return {"YOUR STEWARD": f"{len(found)} {wait}: linkage-site release list"}


def pin(session: Session, release_id: str, name: str, *, holds: bool) -> ReleaseState:
    """Tell the broker what here uses a release, or no longer does."""
    return session.broker.pin(session.study_id, release_id, ReleasePin(name=name, holds=holds))


def needs_consent(session: Session, terms: ReleaseTerms) -> bool:
    """Must every steward have agreed? As the signed study says, not as the broker does."""
    enclave = session.signed.study.party_of_kind("enclave")
    alone = enclave is not None and terms.audience == (enclave.id,)
    return not session.signed.rehearsal and (terms.methods or not alone)


def require_consents(session: Session, state: ReleaseState) -> None:
    """Raises PackageRefused unless every party of the study signed its consent to these terms."""
    if not needs_consent(session, state.terms):
        return
    missing = []
    for party in session.signed.study.party:
        consent = state.consents.get(party.id)
        try:
            if consent is None:
                raise PackageRefused("none")
            consent.verify(session.signed.pin(party.id))
            told = (consent.study_id, consent.release_id, consent.terms_hash, consent.party)
            if told != (session.study_id, state.release_id, state.terms.hash, party.id):
                raise PackageRefused("of something else")
            if consent.decision != "approve":
                raise PackageRefused("a denial")
        except LinkageError:
            missing.append(party.id)
    if missing:
        raise PackageRefused(
            f"{state.release_id} came without the signed consent of: {', '.join(missing)}",
            hint="do not use it; ask the broker's admin, and tell these parties' stewards",
        )


def _checked(session: Session, state: ReleaseState, release_id: str) -> ReleaseState:
    terms, header = state.terms, session.signed.study.study
    enclave = session.signed.study.party_of_kind("enclave")
    alone = {enclave.id} if enclave else set()
    everyone = {party.id for party in session.signed.study.party}
    may = everyone if session.signed.rehearsal else set(header.release_to) or alone
    if (terms.study_id, terms.release_id, state.release_id) != (
        session.study_id,
        release_id,
        release_id,
    ):
        raise PackageRefused(
            "the broker answered about another release", hint="try again; tell its admin"
        )
    if beyond := sorted(set(terms.audience) - may):
        raise PackageRefused(
            f"{release_id} is for {', '.join(beyond)}, to whom the signed study does not release",
            hint="take the newest signed study from the custodian; else tell all stewards",
        )
    return state
