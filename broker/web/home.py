"""The first page: the visitor's studies, and what each waits for."""

from __future__ import annotations

from fastapi import APIRouter, Response

from broker.web.rendering import page
from broker.web.visits import Anyone

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(visit: Anyone) -> Response:
    """List the studies that the visitor may see."""
    return page(visit, "home.html", studies=visit.broker.studies.seen_by(visit.caller))
