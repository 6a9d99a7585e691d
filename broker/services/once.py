"""
Idempotency keys: a POST that is repeated after a lost answer has one effect.

Any POST may bring a key, which is the caller's own. It is claimed for that request before anything
is done; the same key with another address or body is refused. Most requests are the same again by
what they are about: a dataset version, a run over the same inputs, a delivery. Releases and
questions are not, so the key is kept with the job that it made, in the transaction that made it.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import rfc8785

from broker.policy import Caller, Grant
from broker.store import jobs, uploads
from broker.store.engine import Connection, Database
from linkage.errors import RequestReused

KEPT_DAYS = 30
"""How long a key stays claimed; those of releases and questions stay with them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is to have one effect. digest: SHA-256 of its address and body, hex."""

    key: str
    digest: str


def claim(database: Database, caller: Caller, asked: Asked) -> None:
    """Claim a key for a request. Raises RequestReused where it came with another one before."""
    with database.change() as connection:
        now = int(time.time())
        before = uploads.claim_key(connection, caller.actor, asked.key, asked.digest, now)
    if before not in (None, asked.digest):
        raise _reused()


def forget_old(database: Database) -> None:
    """Forget keys that nobody will repeat any more."""
    with database.change() as connection:
        uploads.forget_keys(connection, int(time.time()) - KEPT_DAYS * 86_400)


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
        raise _reused()
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


def _reused() -> RequestReused:
    return RequestReused(
        "this idempotency key came with another request before",
        hint="use a fresh key for a new request",
    )
