"""Is the broker well? Needs no token, says nothing of any study."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request

from broker.routes.common import Services
from broker.services.oversight import Probe
from broker.services.runs import SOFTWARE
from linkage.errors import Unreachable
from linkage.messages import Message

_REMEDY = "the broker's admin looks at database and disk; docs/operations.md"
router = APIRouter()
_PROBE = "probe"


class Health(Message):
    """status: degraded where the database or every worker is out of reach."""

    status: Literal["ok", "degraded"]
    software: str
    database: bool
    worker: bool


class Live(Message):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(Message):
    """
    The database answers and has this version's tables, packages can be stored, and the disk has its
    reserve. status: "degraded" where no worker was heard of, so that what callers ask for waits.
    """

    status: Literal["ready", "degraded"]
    worker: bool


def probe_of(request: Request) -> Probe:
    """Return what this process knows of its blobs, whoever asks."""
    state = request.app.state
    if not hasattr(state, _PROBE):
        setattr(state, _PROBE, Probe())
    found: Probe = getattr(state, _PROBE)
    return found


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


@router.get("/health/live")
def live() -> Live:
    """Say that the process answers: where it does not, start it again."""
    return Live()


@router.get("/health/ready")
def ready(request: Request, broker: Services) -> Ready:
    """Say whether callers can be served; where not, refuse (503) and say what is missing."""
    found = broker.oversight.readiness(broker.home, broker.blobs, probe_of(request))
    if not found.ready:
        missing = ", ".join(text for text, there in found.reasons() if not there)
        raise Unreachable(f"the broker cannot serve callers: {missing}", hint=_REMEDY)
    return Ready(status="ready" if found.worker else "degraded", worker=found.worker)
