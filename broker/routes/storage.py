"""What is kept in a study, for the broker's admin: use, quotas, versions to open again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from broker.policy import Action, Grant
from broker.routes.common import May, Services
from linkage.messages import DatasetState
from linkage.storage_messages import QuotaSet, QuotaUsage, StorageState

router = APIRouter(prefix="/v1/studies/{study_id}")

Reading = Annotated[Grant, Depends(May(Action.READ_STORAGE))]
Changing = Annotated[Grant, Depends(May(Action.CHANGE_STORAGE))]
Number = Annotated[int, Path(ge=1, le=1_000_000)]


@router.get("/storage")
def storage(grant: Reading, broker: Services) -> StorageState:
    """Return what the study and its parties keep here, and each uploader's newest versions."""
    return broker.storage.state(grant)


@router.put("/storage/quota")
def set_quota(body: QuotaSet, grant: Changing, broker: Services) -> QuotaUsage:
    """Give the study, or one party, another quota; what is here already stays."""
    return broker.storage.set_quota(grant, body)


@router.post("/datasets/{uploader}/{dataset}/recheck")
def recheck(grant: Changing, broker: Services, uploader: str, dataset: Number) -> DatasetState:
    """Have the worker open a version again; nothing else but a newer one lifts a quarantine."""
    return broker.uploads.recheck(grant, uploader, dataset)
