"""
Idempotency keys: a POST that is repeated after a lost answer has one effect.

The key is the caller's; the same key with another request is refused. A run and a delivery
need none: they are the same again by what they are about.
"""

from __future__ import annotations

import hashlib

import rfc8785

from broker.policy import Grant
from broker.store import jobs
from broker.store.engine import Connection
from linkage.errors import RequestReused


def made_before(
    connection: Connection, grant: Grant, key: str | None, row: jobs.JobRow
) -> jobs.JobRow | None:
    """
    Return the job that this key made, None if the key is new or there is none.

    Raises RequestReused where it was another request.
    """
    found = jobs.find_key(connection, grant.caller.actor, key) if key else None
    if found is None:
        return None
    request_hash, job_id = found
    if request_hash != _hash_of(row):
        raise RequestReused(
            "this idempotency key came with another request before",
            hint="use a fresh key for a new request",
        )
    return jobs.find(connection, job_id)


def remember(connection: Connection, grant: Grant, key: str | None, row: jobs.JobRow) -> None:
    """Remember that `key` made this job."""
    if key:
        jobs.add_key(
            connection,
            grant.caller.actor,
            key,
            request_hash=_hash_of(row),
            job_id=row.id,
            now=row.asked_at,
        )


def _hash_of(row: jobs.JobRow) -> str:
    asked = [row.study_id, row.kind, row.run_id, row.request]
    return hashlib.sha256(rfc8785.dumps(asked)).hexdigest()
