"""A study: who takes part and how far each is, what comes next, and what its admin does to it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from broker.policy import Action
from broker.routes.common import Address
from broker.services.agreements import utc_today
from broker.services.lifecycle import require_meant
from broker.web import proving
from broker.web.rendering import page, see_other
from broker.web.study_view import LIVES, StudyView, study_view
from broker.web.visits import PageMay, Visit
from linkage.errors import LinkageError

router = APIRouter(include_in_schema=False)

Reading = Annotated[Visit, Depends(PageMay(Action.READ_STUDY))]
Closing = Annotated[Visit, Depends(PageMay(Action.CLOSE_STUDY))]
Destroying = Annotated[Visit, Depends(PageMay(Action.DESTROY_STUDY))]


@router.get("/studies/{study_id}")
def study(visit: Reading) -> Response:
    """Show a study as this visitor may see it."""
    return _study(visit)


@router.post("/studies/{study_id}/close")
def close(visit: Closing) -> Response:
    """Take nothing new any more."""
    study_id = visit.grant.study.id
    require_meant(study_id, visit.text("confirm"))
    visit.broker.lifecycle.close(visit.caller.actor, study_id)
    return see_other(f"/studies/{study_id}", "study-closed")


@router.post("/studies/{study_id}/reopen")
def reopen(visit: Closing) -> Response:
    """Let a closed study go on where it was."""
    study_id = visit.grant.study.id
    require_meant(study_id, visit.text("confirm"))
    visit.broker.lifecycle.reopen(visit.caller.actor, study_id)
    return see_other(f"/studies/{study_id}", "study-reopened")


@router.post("/studies/{study_id}/destruction")
def destroy(visit: Destroying, address: Address) -> Response:
    """Order the destruction of a closed study; the worker carries it out."""
    study_id = visit.grant.study.id
    try:
        require_meant(study_id, visit.text("confirm"))
        actor = proving.prove(visit, address)
        visit.broker.lifecycle.order_destruction(actor, study_id)
    except proving.SAID as refusal:
        return _study(visit, refusal)
    return see_other(f"/studies/{study_id}", "study-destroyed")


def _study(visit: Visit, refusal: LinkageError | None = None) -> Response:
    view = study_view(visit, utc_today())
    return page(
        visit,
        "study.html",
        status=422 if refusal else 200,
        view=view,
        lives=LIVES,
        now=_position(view),
        asked=proving.asked(visit) if visit.caller.is_admin else None,
        proof=_certificate(visit, view),
        refusal=refusal,
    )


def _position(view: StudyView) -> int:
    return next((at for at, (key, _, _) in enumerate(LIVES) if key == view.state.state), 0)


def _certificate(visit: Visit, view: StudyView) -> object:
    return visit.broker.lifecycle.certificate(visit.grant.study.id) if view.certificate else None
