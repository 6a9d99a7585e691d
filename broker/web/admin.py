"""The broker itself, for its admin: how it does, what it deletes by itself, what was destroyed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from broker.policy import Action
from broker.routes.health import probe_of
from broker.web.rendering import page
from broker.web.study_view import CLOCKS, size
from broker.web.visits import PageMay, Visit
from linkage.sealing import PublicIdentity

router = APIRouter(prefix="/admin", include_in_schema=False)

Reading = Annotated[Visit, Depends(PageMay(Action.READ_SYSTEM))]

WAITS = {
    "run": ("linkage run", "linkage runs"),
    "job": ("release, question or delivery", "releases, questions and deliveries"),
    "second look": ("second look, for a site", "second looks, for sites"),
}
"""Kinds of what waits, in words."""
PLACES = {"blobs": "sealed packages", "database": "the database"}


@router.get("")
def system(visit: Reading) -> Response:
    """Show how the broker does; the part renews itself where scripts run."""
    state = visit.broker.system.state(probe_of(visit.request))
    return page(visit, "admin.html", state=state, size=size, waits=WAITS, places=PLACES)


@router.get("/retention")
def retention(visit: Reading) -> Response:
    """Show what rules will delete, and the studies that were destroyed."""
    broker = visit.broker
    return page(
        visit,
        "admin_retention.html",
        rules=broker.home.config.retention,
        clocks=broker.retention.clocks(),
        words={name: (what, when) for name, what, when in CLOCKS},
        destructions=broker.overviews.destructions(),
    )


@router.get("/keys")
def keys(visit: Reading) -> Response:
    """Show the keys of admins, whose access is suspended, and where the keys of sites are."""
    broker = visit.broker
    return page(
        visit,
        "admin_keys.html",
        own=broker.home.public().fingerprint,
        admins=[(one, _fingerprint(one.public_identity)) for one in broker.admins.all()],
        suspended=broker.access.all(),
        studies=broker.studies.seen_by(visit.caller),
    )


def _fingerprint(public_identity: str) -> str:
    return PublicIdentity.model_validate_json(public_identity).fingerprint
