"""How the broker does, and what it will delete by itself: for its admin."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from broker.policy import Action, Grant
from broker.routes.common import May, Services
from broker.routes.health import probe_of
from linkage.admin_messages import RetentionClock, SystemState

router = APIRouter(prefix="/v1/system")

Reading = Annotated[Grant, Depends(May(Action.READ_SYSTEM))]


@router.get("")
def system(_: Reading, broker: Services, request: Request) -> SystemState:
    """Say how the broker does: queues, workers, database, blobs, disks, the log's signed head."""
    return broker.system.state(probe_of(request))


@router.get("/retention")
def retention(_: Reading, broker: Services) -> list[RetentionClock]:
    """Say what retention rules will delete, and when; deletes nothing."""
    return broker.retention.clocks()
