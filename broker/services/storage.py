"""What is kept in a study, for the broker's admin: dataset versions, their use, their quotas."""

from __future__ import annotations

import json
from dataclasses import dataclass

from broker.policy import Grant
from broker.services.quotas import Quotas, Usage
from broker.store import studies
from broker.store.engine import Database
from broker.store.studies import DatasetRow
from linkage.storage_messages import DatasetKept, QuotaSet, QuotaUsage, StorageState

_NEWEST = 5
"""Versions shown of each uploader: whoever needs the others is at the console."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Of READ_STORAGE and CHANGE_STORAGE."""

    database: Database
    quotas: Quotas

    def state(self, grant: Grant) -> StorageState:
        """Return use, quotas and the newest versions of every uploader, newest first."""
        with self.database.read() as connection:
            rows = [
                row
                for uploader in grant.study.config.uploaders
                for row in studies.newest_datasets(connection, grant.study.id, uploader, _NEWEST)
            ]
        return StorageState(
            study_id=grant.study.id,
            usage=[_usage(one) for one in self.quotas.usage(grant)],
            datasets=[_kept(row) for row in rows],
        )

    def set_quota(self, grant: Grant, asked: QuotaSet) -> QuotaUsage:
        """Give the study, or one party, another quota. Raises NotFound for no party of it."""
        return _usage(self.quotas.set(grant, asked.party, asked.bytes))


def _usage(one: Usage) -> QuotaUsage:
    return QuotaUsage.model_validate(
        {
            "party": one.party,
            "datasets": one.datasets,
            "other": one.other,
            "quota": one.quota,
            "set_by_admin": one.set_by_admin,
        }
    )


def _kept(row: DatasetRow) -> DatasetKept:
    return DatasetKept(
        uploader=row.uploader,
        dataset=row.number,
        epoch=row.epoch,
        state=row.state,
        records=json.loads(row.manifest)["records"],
        bytes=row.bytes,
        completed_at=row.completed_at,
        checked_at=row.checked_at,
        quarantine=row.quarantine,
    )
