"""The keys of a study's parties and contributors, for the broker's admin, who may suspend one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from broker.policy import Action
from broker.routes.common import Address
from broker.services.access import require_reason
from broker.web import proving
from broker.web.rendering import page, see_other
from broker.web.visits import PageMay, Visit
from linkage.errors import Conflict, LinkageError

router = APIRouter(prefix="/studies/{study_id}/keys", include_in_schema=False)

Reading = Annotated[Visit, Depends(PageMay(Action.READ_ACCESS))]
Changing = Annotated[Visit, Depends(PageMay(Action.CHANGE_ACCESS))]


@router.get("")
def keys(visit: Reading) -> Response:
    """Show the fingerprint of every key, and whose access is suspended."""
    return _keys(visit)


@router.post("/{actor}/suspend")
def suspend(visit: Changing, actor: str, address: Address) -> Response:
    """End a site's tokens now, and give it no others."""
    study_id, reason = visit.grant.study.id, visit.text("reason")
    try:
        _require_meant(visit, actor, reason)
        by = proving.prove(visit, address)
        visit.broker.access.suspend(study_id, actor, reason, by=by)
    except proving.SAID as refusal:
        return _keys(visit, refusal, actor)
    return see_other(f"/studies/{study_id}/keys", "access-suspended")


@router.post("/{actor}/restore")
def restore(visit: Changing, actor: str, address: Address) -> Response:
    """Let a site sign in again, with the key that the study pins now."""
    study_id = visit.grant.study.id
    try:
        visit.broker.access.restore(study_id, actor, by=proving.prove(visit, address))
    except proving.SAID as refusal:
        return _keys(visit, refusal, actor)
    return see_other(f"/studies/{study_id}/keys", "access-restored")


def _require_meant(visit: Visit, actor: str, reason: str) -> None:
    """Raises what is wrong with the form, before a code is used up for it."""
    if visit.text("confirm") != actor:
        raise Conflict("the name that was typed is another one", hint="nothing was done")
    visit.broker.access.one(visit.grant, actor)
    require_reason(reason)


def _keys(visit: Visit, refusal: LinkageError | None = None, actor: str = "") -> Response:
    """Show the keys. actor: whose form was refused; it stays open, with the reason as typed."""
    return page(
        visit,
        "study_keys.html",
        status=422 if refusal else 200,
        states=visit.broker.access.of_study(visit.grant),
        asked=proving.asked(visit),
        refusal=refusal,
        tried=actor,
        reason=visit.text("reason"),
    )
