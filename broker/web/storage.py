"""What is kept in a study: its admin sets quotas, and has a version opened again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from broker.policy import Action
from broker.routes.storage import Number
from broker.web import proving
from broker.web.rendering import page, see_other
from broker.web.study_view import size
from broker.web.visits import PageMay, Visit
from linkage.errors import Conflict, LinkageError
from linkage.storage_messages import QuotaSet

router = APIRouter(prefix="/studies/{study_id}/storage", include_in_schema=False)

Reading = Annotated[Visit, Depends(PageMay(Action.READ_STORAGE))]
Changing = Annotated[Visit, Depends(PageMay(Action.CHANGE_STORAGE))]
_MB = 1_000_000
_MOST_MB = 1_000_000_000

STATES = {
    "receiving": ("is coming", "busy"),
    "complete": ("complete", "good"),
    "quarantined": ("in quarantine", "bad"),
    "abandoned": ("given up for a newer one", "off"),
    "withdrawn": ("taken back", "off"),
    "destroyed": ("deleted by a rule", "off"),
}
"""By state of a dataset version: its word, and the badge's colour."""


@router.get("")
def storage(visit: Reading) -> Response:
    """Show what the study and its parties keep, and what the worker made of the newest versions."""
    return _storage(visit)


@router.post("/quota")
def set_quota(visit: Changing) -> Response:
    """Give the study, or one party, another quota."""
    try:
        asked = QuotaSet(party=visit.text("party"), bytes=_megabytes(visit) * _MB)
        visit.broker.storage.set_quota(visit.grant, asked)
    except (*proving.SAID, ValueError) as refusal:
        return _storage(visit, _said(refusal))
    return see_other(f"/studies/{visit.grant.study.id}/storage", "quota-set")


@router.post("/{uploader}/{dataset}/recheck")
def recheck(visit: Changing, uploader: str, dataset: Number) -> Response:
    """Have the worker open a version again."""
    try:
        visit.broker.uploads.recheck(visit.grant, uploader, dataset)
    except proving.SAID as refusal:
        return _storage(visit, refusal)
    return see_other(f"/studies/{visit.grant.study.id}/storage", "rechecked")


def _storage(visit: Visit, refusal: LinkageError | None = None) -> Response:
    return page(
        visit,
        "storage.html",
        status=422 if refusal else 200,
        state=visit.broker.storage.state(visit.grant_for(Action.READ_STORAGE)),
        states=STATES,
        size=size,
        megabytes=lambda count: count // _MB,
        most=_MOST_MB,
        refusal=refusal,
    )


def _megabytes(visit: Visit) -> int:
    text = visit.text("megabytes")
    if not text.isascii() or not text.isdigit() or int(text) > _MOST_MB:
        raise Conflict("a quota is a whole number of megabytes", hint="0 lets nothing more come")
    return int(text)


def _said(refusal: Exception) -> LinkageError:
    if isinstance(refusal, LinkageError):
        return refusal
    return Conflict("the form is not this page's", hint="load the page again")
