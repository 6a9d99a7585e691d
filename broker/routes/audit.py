"""The audit log for admins and auditors, and its signed heads for everyone in a study."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from broker.policy import Action, Grant
from broker.routes.common import May, Services
from linkage.audit_chain import AuditHead

router = APIRouter(prefix="/v1")

Reader = Annotated[Grant, Depends(May(Action.READ_HEADS))]
Auditor = Annotated[Grant, Depends(May(Action.READ_AUDIT))]
After = Annotated[int, Query(ge=0, lt=2**53)]
Limit = Annotated[int, Query(ge=1, le=1000)]


class Export(StreamingResponse):
    """JSON lines."""

    media_type = "application/x-ndjson"


@router.get("/audit")
def audit_log(
    broker: Services,
    grant: Auditor,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """Return entries after a number, oldest first, each with its hash."""
    rows = broker.oversight.audit_page(after=after, limit=limit)
    return [json.loads(row.entry) | {"hash": row.hash} for row in rows]


@router.get("/audit/export", response_class=Export)
def export(broker: Services, grant: Auditor) -> Export:
    """Return the whole log with its heads, a file for `linkage audit verify`."""
    return Export(broker.heads.export(broker.home.public()))


@router.get("/audit/heads")
def all_heads(
    broker: Services, grant: Auditor, after: After = 0, limit: Limit = 1000
) -> list[AuditHead]:
    """Return the log's signed heads after a sequence number, oldest first."""
    return broker.heads.page(after=after, limit=limit)


@router.post("/audit/heads", status_code=202, response_class=Response)
def wish_any_head(broker: Services, grant: Auditor) -> Response:
    """Have a head signed now; a worker does so within about a second."""
    broker.heads.wish(grant.caller.actor)
    return Response(status_code=202)


@router.get("/studies/{study_id}/heads")
def heads(
    broker: Services, grant: Reader, after: After = 0, limit: Limit = 1000
) -> list[AuditHead]:
    """Return the log's signed heads after a sequence number, oldest first."""
    return broker.heads.page(after=after, limit=limit)


@router.post("/studies/{study_id}/heads", status_code=202, response_class=Response)
def wish_head(broker: Services, grant: Reader) -> Response:
    """Have a head signed now; a worker does so within about a second."""
    broker.heads.wish(grant.caller.actor)
    return Response(status_code=202)
