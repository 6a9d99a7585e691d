"""The audit log for admins and auditors, and its signed heads for everyone in a study."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from broker.policy import Action, Grant
from broker.routes.common import May, Services
from broker.services.audit_log import Wanted
from linkage.audit_chain import AuditHead
from linkage.audit_messages import AuditState, FoundEntries

router = APIRouter(prefix="/v1")

Reader = Annotated[Grant, Depends(May(Action.READ_HEADS))]
Auditor = Annotated[Grant, Depends(May(Action.READ_AUDIT))]
After = Annotated[int, Query(ge=0, lt=2**53)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Before = Annotated[int | None, Query(ge=0, le=2**62)]
Text = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
Moment = Annotated[int | None, Query(ge=0, lt=2**53)]


def searched(
    study: Text = "",
    actor: Text = "",
    action: Text = "",
    subject: Text = "",
    since: Moment = None,
    until: Moment = None,
) -> Wanted:
    """Return which entries are looked for. since, until: Unix seconds, before the second."""
    return Wanted(
        study=study, actor=actor, action=action, subject=subject, since=since, until=until
    )


Searched = Annotated[Wanted, Depends(searched)]


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


@router.get("/audit/entries")
def find_entries(
    broker: Services, grant: Auditor, wanted: Searched, before: Before = None, limit: Limit = 100
) -> FoundEntries:
    """Return entries newest first, of a study, actor, action, subject or digest, or time."""
    found = broker.audit_log.page(grant, wanted, before=before, limit=limit)
    return FoundEntries.model_validate(asdict(found))


@router.get("/audit/verification")
def verification(broker: Services, grant: Auditor) -> AuditState:
    """Return whether the newest head fits, and how far a verification of the whole log is."""
    return broker.audit_log.state(grant)


@router.post("/audit/verification", status_code=202)
def verify(broker: Services, grant: Auditor) -> AuditState:
    """Have this server verify the whole log, in pieces, beside its other work."""
    broker.audit_log.verify(grant)
    return broker.audit_log.state(grant)


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
