"""
Releases of a study: for whom, how far, and who still has to consent. A steward's decision here is a
proposal, which the party's own agent signs, or its command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Depends, Query, Response
from pydantic import ValidationError

from broker.policy import Action
from broker.web import proving
from broker.web.rendering import page, see_other
from broker.web.visits import PageMay, Visit
from linkage.errors import Conflict, LinkageError
from linkage.messages import ReleaseRequest
from linkage.proposal_messages import Consent, ProposalRequest, ProposalState
from linkage.release_messages import ReleaseState

router = APIRouter(prefix="/studies/{study_id}/releases", include_in_schema=False)

Reading = Annotated[Visit, Depends(PageMay(Action.READ_RELEASE))]
Affected = Annotated[Visit, Depends(PageMay(Action.READ_AFFECTED))]
Releasing = Annotated[Visit, Depends(PageMay(Action.RELEASE))]
Cancelling = Annotated[Visit, Depends(PageMay(Action.CANCEL_RELEASE))]
Proposing = Annotated[Visit, Depends(PageMay(Action.PROPOSE))]
Number = Annotated[int, Query(alias="page", ge=1, le=10_000)]
_SIZE = 10
_RUNS = 20

STATES: Mapping[str, tuple[str, str]] = {
    "waiting": ("waits for consent", "wait"),
    "queued": ("being made", "busy"),
    "running": ("being made", "busy"),
    "done": ("made", "good"),
    "denied": ("not made", "bad"),
    "failed": ("failed", "bad"),
}
"""By state: its word, and the badge's colour."""


@dataclass(frozen=True, slots=True)
class Shown:
    """
    A release, and what people have proposed about it. mine: the viewer's party has still to decide.
    """

    release: ReleaseState
    word: str
    kind: str
    proposals: tuple[ProposalState, ...]
    mine: bool

    @property
    def on_the_way(self) -> ProposalState | None:
        """The decision that waits for the party's agent."""
        return next((one for one in self.proposals if one.state == "waiting"), None)

    @property
    def refused(self) -> ProposalState | None:
        """The newest decision, where nothing came of it."""
        last = self.proposals[-1] if self.proposals else None
        return last if last and last.state in ("refused", "expired") else None


@router.get("")
def releases(visit: Reading, number: Number = 1) -> Response:
    """List the releases that concern the visitor, newest first."""
    return _releases(visit, number)


@router.get("/affected")
def affected(visit: Affected, number: Number = 1) -> Response:
    """List what was given out and holds records that were withdrawn since, newest first."""
    found, every = visit.broker.releases.affected(visit.grant, number=number, size=_SIZE)
    pages = max(1, -(-every // _SIZE))
    return page(visit, "affected.html", found=found, every=every, number=number, pages=pages)


@router.post("")
def release(visit: Releasing) -> Response:
    """Ask for a release; it waits for consent where the study says so."""
    try:
        visit.broker.releases.ask(visit.grant, _asked(visit))
    except proving.SAID as refusal:
        return _releases(visit, 1, refusal)
    return see_other(f"/studies/{visit.grant.study.id}/releases", "release-asked")


@router.post("/{release_id}/cancel")
def cancel(visit: Cancelling, release_id: str) -> Response:
    """End a release that waits for consent, once its name was typed."""
    try:
        if visit.text("confirm") != release_id:
            raise Conflict("the name that was typed is not the release's", hint="nothing was done")
        visit.broker.consents.cancel(visit.grant, release_id)
    except proving.SAID as refusal:
        return _releases(visit, 1, refusal)
    return see_other(f"/studies/{visit.grant.study.id}/releases", "release-cancelled")


@router.post("/{release_id}/decision")
def decide(visit: Proposing, release_id: str) -> Response:
    """Propose to the steward's own party to consent, or not to."""
    visit.broker.proposals.make(visit.grant, _decision(visit, release_id))
    return see_other(f"/studies/{visit.grant.study.id}/releases", "decision-proposed")


@router.post("/{release_id}/proposals/{proposal_id}/withdraw")
def withdraw(visit: Proposing, release_id: str, proposal_id: str) -> Response:
    """Take a proposed decision of one's own back."""
    visit.broker.proposals.withdraw(visit.grant, proposal_id)
    return see_other(f"/studies/{visit.grant.study.id}/releases", "decision-withdrawn")


def _releases(visit: Visit, number: int, refusal: LinkageError | None = None) -> Response:
    reading = visit.grant_for(Action.READ_RELEASE)
    found, every = visit.broker.releases.page(reading, number=number, size=_SIZE)
    may_release = visit.may(Action.RELEASE)
    return page(
        visit,
        "releases.html",
        status=422 if refusal else 200,
        shown=[_shown(visit, one) for one in found],
        every=every,
        number=number,
        pages=max(1, -(-every // _SIZE)),
        choices=_choices(visit) if may_release else None,
        runs=_done_runs(visit) if may_release else (),
        refusal=refusal,
    )


def _shown(visit: Visit, one: ReleaseState) -> Shown:
    word, kind = STATES[one.state]
    if one.affected:
        word, kind = "not to be used", "bad"
    elif one.state == "done" and not one.current:
        word, kind = "replaced", "off"
    proposals: list[ProposalState] = []
    if one.state == "waiting" and visit.may(Action.READ_PROPOSALS):
        grant = visit.grant_for(Action.READ_PROPOSALS)
        proposals = visit.broker.proposals.about(grant, one.release_id)
    mine = visit.grant.viewer in one.needs and visit.may(Action.PROPOSE)
    return Shown(one, word, kind, tuple(proposals), mine)


def _choices(visit: Visit) -> dict[str, bool]:
    """Return by party that may get IDs whether the study says it does, unless told otherwise."""
    study = visit.grant.study
    enclave = study.config.party_of_kind("enclave")
    usual = study.config.study.release_to or ((enclave.id,) if enclave else ())
    parties = [party.id for party in study.config.party]
    return {one: one in usual for one in parties if study.signed.rehearsal or one in usual}


def _done_runs(visit: Visit) -> list[str]:
    grant = visit.grant_for(Action.READ_RUN)
    found = visit.broker.runs.page(grant, limit=_RUNS)
    return [one.run_id for one in found if one.state == "done"]


def _asked(visit: Visit) -> ReleaseRequest:
    try:
        return ReleaseRequest(
            run_id=visit.text("run"),
            audience=tuple(visit.texts("audience")),
            methods=bool(visit.text("methods")),
        )
    except ValidationError:
        raise Conflict("the form is not this page's", hint="load the page again") from None


def _decision(visit: Visit, release_id: str) -> ProposalRequest:
    """Return the decision that was posted. A denial ends the release, so its name is typed."""
    decision = visit.text("decision")
    if decision == "deny" and visit.text("confirm") != release_id:
        raise Conflict("the name that was typed is not the release's", hint="nothing was done")
    if not visit.grant.viewer:
        raise Conflict("you act for no party of this study", hint="its stewards decide")
    try:
        body = Consent(
            release_id=release_id,
            terms_hash=visit.text("terms"),
            decision=cast(Literal["approve", "deny"], decision),
        )
    except ValidationError:
        raise Conflict("the form is not this release's", hint="load the page again") from None
    return ProposalRequest(party=visit.grant.viewer, body=body)
