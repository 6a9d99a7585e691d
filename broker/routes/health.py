"""Is the broker well? Needs no token, says nothing of any study."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from broker.routes.common import Services
from broker.services.runs import SOFTWARE
from linkage.messages import Message

router = APIRouter()


class Health(Message):
    """status: degraded where the database or every worker is out of reach."""

    status: Literal["ok", "degraded"]
    software: str
    database: bool
    worker: bool


@router.get("/health")
def health(broker: Services) -> Health:
    """Say whether database and worker are there."""
    signs = broker.oversight.vital_signs()
    return Health(
        status="ok" if signs.database and signs.worker else "degraded",
        software=SOFTWARE,
        database=signs.database,
        worker=signs.worker,
    )
